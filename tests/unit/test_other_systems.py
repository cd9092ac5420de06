"""What looks at the system works where POSIX's modules, functions and signals are missing.

``tests/other_system`` says what is hidden. This runs a part of the unit tests so, `make test` being long enough; all of
them: ``SIMULATED_SYSTEM=win32 PYTHONPATH=tests/other_system pytest tests/unit``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "tests" / "unit"

IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
TEST_AND_IMPORT = f"""
import sys, pytest
code = pytest.main(sys.argv[sys.argv.index("--") + 1 :])
del sys.argv[sys.argv.index("--") :]
{IMPORT}
sys.exit(code)
"""
CHOSEN = (
    "test_child_processes.py",
    "test_interrupts.py",
    "test_machine.py",
    "commands/test_jupyter.py",
    "commands/test_serve.py::test_it_says_where_it_serves_wants_its_token_and_stops_by_a_signal",
    "engine/test_constraints.py::test_a_trial_speaks_of_crashes_alone",
    "engine/test_yielding.py",
    "prompts/test_template_process.py::test_the_limit_that_was_hit_is_named",
    "prompts/test_template_process.py::test_it_ends_with_the_process_that_started_it",
    "urls/test_files.py",
)


def as_on(system: str, *arguments: str) -> str:
    """What Python prints with these arguments where the workbench sees another system."""
    paths = os.pathsep.join([str(ROOT / "tests" / "other_system"), str(ROOT)])
    environment = {**os.environ, "SIMULATED_SYSTEM": system, "PYTHONPATH": paths}
    for name in [name for name in environment if name.startswith(("PYTEST_", "COV_"))]:
        del environment[name]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def modules() -> dict[str, str]:
    """The source of each module of the workbench, by its name."""
    files = (ROOT / "workbench").rglob("*.py")
    paths = [path for path in files if path.name not in {"__main__.py", "jupyter_server_config.py"}]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return {name: path.read_text(encoding="utf-8") for name, path in zip(names, paths, strict=True)}


@pytest.mark.server  # one of the tests starts one
def test_on_windows_a_part_of_the_unit_tests_passes_and_every_module_can_be_imported() -> None:
    tests = [str(UNIT / name) for name in CHOSEN]
    assert " passed" in as_on("win32", "-c", TEST_AND_IMPORT, *modules(), "--", "-q", "-p", "no:cacheprovider", *tests)


def test_on_macos_every_module_that_asks_for_the_system_can_be_imported() -> None:
    asking = [name for name, source in modules().items() if "sys.platform" in source]
    assert len(asking) > 5
    as_on("darwin", "-c", IMPORT, *asking)


def test_what_is_missing_is_hidden_from_the_workbench_alone() -> None:
    program = """
import os, signal, sys, resource
from workbench import child_processes as ours
print(sys.platform, ours.sys.platform, hasattr(os, "fork"), hasattr(ours.signal, "SIGKILL"), ours.LIMITS_ARE_ENFORCED)
"""
    assert as_on("win32", "-c", program) == f"{sys.platform} win32 {hasattr(os, 'fork')} False False\n"
