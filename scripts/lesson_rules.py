"""Rules for stored lessons: readable without a kernel, the same on every machine, and a test of themselves.

`objections` reads a notebook as data and runs nothing. `scripts/notebooks.py` prints them after it has stored a lesson,
and `tests/notebooks/` requires that there are none.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

Notebook: TypeAlias = dict[str, Any]
"""A notebook as `json.load` returns it."""

CELLS = range(10, 26)
MAX_OUTPUT_CHARACTERS = 600_000
"""Limit of one lesson; GitHub does not show notebooks above a megabyte."""
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
"""Metadata of the whole notebook, without facts of the machine that ran it."""

_NAME = re.compile(r"\d\d(_[a-z0-9]+)+\.ipynb")
_ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/~<])/(?:etc|home|mnt|opt|private|root|srv|tmp|Users|usr|var|work|workspace)/[\w./-]+"
    r"|\b[A-Za-z]:\\[\w.\\-]+"
    r"|\bfile:///"
)
_MEMORY_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
_PROGRESS_BAR = re.compile(r"\d{1,3}%\|")
_ACTIVE = re.compile(
    r"<(?:script|iframe|object|embed|link)\b|@import|<\w[^>]*\s(?:src\s*=\s*[\"']?(?!data:)\w|on\w+\s*=)[^>]*",
    re.IGNORECASE,
)
_PICTURES = ("image/png", "image/jpeg")


def objections(name: str, notebook: Notebook) -> list[str]:
    """Return everything that is wrong with a lesson and how to correct it; empty if it may be stored."""
    found = [] if _NAME.fullmatch(name) else [f"its name must look like 02_sampling.ipynb, not {name}"]
    for rule in _RULES:
        found += rule(notebook)
    return found


def markers(cell: Notebook) -> set[str]:
    """Return the markers for nbval in a cell."""
    lines = (line.strip().lstrip("#").strip() for line in source(cell).splitlines() if line.strip().startswith("#"))
    return {line for line in lines if line.startswith("NBVAL_")}


def source(cell: Notebook) -> str:
    return _joined(cell["source"])


def texts(output: Notebook) -> dict[str, str]:
    """Return the texts of an output by MIME type; of a stream by its name, of an error its traceback."""
    if output["output_type"] == "stream":
        return {output["name"]: _joined(output["text"])}
    if output["output_type"] == "error":
        return {"error": "\n".join(output["traceback"])}
    return {kind: _joined(data) if _is_text(data) else repr(data) for kind, data in output.get("data", {}).items()}


def code_cells(notebook: Notebook) -> list[tuple[int, Notebook]]:
    """Return the code cells with their numbers among all cells, from 1."""
    return [(at, cell) for at, cell in enumerate(notebook["cells"], 1) if cell["cell_type"] == "code"]


# ----------------------------------------------------------------------------------------------------------- the rules


def _form(notebook: Notebook) -> Iterator[str]:
    cells = notebook["cells"]
    if len(cells) not in CELLS:
        yield f"it has {len(cells)} cells; a lesson has {CELLS.start} to {CELLS.stop - 1}"
    if not cells or cells[0]["cell_type"] != "markdown" or not source(cells[0]).startswith("# "):
        yield "its first cell must be Markdown and begin with a title: # ..."
    if notebook["metadata"] != METADATA:
        keys = ", ".join(sorted(notebook["metadata"]))
        yield f"its metadata must be only the names of kernel and language, not {keys}: run `make notebooks`"
    if len({cell.get("id") for cell in cells}) != len(cells):
        yield "every cell needs a unique id: run `make notebooks`"


def _executed(notebook: Notebook) -> Iterator[str]:
    for number, (at, cell) in enumerate(code_cells(notebook), 1):
        if not source(cell).strip():
            yield f"cell {at} is empty"
        elif cell["execution_count"] != number:
            was = f"it is [{cell['execution_count'] or ' '}], not [{number}]"
            yield f"cell {at} was not executed in a fresh kernel from top to bottom ({was}): run `make notebooks`"
        for output in cell["outputs"]:
            if output["output_type"] == "error" and "raises-exception" not in cell["metadata"].get("tags", ()):
                yield f"cell {at} failed with {output['ename']}"
            elif output.get("name") == "stderr":
                yield f"cell {at} writes to stderr: {_short(_joined(output['text']))}"


def _asserts(notebook: Notebook) -> Iterator[str]:
    if not any(_has_assertion(source(cell)) for _, cell in code_cells(notebook)):
        yield "it asserts nothing: a lesson must fail if what it teaches is no longer true (assert ..., wb.expect...)"


def _exercises(notebook: Notebook) -> Iterator[str]:
    cells = notebook["cells"]
    folded = any(cell["cell_type"] == "markdown" and "<details>" in source(cell) for cell in cells)
    if not folded and not any(cell["metadata"].get("jupyter", {}).get("source_hidden") for cell in cells):
        how = "<details> in Markdown, or a code cell with jupyter.source_hidden"
        yield f"it has no exercise with a hidden answer: {how}"
    for at, cell in code_cells(notebook):
        if "answer" in cell["metadata"].get("tags", ()) and not all(map(_is_folded, cell["outputs"])):
            how = 'show it as HTML("<details>...</details>")'
            yield f"the answer of cell {at} is visible after Run All, which unfolds outputs: {how}"


def _compared(notebook: Notebook) -> Iterator[str]:
    shown = [(at, cell) for at, cell in code_cells(notebook) if cell["outputs"]]
    for at, cell in shown:
        if skipped := markers(cell) & {"NBVAL_SKIP", "NBVAL_RAISES_EXCEPTION"}:
            how = "every cell is run; tag a cell that must fail with raises-exception"
            yield f"cell {at} says {skipped.pop()}: {how}"
    ignored = [at for at, cell in shown if "NBVAL_IGNORE_OUTPUT" in markers(cell)]
    if 2 * len(ignored) > len(shown):
        share = f"{len(ignored)} of {len(shown)} cells"
        yield f"the outputs of {share} are not compared (NBVAL_IGNORE_OUTPUT): round them instead"


def _same_everywhere(notebook: Notebook) -> Iterator[str]:
    for where, text in _everything(notebook):
        if path := _ABSOLUTE_PATH.search(text):
            yield f"{where} contains an absolute path: {path[0]}"
        if address := _MEMORY_ADDRESS.search(text):
            yield f"{where} contains a memory address: {address[0]}"


def _readable(notebook: Notebook) -> Iterator[str]:
    length = 0
    for at, cell in code_cells(notebook):
        for kind, text in _outputs([cell]):
            length += len(text)
            if "widget" in kind:
                how = "which is invisible without a kernel: run `make notebooks`"
                yield f"cell {at} stores widget state ({kind}), {how}"
            elif active := _active(kind, text):
                yield f"cell {at} stores output that would execute or load something: {active}"
            elif kind not in _PICTURES and _PROGRESS_BAR.search(text):
                yield f"cell {at} shows a progress bar: switch it off"
    if length > MAX_OUTPUT_CHARACTERS:
        yield f"its outputs have {length:,} characters, more than {MAX_OUTPUT_CHARACTERS:,}: use smaller pictures"


_RULES: tuple[Callable[[Notebook], Iterable[str]], ...] = (
    _form,
    _executed,
    _asserts,
    _exercises,
    _compared,
    _same_everywhere,
    _readable,
)

# ------------------------------------------------------------------------------------------------------------- reading


def _everything(notebook: Notebook) -> Iterator[tuple[str, str]]:
    for at, cell in enumerate(notebook["cells"], 1):
        yield f"cell {at}", source(cell)
        for kind, text in _outputs([cell]):
            if kind not in _PICTURES:
                yield f"the output of cell {at} ({kind})", text


def _outputs(cells: Iterable[Notebook]) -> Iterator[tuple[str, str]]:
    for cell in cells:
        for output in cell.get("outputs", ()):
            yield from texts(output).items()


def _has_assertion(code: str) -> bool:
    plain = "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))
    try:
        tree = ast.parse(plain)
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Assert) or _is_expectation(node) for node in ast.walk(tree))


def _is_folded(output: Notebook) -> bool:
    return texts(output).get("text/html", "").startswith("<details>")


def _is_expectation(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and "expect" in ast.unparse(node.func).split(".")


def _active(kind: str, text: str) -> str | None:
    """Return the part of an output that a browser would execute or fetch; None if there is none."""
    if "javascript" in kind:
        return kind
    found = _ACTIVE.search(text) if kind in ("text/html", "image/svg+xml") else None
    return _short(found[0]) if found else None


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _is_text(data: object) -> bool:
    return isinstance(data, str) or (isinstance(data, list) and all(isinstance(line, str) for line in data))


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
