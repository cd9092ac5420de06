"""A lesson fails when what it teaches is no longer true: every fault of `breaks.py` turns its lesson red.

Each case runs a lesson up to the cell that notices, so all of them take minutes: `make bench` runs them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from nbclient.exceptions import CellExecutionError

from scripts.notebooks import FOLDER, ROOT, executed
from tests.notebooks.breaks import BREAKS, Break

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_CELL_STATEMENT = re.compile(r"^Cell In\[\d+\].*(?:\n.*)*?\n-+> *\d+ (.*)$", re.MULTILINE)
"""The line of the lesson at which IPython's traceback points."""


@pytest.mark.bench
@pytest.mark.kernel
@pytest.mark.real_model
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", BREAKS, ids=lambda fault: fault.name)
def test_a_broken_claim_turns_its_lesson_red(fault: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (lesson,) = FOLDER.glob(f"{fault.lesson}_*.ipynb")
    notebook = json.loads(lesson.read_text(encoding="utf-8"))
    name = fault.by.__name__
    breaking = f"from {fault.by.__module__} import {name}\n\n{name}()"
    first: dict[str, Any] = {"cell_type": "code", "id": "break", "execution_count": None, "metadata": {}, "outputs": []}
    notebook["cells"].insert(0, first | {"source": breaking})
    with pytest.raises(CellExecutionError) as noticed:
        executed(notebook)
    told = _COLOURS.sub("", str(noticed.value))
    assert "tests/notebooks/" not in told, "the break itself is broken"
    statement = _CELL_STATEMENT.findall(told)[-1]
    print(f"\n{fault.name}: {statement.strip()}  # {told.strip().splitlines()[-1][:150]}")
    assert re.search(r"\b(assert|expect)\b", statement), "the lesson fails, and not at what it claims"


@pytest.mark.model
def test_every_break_finds_what_it_breaks() -> None:
    """In a process of its own, because nothing is mended afterwards."""
    code = "from tests.notebooks.breaks import BREAKS\nfor fault in BREAKS: fault.by()\nprint(len(BREAKS))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(len(BREAKS)), done.stderr
