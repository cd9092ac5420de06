from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import workbench
from workbench import protocol
from workbench.errors import WorkbenchError

SOURCE = Path(workbench.__file__)

# Machinery of the protocol package, which callers of the workbench have no use for.
NOT_FOR_CALLERS = {
    "Addition",
    "CommonDef",
    "ConfigModel",
    "EffectiveSampling",
    "MemoryBanksProtocolPrivate",
    "ModelsProtocolPrivate",
    "ProtocolModel",
    "Route",
    "ShieldsProtocolPrivate",
    "WebMethod",
}


def run_python(code: str) -> str:
    """Standard output of a fresh interpreter, so that what this process has loaded does not count."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("name", workbench.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(workbench, name) is not None


def test_a_renamed_name_works_and_names_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match=r"workbench\.Conversed is now workbench\.ConversationResult"):
        assert workbench.Conversed is workbench.ConversationResult  # type: ignore[attr-defined]


def test_type_checkers_see_exactly_the_public_names() -> None:
    imports = [
        node
        for statement in ast.walk(ast.parse(SOURCE.read_text(encoding="utf-8")))
        if isinstance(statement, ast.If)
        for node in statement.body
        if isinstance(node, ast.ImportFrom)
    ]
    imported = {alias.asname or alias.name for node in imports for alias in node.names} - {"*"}
    whole = [import_module(str(node.module)) for node in imports if node.names[0].name == "*"]
    found = {name for name in workbench.__all__ if any(hasattr(module, name) for module in whole)}
    assert not imported & found
    assert imported | found | {"__version__"} == set(workbench.__all__)


def test_every_type_of_the_protocol_is_public() -> None:
    types = {name for name in protocol.__all__ if name[0].isupper() and not (name.isupper() and name != "URL")}
    assert types - NOT_FOR_CALLERS <= set(workbench.__all__)


def test_every_error_is_public() -> None:
    def below(error: type[WorkbenchError]) -> set[str]:
        return {error.__name__}.union(*(below(child) for child in error.__subclasses__()))

    defined = {name for name in below(WorkbenchError) if hasattr(workbench.errors, name)}
    assert defined <= set(workbench.__all__)


def test_dir_lists_the_public_names() -> None:
    assert set(workbench.__all__) <= set(dir(workbench))


def test_another_name_is_an_attribute_error_that_says_which() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = workbench.no_such_name  # type: ignore[attr-defined]


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = json.loads(run_python("import workbench, sys, json; print(json.dumps(sorted(sys.modules)))"))
    assert not {"torch", "transformers", "pandas", "pydantic", "IPython", "ipywidgets"} & set(loaded)


def test_the_protocol_and_the_catalog_load_neither_torch_nor_transformers_nor_pandas() -> None:
    code = "import workbench, sys, json; workbench.SamplingParams, workbench.catalog, workbench.TokenRecord"
    loaded = json.loads(run_python(f"{code}; print(json.dumps(sorted(sys.modules)))"))
    assert not {"torch", "transformers", "pandas"} & set(loaded)


def test_importing_the_package_takes_less_than_three_tenths_of_a_second() -> None:
    # Of the processor's time: what other programs do meanwhile says nothing about the import.
    code = "import time; start = time.process_time(); import workbench; print(time.process_time() - start)"
    assert float(run_python(code)) < 0.3


def test_help_of_the_command_line_loads_neither_torch_nor_the_protocol() -> None:
    code = """
import contextlib, io, json, sys
from workbench.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["complete", "--help"])
print(json.dumps(sorted(sys.modules)))
"""
    loaded = json.loads(run_python(code))
    assert not {"torch", "transformers", "pandas", "pydantic"} & set(loaded)
