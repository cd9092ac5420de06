"""What a notebook keeps of its widgets: reopened without their kernel, exported, and on a page that has no widgets."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import Browser, expect

from tests.browser.jupyterlab import Lab
from tests.browser.notebook_page import FAKE_PLAYGROUND, NotebookPage
from tests.unit.widgets.fake_session import wait_until

Open = Callable[..., NotebookPage]

PLAYGROUND = FAKE_PLAYGROUND.format(tokens_per_s=2000)
CHAT = """\
from tests.unit.widgets.fake_session import FakeSession
from workbench.widgets import chat
talk = chat(FakeSession(tokens_per_s=2000), system="Be brief.")
talk"""
COMPARISON = """\
from tests.unit.widgets.fake_answers import MODELS, AnsweringSession
from workbench.widgets import compare
both = compare(AnsweringSession(tokens_per_s=2000), "Why is the sea salty?", models=MODELS)
both"""
READING = """\
from tests.unit.widgets.fake_session import FakeSession
from workbench.widgets import read
view = read(FakeSession(tokens_per_s=2000), "One text of mine", "Another text")
view"""
TALKING = "[(talk.say(f'Question {turn}'), talk.wait(30)) for turn in range(8)]"
STATE = "application/vnd.jupyter.widget-state+json"
MOST_BYTES = 400_000
SAVED = "Saved view. Run the cell to continue."


def stored(notebook: NotebookPage) -> dict[str, Any]:
    content = json.loads((notebook.lab.root / notebook.name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def states(notebook: NotebookPage) -> list[dict[str, Any]]:
    """The states of the widgets that the notebook keeps, without their layouts."""
    kept = stored(notebook)["metadata"]["widgets"][STATE]["state"].values()
    return [model["state"] for model in kept if model["model_name"] == "AnyModel"]


def twins(notebook: NotebookPage) -> list[str]:
    """What the notebook keeps as HTML, an output each."""
    outputs = [output for cell in stored(notebook)["cells"] for output in cell["outputs"]]
    return ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]


def _has_alternatives(notebook: NotebookPage) -> bool:
    notebook.save()
    finished = [state["snapshot"] for state in states(notebook) if state.get("snapshot", {}).get("tokens")]
    return bool(finished) and all(len(one.get("alternatives") or []) == len(one["tokens"]) for one in finished)


def reopen_without_kernel(notebook: NotebookPage) -> None:
    notebook.command("kernelmenu:shutdown")
    notebook.open()
    failed = notebook.page.get_by_text("Error displaying widget: model not found")
    failed.or_(notebook.page.locator(".wb-notice")).first.wait_for()
    # JupyterLab does not read the state where its new kernel takes long to start; a person loads the page again.
    if failed.count():
        notebook.open()


@pytest.fixture(scope="module")
def saved(open_notebook: Open) -> tuple[NotebookPage, str]:
    """A playground, reopened without its kernel, and its answer."""
    notebook = open_notebook(PLAYGROUND)
    notebook.run_again()
    notebook.playground.locator(".wb-run").click()
    notebook.wait_for("finished")
    text = notebook.python_text("pg.run.text")
    wait_until(lambda: _has_alternatives(notebook))
    reopen_without_kernel(notebook)
    return notebook, text


def test_a_playground_is_reopened_with_its_answer_and_the_alternatives_of_each_token(
    saved: tuple[NotebookPage, str], screenshots: Path
) -> None:
    notebook, text = saved
    notebook.wait_for("finished")
    box = notebook.playground
    expect(box.locator(".wb-output")).to_have_text(text)
    expect(box.locator(".wb-notice")).to_have_text(SAVED)
    expect(box.locator(".wb-run")).to_be_disabled()
    expect(box.get_by_label("Prompt", exact=True)).to_be_disabled()
    expect(box.locator(".wb-controls :is(input, select):enabled")).to_have_count(0)
    box.locator(".wb-token[data-wb-position='25']").click()
    expect(box.locator(".wb-alternative")).to_have_count(6)
    box.get_by_role("tab", name="Code").click()
    expect(box.locator(".wb-code pre")).to_contain_text("bench.")
    box.get_by_role("tab", name="Tokens", exact=True).click()
    assert notebook.serious_findings(".wb-playground") == []
    expect(notebook.page.locator(".wb-twin")).to_be_hidden()
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        notebook.theme(theme)
        notebook.screenshot(screenshots / f"saved-playground-{theme.split()[-1].lower()}.png")
    assert notebook.problems == []


def test_choosing_an_alternative_in_a_saved_view_says_what_to_do(saved: tuple[NotebookPage, str]) -> None:
    notebook, _ = saved
    notebook.playground.locator(".wb-token[data-wb-position='24']").click()
    notebook.playground.locator(".wb-alternative:not(.wb-sampled)").first.click()
    expect(notebook.playground.locator(".wb-inspector .wb-message")).to_have_text(SAVED)


@pytest.fixture(scope="module")
def chat(open_notebook: Open) -> NotebookPage:
    """A chat of eight turns, saved."""
    notebook = open_notebook(CHAT)
    notebook.run_all()
    notebook.page.locator(".wb-chat[data-wb-state='idle']").wait_for(timeout=60_000)
    notebook.python(TALKING)
    expect(notebook.page.locator(".wb-turn-answer")).to_have_count(8)
    wait_until(lambda: _has_alternatives(notebook))
    return notebook


def test_a_chat_of_eight_turns_takes_less_than_400_kb_and_nothing_of_the_machine(chat: NotebookPage) -> None:
    text = (chat.lab.root / chat.name).read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    for word in (str(chat.lab.root.parent), str(Path(__file__).parents[2]), chat.lab.token, str(Path.home())):
        assert word not in text or word == "/"


def test_a_chat_is_exported_and_printed_with_every_turn(
    chat: NotebookPage, browser: Browser, screenshots: Path
) -> None:
    body, _ = HTMLExporter().from_filename(str(chat.lab.root / chat.name))  # type: ignore[no-untyped-call]
    shown = re.sub(r"<[^>]*>", "", body.partition("<body")[2])
    assert "Question 7" in shown
    (page := browser.new_context(offline=True).new_page()).set_content(body)
    twin = page.locator(".wb-twin")
    expect(twin).to_be_visible()
    expect(twin).not_to_contain_text("No messages yet.")
    page.emulate_media(media="print")
    expect(twin).to_be_visible()
    page.screenshot(path=screenshots / "exported-chat.png", full_page=True)
    page.context.close()


def test_a_chat_is_reopened_with_its_last_answer_and_its_alternatives(chat: NotebookPage, screenshots: Path) -> None:
    answer = chat.python_text("talk.run.text")
    reopen_without_kernel(chat)
    box = chat.page.locator(".wb-chat")
    expect(box.locator(".wb-turn-answer")).to_have_count(8)
    expect(box.locator(".wb-notice")).to_have_text(SAVED)
    box.get_by_role("radio", name="Tokens").last.check()
    expect(box.locator(".wb-output")).to_have_text(answer)
    expect(box.get_by_label("Message")).to_be_disabled()
    box.locator(".wb-token[data-wb-position='25']").click()
    expect(box.locator(".wb-alternative")).to_have_count(6)
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        chat.theme(theme)
        box.screenshot(path=screenshots / f"saved-chat-{theme.split()[-1].lower()}.png")


def test_what_was_read_from_the_notebook_is_saved_again_until_its_cell_is_run(chat: NotebookPage) -> None:
    before = states(chat)
    reopen_without_kernel(chat)
    chat.page.locator(".wb-chat .wb-turn-answer").nth(7).wait_for()
    chat.save()
    assert len(states(chat)) == len(before)
    chat.run_all()
    chat.page.locator(".wb-chat[data-wb-state='idle']:not([data-wb-saved])").wait_for()
    chat.save()
    assert len(states(chat)) == len(before)
    assert not any(state.get("turns") for state in states(chat))


@pytest.fixture(scope="module")
def ended(open_notebook: Open) -> tuple[NotebookPage, str]:
    """A comparison and two read texts that had ended, reopened without their kernel; what the comparison said."""
    notebook = open_notebook(PLAYGROUND, COMPARISON, READING)
    notebook.run_all()
    for kind in ("compare", "read"):
        expect(notebook.page.locator(f".wb-{kind}[data-wb-state='done']")).to_be_visible(timeout=60_000)
    wait_until(lambda: _has_alternatives(notebook))
    assert not any("so far" in twin for twin in twins(notebook))
    assert any("perplexity" in twin for twin in twins(notebook))
    said = notebook.page.locator(".wb-compare-said").text_content() or ""
    reopen_without_kernel(notebook)
    return notebook, said


def test_a_comparison_is_reopened_and_exported_as_it_ended(ended: tuple[NotebookPage, str], screenshots: Path) -> None:
    notebook, said = ended
    assert "so far" not in said
    box = notebook.page.locator(".wb-compare:not(.wb-slot)")
    expect(box.locator(".wb-notice")).to_have_text(SAVED)
    expect(box.locator(".wb-compare-said")).to_have_text(said)
    expect(box.locator(".wb-run")).to_be_disabled()
    box.locator(".wb-token[data-wb-position='3']").first.click()
    expect(box.locator(".wb-compare-side .wb-selected").first).to_be_visible()
    notebook.theme("JupyterLab Dark")
    box.screenshot(path=screenshots / "saved-comparison-dark.png")


def test_texts_that_were_read_are_reopened_with_the_alternatives_of_each_token(ended: tuple[NotebookPage, str]) -> None:
    notebook, _ = ended
    box = notebook.page.locator(".wb-read")
    expect(box.locator(".wb-notice")).to_have_text(SAVED)
    expect(box.locator(".wb-output").first).to_have_text("One text of mine")
    expect(box.locator(".wb-read-form :is(button, textarea):enabled")).to_have_count(0)
    box.locator(".wb-token[data-wb-position='2']").first.click()
    expect(box.locator(".wb-alternative").first).to_be_visible()
    assert notebook.serious_findings(".wb-read") == []


@pytest.fixture(scope="module")
def live(open_notebook: Open) -> NotebookPage:
    """A playground that two cells show, and a table that none shows."""
    hidden = "from workbench.widgets import RunFeed, TokenTable\nother = TokenTable(feed=RunFeed(), height=321)"
    notebook = open_notebook(PLAYGROUND, hidden, "pg")
    notebook.run_all()
    expect(notebook.page.locator(".wb-playground[data-wb-state='idle']")).to_have_count(2, timeout=60_000)
    return notebook


def test_a_widget_that_no_cell_shows_is_not_saved(live: NotebookPage) -> None:
    live.expect_python("other.height", "321")
    live.save()
    assert len(states(live)) > 5
    assert not [state for state in states(live) if state.get("height") == 321]


def test_a_lesson_that_is_opened_and_saved_stays_as_it_is(open_notebook: Open) -> None:
    lesson = Path(__file__).parents[2] / "notebooks" / "04_tokens.ipynb"
    notebook = open_notebook(copy_of=lesson)
    notebook.save()
    assert stored(notebook) == json.loads(lesson.read_text(encoding="utf-8"))


def test_figures_fit_a_printed_page(lab: Lab, browser: Browser, screenshots: Path) -> None:
    lesson = Path(__file__).parents[2] / "notebooks" / "12_prediction_game.ipynb"
    shutil.copy(lesson, lab.root)
    page = browser.new_context(viewport={"width": 640, "height": 900}).new_page()
    page.goto(f"{lab.url}/nbconvert/html/{lesson.name}?download=false&token={lab.token}")
    page.emulate_media(media="print")
    widths = """() => [...document.querySelectorAll(".jp-OutputArea-output img")].map(
      (one) => [one.getBoundingClientRect().width, one.parentElement.clientWidth])"""
    found = page.evaluate(widths)
    assert len(found) == 2
    assert all(0 < width <= room for width, room in found)
    page.screenshot(path=screenshots / "printed-lesson.png", full_page=True)
    page.context.close()


def test_the_live_view_stays_as_it_is_while_its_twin_is_renewed(live: NotebookPage) -> None:
    notebook = live
    prompt = notebook.playground.get_by_label("Prompt", exact=True)
    prompt.fill("What I am typing")
    notebook.page.evaluate(
        "() => document.querySelectorAll('.wb-playground').forEach((box) => { box.isTheSame = true; })"
    )
    notebook.python("pg.start('Hello').wait(30), pg.feed.wait(30)")
    expect(notebook.page.locator(".wb-playground[data-wb-state='finished']")).to_have_count(2)
    wait_until(lambda: _renewed_twins(notebook) == 2)
    expect(prompt).to_be_focused()
    same = "() => [...document.querySelectorAll('.wb-playground')].map((box) => box.isTheSame === true)"
    assert notebook.page.evaluate(same) == [True, True]
    expect(notebook.page.locator(".wb-twin").first).to_be_hidden()


def _renewed_twins(notebook: NotebookPage) -> int:
    notebook.save()
    return sum("44 generated" in twin for twin in twins(notebook))
