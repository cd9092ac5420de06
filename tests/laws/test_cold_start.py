"""What a process imports before the first token of the embedded model: nothing that nobody has asked for.

A new import is not forbidden. Whoever adds one lists it here, after measuring what it adds to the first token
(`tests/benchmarks/test_cold_start.py`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest

PACKAGES = frozenset(
    {
        *("workbench", "torch", "torchgen", "tqdm", "numpy", "numba", "llvmlite", "tokenizers", "safetensors"),
        *("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"),
        *("yaml", "psutil", "platformdirs", "PIL", "cython_runtime"),
        *("scipy", "coverage", "colorama"),  # numba looks for them, and uses the first for its version alone
    }
)
"""Packages beyond the standard library that a first completion may import."""

HEAVY = frozenset(
    {
        *("torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.fx.experimental.symbolic_shapes"),
        *(
            "scipy.linalg",
            "numpy.f2py",
            "numpy.testing",
            "numba.np.arraymath",
            "numba.np.linalg",
            "numba.cpython.unicode",
        ),
        *("workbench.server", "workbench.widgets", "workbench.benchmarks", "workbench.engine.embeddings"),
        *("workbench.engine.sentence_pipeline", "workbench.engine.grammar_endings", "workbench.engine.grammar_tokens"),
        *("workbench.engine.quantization", "workbench.engine.text_classifier", "workbench.prompts.template_program"),
    }
)
"""Modules of these packages that cost a tenth of a second each, or belong to something else."""

PROBE = """
import json, sys

importers = {}

class Watch:
    def find_spec(self, name, path=None, target=None):
        frame, found = sys._getframe(1), []
        while frame is not None:
            module = frame.f_globals.get("__name__", "?")
            if "importlib" not in module and module != __name__ and module not in found:
                found.append(module)
            frame = frame.f_back
        importers[name] = found[:4]

sys.meta_path.insert(0, Watch())
from workbench.cli import main

code = main(["complete", "Hi", "--max-tokens", "1"])
print(json.dumps({"code": code, "modules": {name: importers.get(name, []) for name in sorted(sys.modules)}}))
"""


@cache
def modules_of_a_first_completion() -> dict[str, list[str]]:
    """Return which modules a process has imported after its first completion, each with those who imported it."""
    for _ in range(2):  # the first process may be the first one ever, which compiles kernels and packs weights
        shown = subprocess.run([sys.executable, "-c", PROBE], check=True, capture_output=True, text=True).stdout
        outcome = json.loads(shown.splitlines()[-1])
        assert outcome["code"] == 0
        if "transformers" not in outcome["modules"]:
            break
    found: dict[str, list[str]] = outcome["modules"]
    return found


def explained(modules: dict[str, list[str]], names: set[str]) -> str:
    return "\n".join(f"{name}, imported by {' < '.join(modules[name]) or '?'}" for name in sorted(names))


@pytest.mark.usefixtures("smollm2_path")
def test_a_first_completion_imports_no_package_that_is_not_listed() -> None:
    modules = modules_of_a_first_completion()
    packages = {name.partition(".")[0] for name in modules}
    new = packages - PACKAGES - sys.stdlib_module_names
    own = {name for name in new if not name.startswith("_")}
    assert not own, explained(modules, own)


@pytest.mark.usefixtures("smollm2_path")
def test_a_first_completion_imports_no_heavy_part_of_a_package() -> None:
    modules = modules_of_a_first_completion()
    found = HEAVY & modules.keys()
    assert not found, explained(modules, set(found))


def test_version_and_help_import_neither_torch_nor_numpy_nor_pydantic() -> None:
    code = """
import contextlib, io, sys
from workbench.cli import main
for option in ("--version", "--help"):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main([option])
print(sorted({"torch", "numpy", "numba", "pydantic", "yaml", "PIL", "asyncio"} & sys.modules.keys()))
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown == "[]\n"
