"""One lesson for ``workbench lab``: opened by its number, with recorded traces, or as an exam."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError, InvalidRequestError
from workbench.paths import typed_path

_EXAM = "exam"
_ANSWER_TAG = "answer"
_ANSWER = re.compile(r"<details>.*?</details>\s*", re.DOTALL)


def lesson_name(folder: Path, number: str) -> str:
    """Return the file of the lesson with a number, such as ``2`` or ``02``.

    Raises:
        InvalidRequestError: there is no such lesson; the message lists all.
    """
    names = sorted(path.name for path in folder.glob("[0-9][0-9]_*.ipynb"))
    found = [name for name in names if number and name.startswith(f"{number.zfill(2)}_")]
    if not found:
        numbers = ", ".join(name.removesuffix(".ipynb") for name in names) or "none"
        raise InvalidRequestError("--lesson", number, f"the number of a lesson in {folder}: {numbers}")
    return found[0]


def traces_of(folder: Path, lesson: str, *, made: bool) -> Path:
    """Return the folder of a lesson's traces in a folder with those of several lessons.

    Args:
        made: whether they must exist.

    Raises:
        ConfigError: they must exist and do not.
    """
    traces = typed_path(folder, "--exam" if made else "--record").absolute() / lesson.removesuffix(".ipynb")
    if made and not any(traces.glob("*.jsonl")):
        how = f"`workbench lab --lesson {lesson[:2]} --record {folder}`, then run its cells"
        raise ConfigError(f"{folder} has no recording of {lesson}; to record one: {how}")
    return traces


def exam_copy(lesson: Path, folder: Path) -> Path:
    """Return a folder for JupyterLab with a copy of the lesson without answers and outputs.

    An existing copy is not replaced, because it has someone's work.
    """
    root = folder / _EXAM
    copy = root / "notebooks" / lesson.name
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        questions = without_answers(json.loads(lesson.read_text(encoding="utf-8")))
        copy.write_text(json.dumps(questions, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return root


def without_answers(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a notebook without folded answers, cells tagged as answers, and outputs.

    Cells that are hidden for another reason, such as plotting code, stay, because later cells need them.
    """
    cells = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            source = _ANSWER.sub("", source)
        if not source.strip() or _ANSWER_TAG in cell["metadata"].get("tags", ()):
            continue
        fresh: dict[str, Any] = {"execution_count": None, "outputs": []} if cell["cell_type"] == "code" else {}
        cells.append(cell | {"source": source} | fresh)
    return notebook | {"cells": cells}
