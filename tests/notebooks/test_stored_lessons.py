"""The lessons as they are stored: each keeps every rule, and reads without a kernel. `pytest --nbval` runs them."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbconvert import HTMLExporter

from scripts.lesson_rules import METADATA, Notebook, objections, source
from scripts.notebooks import FOLDER, normalised, settled, write
from tests.budget import some
from workbench.commands.lessons import without_answers

LESSONS = sorted(FOLDER.glob("*.ipynb"))


def code(source: str, *outputs: dict[str, Any], number: int | None = 1, **metadata: Any) -> Notebook:
    return {
        "cell_type": "code",
        "execution_count": number,
        "id": f"code-{number}-{abs(hash(source))}",
        "metadata": metadata,
        "outputs": list(outputs),
        "source": source,
    }


def shown(kind: str, text: str) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": {kind: text}}


def printed(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def lesson(*cells: Notebook) -> Notebook:
    """One that keeps every rule, with the given cells in it."""
    title = {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# A lesson"}
    answer = {"cell_type": "markdown", "id": "answer", "metadata": {}, "source": "<details>42</details>"}
    prose = [{"cell_type": "markdown", "id": f"prose-{at}", "metadata": {}, "source": "Look."} for at in range(8)]
    made = list(cells) or [code("assert 1 + 1 == 2")]
    return {"cells": [title, *prose, *made, answer], "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.name)
def test_a_stored_lesson_keeps_every_rule(path: Path) -> None:
    assert objections(path.name, json.loads(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.name)
def test_it_is_stored_in_the_form_in_which_make_notebooks_stores_it(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    nbformat.validate(nbformat.reads(text, as_version=4))  # type: ignore[no-untyped-call]
    (tmp_path / "lesson").write_text(text, encoding="utf-8")
    assert not write(tmp_path / "lesson", normalised(json.loads(text)))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.name)
def test_an_exam_of_it_has_no_answer_to_its_questions(path: Path) -> None:
    cells = without_answers(json.loads(path.read_text(encoding="utf-8")))["cells"]
    texts = [source(cell) for cell in cells]
    asked = next(at for at, text in enumerate(texts) if "## Your turn" in text)
    assert not re.search(r"<details>|\bassert\b|\bexpect\b", "\n".join(texts[asked:]))


@pytest.mark.parametrize("path", some(LESSONS, at_least=3), ids=lambda path: path.name)
def test_its_export_shows_each_result_without_a_kernel(path: Path) -> None:
    body, _ = HTMLExporter().from_filename(str(path))  # type: ignore[no-untyped-call]
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    shown = [output["data"] for cell in cells for output in cell.get("outputs", []) if "data" in output]
    pictures = [data for data in shown if any(kind.startswith("image/") for kind in data)]
    assert shown
    for data in shown:
        if "text/html" in data:
            assert _words("".join(data["text/html"])) in _words(body)
        elif data not in pictures:  # plain text may look like tags
            assert " ".join("".join(data["text/plain"]).split()) in _words(body)
    assert body.count('src="data:image/') + body.count("<svg") >= len(pictures)
    assert "jupyter-widgets" not in body.partition("<body")[2]


def test_the_first_lesson_is_stored_with_an_answer_in_its_playground() -> None:
    cells = json.loads((FOLDER / "00_playground.ipynb").read_text(encoding="utf-8"))["cells"]
    shown = [output["data"]["text/html"] for output in cells[2]["outputs"]]
    twin = _words("".join(shown[-1]))
    assert "No run yet." not in twin
    assert "stopped: end of turn" in twin


def test_the_text_that_is_to_be_guessed_cannot_be_read_above_the_game() -> None:
    cells = json.loads((FOLDER / "12_prediction_game.ipynb").read_text(encoding="utf-8"))["cells"]
    game = next(at for at, cell in enumerate(cells) if "PredictionGame(score" in source(cell))
    above = " ".join(source(cell) for cell in cells[: game + 1])
    assert not re.search(r"storm|captain|harbor|kitchen", above)


def _words(markup: str) -> str:
    """What a reader reads of it."""
    return " ".join(unescape(re.sub(r"<style.*?</style>|<[^>]*>", " ", markup, flags=re.DOTALL)).split())


def test_a_lesson_that_keeps_every_rule_is_not_objected_to() -> None:
    assert objections("03_logprobs.ipynb", lesson()) == []


CLAIM = code("assert 1 + 1 == 2")


@pytest.mark.parametrize(
    "cells, said",
    [
        ([code("print(1)")], "asserts nothing"),
        ([CLAIM, code("2", number=None)], r"cell 11 was not executed .* \(it is \[ \], not \[2\]\)"),
        ([code("assert True", number=7)], r"is \[7\], not \[1\]"),
        ([CLAIM, code("  ", number=2)], "cell 11 is empty"),
        (
            [CLAIM, code("print(path)", printed("/home/me/model"), number=2)],
            "output of cell 11 .* path: /home/me/model",
        ),
        ([code("assert open('/tmp/a.txt')")], "cell 10 contains an absolute path: /tmp/a.txt"),
        ([code("assert x", shown("text/plain", "<object at 0x7f3c5a1b2c40>"))], "memory address: 0x7f3c5a1b2c40"),
        ([code("assert x", shown("application/vnd.jupyter.widget-view+json", "{}"))], "stores widget state"),
        ([code("assert x", printed("42"), tags=["answer"])], "is visible after Run All"),
        ([code("assert x", shown("text/html", "<p><script>1</script>"))], "would execute or load something: <script"),
        (
            [code("assert x", shown("text/html", "<img src='http://a.b/c.png'>"))],
            "would execute or load something: <img src='http://a.b",
        ),
        ([code("assert x", shown("application/javascript", "1"))], "execute or load something: application/javascript"),
        ([code("assert x", shown("text/html", "<b onclick='a()'>"))], "execute or load something: <b onclick="),
        ([code("assert x", printed("careful", "stderr"))], "cell 10 writes to stderr: careful"),
        ([code("assert x", printed(" 40%|####      |"))], "shows a progress bar"),
        ([code("assert x", shown("image/png", "x" * 700_000))], "outputs have 700,000 characters"),
        ([code("# NBVAL_IGNORE_OUTPUT\nassert x", printed("1"))], "outputs of 1 of 1 cells are not compared"),
        ([CLAIM, code("# NBVAL_SKIP\nf()", printed("1"), number=2)], "cell 11 says NBVAL_SKIP"),
        ([CLAIM] * 16, "it has 25 cells|a unique id"),
        ([CLAIM, *[code(str(at), number=at) for at in range(2, 19)]], "it has 28 cells; a lesson has 10 to 25"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_lesson_that_breaks_a_rule_is_told_which_and_where(cells: list[Notebook], said: str) -> None:
    found = "\n".join(objections("03_logprobs.ipynb", lesson(*cells)))
    assert re.search(said, found), found


def test_its_name_its_title_its_metadata_and_its_exercise_are_looked_at_too() -> None:
    bad = lesson()
    bad["metadata"] = {"widgets": {}}
    del bad["cells"][-1]
    bad["cells"][0] = code("assert True")
    found = "\n".join(objections("Logprobs.ipynb", bad))
    for said in ("name must look like", "begin with a title", "not widgets", "no exercise with a hidden answer"):
        assert said in found


def test_storing_keeps_what_only_a_machine_measured_anew() -> None:
    sources = ["# NBVAL_IGNORE_OUTPUT\nspeed()", "run", "answer"]
    before = [printed("took 1.5 s, 3 runs\n"), shown("text/html", "61 tokens/s"), shown("text/plain", "'Paris'")]
    now = [printed("took 2.25 s, 4 runs\n"), shown("text/html", "75 tokens/s"), shown("text/plain", "'Rome'")]
    stored, fresh = (lesson(*map(code, sources, outputs)) for outputs in (before, now))
    kept = [cell["outputs"][0] for cell in settled(fresh, stored)["cells"] if cell["cell_type"] == "code"]
    assert kept == [before[0], before[1], now[2]]


def test_a_failure_that_a_lesson_shows_is_stored_without_the_folders_of_this_machine() -> None:
    error = {"output_type": "error", "ename": "ConfigError", "evalue": "no model", "traceback": ["File /usr/lib/x.py"]}
    stored = normalised(lesson(CLAIM, code("fail()", error, number=2, tags=["raises-exception"])))
    assert objections("03_logprobs.ipynb", stored) == []
    assert stored["cells"][10]["outputs"][0]["traceback"] == ["ConfigError: no model"]
