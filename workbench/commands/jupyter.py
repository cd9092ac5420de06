"""Start of JupyterLab with the workbench's notebooks; the user's own Jupyter settings are not changed."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from workbench.commands import opening
from workbench.devices import DEVICE_VARIABLE
from workbench.errors import InvalidRequestError, WorkbenchError
from workbench.paths import typed_path

NOTES = """
In a clone of the repository, JupyterLab opens the notebooks themselves, so what you save shows up in git.
Elsewhere it opens ./notebooks, copying the notebooks there the first time. --copy FOLDER opens a copy in
FOLDER/notebooks instead, and so does --ServerApp.root_dir=FOLDER if the notebooks are not inside FOLDER.
Options after -- go to JupyterLab. Saving a notebook also saves what its widgets show, unless JupyterLab's
settings say otherwise.
"""

_CLONE = Path(__file__).parents[2]
_DISTRIBUTION = "inference-workbench"
_SHIPPED = PurePosixPath("share/inference-workbench/notebooks")
_FIRST_NOTEBOOK = "00_playground.ipynb"
_ROOT_OPTIONS = ("--ServerApp.root_dir", "--notebook-dir")

# Defaults of JupyterLab's settings, which the user's own settings override: saving widget state is on, and the news
# prompt is off.
_CONFIG = Path(__file__).with_name("jupyter_config")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, ``--copy``, ``--no-browser``, ``--port`` and the options after ``--``."""
    opening.add_device_option(parser)
    parser.add_argument(
        "--copy",
        type=Path,
        metavar="FOLDER",
        help="open a copy of the notebooks in FOLDER/notebooks, made the first time",
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address instead of opening a browser")
    parser.add_argument("--port", type=int, help="port on this machine (default: 8888, or the next free one)")
    parser.add_argument("lab_options", nargs="*", metavar="-- OPTION", help="options for JupyterLab")


def start_lab(
    args: argparse.Namespace,
    *,
    notebook: str | None,
    root: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Replace this process with JupyterLab, or on Windows run it and return its exit code.

    Args:
        notebook: a file in notebooks/ to open; None shows the folder.
        root: the folder with notebooks/; None uses `notebooks_root`.
        environment: variables for the kernels, in addition to those of this process.
    """
    if args.device is not None:
        opening.refuse_with_config("--device", "device", None)
        opening.check_device(args.device)
        environment = {DEVICE_VARIABLE: args.device, **(environment or {})}
    if importlib.util.find_spec("jupyterlab") is None:
        raise WorkbenchError("JupyterLab is not installed: pip install 'inference-workbench[lab]'")
    if root is None:
        served = _served(args.lab_options)
        holds_clone = served is None or _is_below(_CLONE, served)
        root = notebooks_root(args.copy or (None if holds_clone else served))
    command = lab_command(args, root, notebook)
    sys.stdout.flush()
    return replace_process(command, {**lab_environment(), **(environment or {})})


def lab_command(args: argparse.Namespace, root: Path, notebook: str | None) -> list[str]:
    """Return the command line of JupyterLab that serves ``root`` and opens the notebook, or the folder of notebooks.

    An option of the user replaces the one of the same name here, because JupyterLab accepts each only once.
    """
    from workbench.paths import state_dir

    options = list(args.lab_options)
    served = _served(options) or root
    if not _is_below(root, served):
        raise InvalidRequestError(_ROOT_OPTIONS[0], str(served), f"a folder that contains {root}")
    folders = (root / "notebooks").relative_to(served).parts
    page = "/".join(["/lab/tree", *folders, *([notebook] if notebook else [])])
    ours = {
        _ROOT_OPTIONS[0]: served,
        "--LabApp.default_url": page,
        # A workspace of its own, so that open tabs of other projects are neither restored nor overwritten.
        "--LabApp.workspaces_dir": state_dir() / "jupyterlab-workspaces",
    }
    command = [sys.executable, "-m", "jupyterlab"]
    for name, value in ours.items():
        names = _ROOT_OPTIONS if name in _ROOT_OPTIONS else (name,)
        if _value_of(options, names) is None:
            command.append(f"{name}={value}")
    if args.no_browser:
        command.append("--no-browser")
    if args.port is not None:
        command.append(f"--port={args.port}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # a container has no other users
    return command + options


def lab_environment() -> dict[str, str]:
    """Return this process's environment with the workbench's defaults on Jupyter's configuration path."""
    paths = [os.environ.get("JUPYTER_CONFIG_PATH", ""), str(_CONFIG)]
    return {**os.environ, "JUPYTER_CONFIG_PATH": os.pathsep.join(path for path in paths if path)}


def replace_process(command: list[str], environment: dict[str, str]) -> int:
    """Exec JupyterLab, so that Ctrl+C and signals reach it alone; tests replace this function.

    Windows has no exec: there this process waits for JupyterLab, which handles Ctrl+C, and returns its exit code.
    """
    # No shell is wanted.
    return _run(command, environment) if sys.platform == "win32" else os.execve(command[0], command, environment)  # noqa: S606


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run a program to its end, without handling Ctrl+C, and return its exit code."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.call(command, env=environment)  # noqa: S603 (this interpreter)
    finally:
        signal.signal(signal.SIGINT, handler)


def notebooks_root(copy: Path | None = None) -> Path:
    """Return the folder whose ``notebooks`` are opened: the clone, or the current folder with a copy of the notebooks.

    Args:
        copy: a folder to copy the notebooks into instead, unless it has them.
    """
    cloned = _CLONE / "notebooks"
    is_clone = (cloned / _FIRST_NOTEBOOK).is_file()
    if is_clone and copy is None:
        return _CLONE
    target = (Path.cwd() if copy is None else typed_path(copy, "--copy").absolute()) / "notebooks"
    if not (target / _FIRST_NOTEBOOK).exists():
        source = cloned if is_clone else _shipped_notebooks()
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
        print(f"Copied the notebooks to {target}", file=sys.stderr)
    return target.parent


def _served(options: Sequence[str]) -> Path | None:
    """Return the folder to serve according to the user's options for JupyterLab; None if they name none."""
    value = _value_of(options, _ROOT_OPTIONS)
    return None if not value else typed_path(value, _ROOT_OPTIONS[0]).absolute()


def _is_below(folder: Path, other: Path) -> bool:
    return other == folder or other in folder.parents


def _value_of(options: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the value of the last option with one of the names, as ``--name=value`` or two words; None if absent."""
    found = None
    for option, following in zip(options, [*options, ""][1:], strict=True):
        name, is_joined, value = option.partition("=")
        if name in names:
            found = value if is_joined else following
    return found


def _shipped_notebooks() -> Path:
    try:
        files = importlib.metadata.files(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == _FIRST_NOTEBOOK and _SHIPPED.parts == file.parts[-4:-1]:
            return Path(str(file.locate())).resolve().parent
    raise WorkbenchError(
        "the workbench's notebooks are neither next to the package nor installed with it:"
        " run this in a clone of the repository, or install the inference-workbench wheel"
    )
