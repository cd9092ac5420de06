"""Starting JupyterLab on the workbench's notebooks, with nothing written to the user's own Jupyter settings."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from workbench.errors import WorkbenchError

NOTES = """
In a clone the notebooks themselves are opened: what you save shows in git. Elsewhere they are copied
into ./notebooks first, unless they are there. Everything after -- goes to JupyterLab.
"""

_CLONE = Path(__file__).parents[2]
_DISTRIBUTION = "inference-workbench"
_SHIPPED = PurePosixPath("share/inference-workbench/notebooks")
_FIRST_NOTEBOOK = "00_playground.ipynb"

# Defaults of JupyterLab's settings, which the user's own settings override: the news prompt is off, nothing else.
_CONFIG = Path(__file__).with_name("jupyter_config")


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--no-browser``, ``--port`` and whatever stands after ``--``."""
    parser.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    parser.add_argument("--port", type=int, help="port on this machine (default: 8888, or the next free one)")
    parser.add_argument("lab_options", nargs="*", metavar="-- OPTION", help="options of JupyterLab itself")


def start_lab(
    args: argparse.Namespace,
    *,
    notebook: str | None,
    root: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Become JupyterLab; returns only when it cannot be started.

    Args:
        notebook: a file in notebooks/ to open; None shows the folder.
        root: the folder that has notebooks/; None takes `notebooks_root`.
        environment: variables for the kernels, besides those of this process.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise WorkbenchError("JupyterLab is not installed: pip install 'inference-workbench[lab]'")
    command = lab_command(args, root or notebooks_root(), notebook)
    sys.stdout.flush()
    replace_process(command, {**lab_environment(), **(environment or {})})
    return 0


def lab_command(args: argparse.Namespace, root: Path, notebook: str | None) -> list[str]:
    """The command line of JupyterLab that serves ``root`` and opens the notebook, or the folder of them all."""
    from workbench.stack.registrations import state_dir

    page = f"/lab/tree/notebooks/{notebook}" if notebook else "/lab/tree/notebooks"
    command = [
        *(sys.executable, "-m", "jupyterlab"),
        f"--ServerApp.root_dir={root}",
        f"--LabApp.default_url={page}",
        # Another project's open tabs are not ours to restore, nor ours to overwrite.
        f"--LabApp.workspaces_dir={state_dir() / 'jupyterlab-workspaces'}",
    ]
    if args.no_browser:
        command.append("--no-browser")
    if args.port is not None:
        command.append(f"--port={args.port}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container there is nobody else
    return command + list(args.lab_options)


def lab_environment() -> dict[str, str]:
    """This process's environment with our defaults on Jupyter's configuration path."""
    paths = [os.environ.get("JUPYTER_CONFIG_PATH", ""), str(_CONFIG)]
    return {**os.environ, "JUPYTER_CONFIG_PATH": os.pathsep.join(path for path in paths if path)}


def replace_process(command: list[str], environment: dict[str, str]) -> None:
    """Exec, so that Ctrl+C and signals reach JupyterLab alone; tests put a recorder in this function's place."""
    os.execve(command[0], command, environment)  # noqa: S606 (no shell is wanted)


def notebooks_root() -> Path:
    """The folder whose ``notebooks`` are opened: the clone, or the current one with a copy of what was shipped."""
    if (_CLONE / "notebooks" / _FIRST_NOTEBOOK).is_file():
        return _CLONE
    target = Path.cwd() / "notebooks"
    if not (target / _FIRST_NOTEBOOK).exists():
        shutil.copytree(_shipped_notebooks(), target, dirs_exist_ok=True)
        print(f"Copied the notebooks to {target}", file=sys.stderr)
    return target.parent


def _shipped_notebooks() -> Path:
    try:
        files = importlib.metadata.files(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == _FIRST_NOTEBOOK and _SHIPPED.parts == file.parts[-4:-1]:
            return Path(str(file.locate())).resolve().parent
    raise WorkbenchError(
        "the workbench's notebooks are neither beside the package nor installed with it:"
        " run this in a clone of the repository, or install the distribution's wheel"
    )
