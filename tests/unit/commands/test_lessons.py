"""``workbench lab --lesson``: the right notebook, its recording, and the exam that is made of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from workbench.commands import jupyter
from workbench.commands.lessons import without_answers

if TYPE_CHECKING:
    from tests.unit.commands.conftest import Cli

    Started = list[tuple[list[str], dict[str, str]]]


def cell(kind: str, source: str, **more: Any) -> dict[str, Any]:
    return {"cell_type": kind, "id": source, "metadata": {}, "source": source.splitlines(keepends=True)} | more


LESSON: dict[str, Any] = {
    "cells": [
        cell("markdown", "# Sampling\nWhich?\n\n<details>\n<summary>Answer</summary>\nThe first.\n</details>\nGo on."),
        cell("markdown", "<details>only an answer</details>"),
        cell("code", "1 + 1", execution_count=1, outputs=[{"output_type": "stream", "name": "stdout", "text": "2"}]),
        cell("code", "draw()", execution_count=2, outputs=[], metadata={"jupyter": {"source_hidden": True}}),
        cell("code", "answer = 2", execution_count=3, outputs=[], metadata={"tags": ["answer"]}),
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """What the process would have become."""
    calls: Started = []

    def replace(command: list[str], environment: dict[str, str]) -> int:
        calls.append((command, environment))
        return 0

    monkeypatch.setattr(jupyter, "replace_process", replace)
    return calls


@pytest.fixture(autouse=True)
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with two lessons, and somewhere else the folder in which the command is given."""
    notebooks = tmp_path / "clone" / "notebooks"
    notebooks.mkdir(parents=True)
    for name in ("00_playground", "02_sampling"):
        (notebooks / f"{name}.ipynb").write_text(json.dumps(LESSON), encoding="utf-8")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(jupyter, "_CLONE", tmp_path / "clone")
    return tmp_path / "clone"


@pytest.mark.parametrize("number", ["02", "2"])
def test_a_lesson_is_opened_by_its_number(number: str, cli: Cli, started: Started, clone: Path) -> None:
    assert cli("lab", "--lesson", number, "--no-browser").code == 0
    ((command, environment),) = started
    assert {"--LabApp.default_url=/lab/tree/notebooks/02_sampling.ipynb", "--no-browser"} <= set(command)
    assert f"--ServerApp.root_dir={clone}" in command
    assert not {"WORKBENCH_RECORD", "WORKBENCH_PLAY"} & environment.keys()


@pytest.mark.parametrize("number", ["07", "../2", "", "*"])
def test_an_unknown_lesson_is_told_those_that_there_are(number: str, cli: Cli, started: Started) -> None:
    outcome = cli("lab", "--lesson", number)
    assert outcome.code == 2
    assert "00_playground, 02_sampling" in outcome.err
    assert not started


def test_recording_a_lesson_gives_its_kernels_a_folder(cli: Cli, started: Started, tmp_path: Path) -> None:
    cli("lab", "--lesson", "02", "--record", "traces")
    ((_, environment),) = started
    assert environment["WORKBENCH_RECORD"] == str(tmp_path / "here" / "traces" / "02_sampling")


def test_an_exam_has_the_questions_alone_and_answers_from_the_recording(
    cli: Cli, started: Started, tmp_path: Path
) -> None:
    traces = tmp_path / "traces" / "02_sampling"
    traces.mkdir(parents=True)
    (traces / "local-1.jsonl").touch()
    assert cli("lab", "--lesson", "02", "--exam", str(tmp_path / "traces")).code == 0
    ((command, environment),) = started
    exam = tmp_path / "here" / "exam"
    assert f"--ServerApp.root_dir={exam}" in command
    assert (environment["WORKBENCH_PLAY"], environment["WORKBENCH_PLAY_TIMING"]) == (str(traces), "kept")
    (questions,) = (exam / "notebooks").iterdir()
    assert json.loads(questions.read_text()) == without_answers(LESSON)
    questions.write_text("what a student wrote")
    cli("lab", "--lesson", "02", "--exam", str(tmp_path / "traces"))
    assert questions.read_text() == "what a student wrote"


def test_the_copy_has_no_answer_and_no_output_and_keeps_what_is_hidden_for_its_length() -> None:
    copy = without_answers(LESSON)
    assert ["".join(one["source"]) for one in copy["cells"]] == ["# Sampling\nWhich?\n\nGo on.", "1 + 1", "draw()"]
    assert (copy["cells"][1]["outputs"], copy["cells"][1]["execution_count"]) == ([], None)
    assert LESSON["cells"][2]["outputs"]  # the lesson itself stays as it is


def test_an_exam_without_a_recording_says_how_to_make_one(cli: Cli, started: Started) -> None:
    outcome = cli("lab", "--lesson", "02", "--exam", "nowhere")
    assert outcome.code == 2
    assert "`workbench lab --lesson 02 --record nowhere`, then run its cells" in outcome.err
    assert not started


@pytest.mark.parametrize("options", [["--exam", "x"], ["--record", "x"]])
def test_recordings_belong_to_a_lesson(options: list[str], cli: Cli, started: Started) -> None:
    outcome = cli("lab", *options)
    assert outcome.code == 2
    assert "used together with --lesson NUMBER" in outcome.err
    assert not started


def test_an_exam_is_not_recorded(cli: Cli) -> None:
    outcome = cli("lab", "--lesson", "02", "--exam", "x", "--record", "y")
    assert outcome.code == 2
    assert "not allowed with" in outcome.err
