"""Run the lessons from top to bottom and store their outputs; unchanged outputs are stored as they were.

    .venv/bin/python -m scripts.notebooks [NUMBER ...]        # all of them, or 02 05

An output that differs from the stored one only in measurements (see `tests/notebooks/sanitize.cfg`), or in the figures
and pictures of a cell with NBVAL_IGNORE_OUTPUT, stays as it is stored, so that a second run changes no file. Objections
of `lesson_rules` are printed for each lesson. Exit code 0: every lesson ran, and there are none.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from copy import deepcopy
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from nbval.plugin import get_sanitize_patterns

from scripts.lesson_rules import METADATA, Notebook, code_cells, markers, objections, source, texts

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
SANITIZER = ROOT / "tests" / "notebooks" / "sanitize.cfg"
CELL_TIMEOUT_S = 100
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_FOLDED = ("source_hidden",)
"""Metadata that folds the code of an answer in JupyterLab; the output folds itself."""
_NUMBER = re.compile(r"\d[\d.,e+-]*")


def main() -> int:
    os.environ["WORKBENCH_PROGRESS"] = "0"  # for the kernels
    paths = [path for path in sorted(FOLDER.glob("*.ipynb")) if _is_selected(path.name)]
    if not paths:
        print(f"no notebook in {FOLDER} has one of the numbers {sys.argv[1:]}", file=sys.stderr)
        return 2
    began = time.perf_counter()
    results = [_rerun(path) for path in paths]  # all of them, also after one that fails
    print(f"{sum(results)} of {len(paths)} lessons are valid ({time.perf_counter() - began:.0f} s)")
    return int(not all(results))


def _is_selected(name: str) -> bool:
    return len(sys.argv) == 1 or any(name.startswith(number) for number in sys.argv[1:])


def _rerun(path: Path) -> bool:
    """Run one lesson and store it; return whether it follows the rules."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    began = time.perf_counter()
    try:
        fresh = executed(stored)
    except (CellControlSignal, DeadKernelError) as error:
        print(f"{path.name}: {error}", file=sys.stderr)
        return False
    took = f"{time.perf_counter() - began:.1f} s"
    is_new = write(path, settled(fresh, stored))
    print(f"{path.name}: {'updated' if is_new else 'unchanged'} ({took})")
    wrong = objections(path.name, json.loads(path.read_text(encoding="utf-8")))
    print("".join(f"  {objection}\n" for objection in wrong), end="", file=sys.stderr)
    return not wrong


def executed(notebook: Notebook, folder: Path = FOLDER) -> Notebook:
    """Return a copy with outputs from a fresh kernel, in the form in which lessons are stored."""
    running = nbformat.reads(json.dumps(notebook), as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        running,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
    )
    client.execute()
    return normalised(json.loads(nbformat.writes(running)))  # type: ignore[no-untyped-call]


def normalised(notebook: Notebook) -> Notebook:
    """Remove what belongs to one machine or session: widget views, the kernel's version, an editor's metadata."""
    for number, cell in enumerate(notebook["cells"]):
        metadata = {name: cell["metadata"][name] for name in ("tags", "jupyter") if cell["metadata"].get(name)}
        if folded := {name: value for name, value in metadata.get("jupyter", {}).items() if name in _FOLDED}:
            metadata["jupyter"] = folded
        else:
            metadata.pop("jupyter", None)
        cell["metadata"] = metadata
        cell["id"] = f"cell-{number}"
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop(_WIDGET_VIEW, None)
            if "metadata" in output:
                output["metadata"] = {}
            if "traceback" in output:  # it shows where packages are installed
                output["traceback"] = [f"{output['ename']}: {output['evalue']}"]
    return notebook | {"metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def settled(fresh: Notebook, stored: Notebook) -> Notebook:
    """Return the fresh notebook with the stored outputs of every cell whose outputs have not changed."""
    before = {source(cell): cell for _, cell in code_cells(stored)}
    for _, cell in code_cells(fresh):
        previous = before.get(source(cell))
        if previous is not None and comparable_outputs(cell) == comparable_outputs(previous):
            cell["outputs"] = deepcopy(previous["outputs"])
            for output in cell["outputs"]:
                if "execution_count" in output:
                    output["execution_count"] = cell["execution_count"]
    return fresh


def write(path: Path, notebook: Notebook) -> bool:
    """Store a notebook as Jupyter does; return whether the file has changed."""
    text = nbformat.writes(nbformat.from_dict(notebook)) + "\n"  # type: ignore[no-untyped-call]
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.write_text(text, encoding="utf-8")
    return True


def comparable_outputs(cell: Notebook) -> list[dict[str, str]]:
    """Return the outputs of a cell without measurements, by MIME type."""
    is_measured = "NBVAL_IGNORE_OUTPUT" in markers(cell)
    return [
        {kind: _measured(kind, text) if is_measured else _sanitized(text) for kind, text in texts(output).items()}
        for output in cell["outputs"]
    ]


def _measured(kind: str, text: str) -> str:
    return "" if kind.startswith("image/") else _NUMBER.sub("N", text)


def _sanitized(text: str) -> str:
    for regex, replacement in _PATTERNS:
        text = re.sub(regex, replacement, text)
    return text


_PATTERNS: list[tuple[str, str]] = get_sanitize_patterns(SANITIZER.read_text(encoding="utf-8"))


if __name__ == "__main__":
    raise SystemExit(main())
