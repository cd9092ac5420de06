"""The lessons against the trace provider: what they show with a model, they show from a recording without one.

`pytest --nbval` records each lesson while it runs it; a lesson that this session has not run yet is recorded here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.lesson_rules import Notebook, code_cells, source
from scripts.notebooks import FOLDER, comparable_outputs, executed
from tests.conftest import traces_of
from workbench.providers.trace.folder import PLAY_VARIABLE, RECORD_VARIABLE

LESSONS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def played_s() -> Iterator[list[float]]:
    """What each lesson took, told together when all were played."""
    seconds: list[float] = []
    yield seconds
    print(f"\n{len(seconds)} lessons: {sum(seconds):.0f} s from traces")


def recorded(lesson: Path, notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a lesson's traces."""
    traces = traces_of(lesson)
    if not traces.is_dir():
        with monkeypatch.context() as context:
            context.setenv(RECORD_VARIABLE, str(traces))
            executed(notebook)
        traces.mkdir(exist_ok=True)  # of a lesson that asks no model
    return traces


@pytest.mark.kernel
@pytest.mark.real_model
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_a_lesson_shows_the_same_from_its_traces_with_no_model(
    lesson: Path, played_s: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = json.loads(lesson.read_text(encoding="utf-8"))
    traces = recorded(lesson, stored, monkeypatch)
    monkeypatch.setenv(PLAY_VARIABLE, str(traces))
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))  # no model is here,
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # and none is to be had
    began = time.perf_counter()
    played = executed(stored)
    played_s.append(time.perf_counter() - began)
    print(f"{lesson.stem}: {played_s[-1]:.1f} s from traces")
    for (_, before), (_, now) in zip(code_cells(stored), code_cells(played), strict=True):
        assert comparable_outputs(now) == comparable_outputs(before), source(now)
