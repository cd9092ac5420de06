"""Texts that are read, in a blank page and in a real JupyterLab: pasted, compared, walked and read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import NotebookPage
from tests.unit.widgets.fake_session import FakeSession, words
from workbench.errors import InvalidRequestError
from workbench.records import RunProgress
from workbench.widgets import ReadView, StreamView, read

ONE, OTHER = "I drink my coffee with milk and sugar.", "I drink my coffee with milk and concrete."
DONE = "document.querySelector('.wb-read').dataset.wbState === 'done'"

CELL = f"""\
from tests.unit.widgets.fake_session import FakeSession
from workbench.widgets import read
session = FakeSession(tokens_per_s=400)
view = read(session, {ONE!r}, {OTHER!r})
view"""


def texts(modules: ModuleHost, selector: str) -> list[str]:
    return modules.browser.locator(selector).all_text_contents()


def test_a_text_is_pasted_read_and_read_again_with_the_keyboard_alone(modules: ModuleHost) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = ReadView(session)
    modules.show(view)
    box = modules.browser.get_by_label("Text", exact=True)
    box.press("Control+Enter")
    modules.wait("!document.querySelector('.wb-read-form .wb-error').hidden")
    expect(modules.browser.locator(".wb-read-form .wb-error")).to_have_text("Paste a text first.")
    box.fill(ONE)
    box.press("Control+Enter")
    modules.wait(DONE)
    assert texts(modules, ".wb-read-side:not([hidden]) .wb-output") == [ONE]
    box.fill(OTHER)
    box.press("Control+Enter")
    modules.wait(f"{DONE} && document.querySelector('.wb-output').textContent.includes('concrete')")
    assert [call["prompt"] for call in session.calls] == [ONE, OTHER]


def test_a_second_text_is_added_beside_the_first_and_removed_again(modules: ModuleHost) -> None:
    view = read(FakeSession(tokens_per_s=5000), ONE)
    modules.show(view)
    modules.wait(DONE)
    more = modules.browser.get_by_role("button", name="Compare with a second text")
    more.press("Enter")
    second = modules.browser.get_by_label("Second text", exact=True)
    expect(second).to_be_focused()
    second.fill(OTHER)
    second.press("Control+Enter")
    modules.wait("document.querySelectorAll('.wb-read-side:not([hidden]) .wb-output').length === 2")
    modules.wait(DONE)
    assert texts(modules, ".wb-output") == [ONE, OTHER]
    tops = [box.bounding_box()["y"] for box in modules.browser.locator(".wb-output").all()]  # type: ignore[index]
    assert tops[0] == tops[1]
    modules.browser.get_by_role("button", name="Remove the second text").press("Enter")
    modules.browser.get_by_role("button", name="Read").press("Enter")
    modules.wait("document.querySelectorAll('.wb-read-side:not([hidden])').length === 1")
    assert view.other == ""


def test_each_token_has_its_numbers_and_alternatives_to_see_and_none_to_go_on_from(modules: ModuleHost) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = read(session, ONE)
    modules.show(view)
    modules.wait(DONE)
    assert modules.browser.locator(".wb-table tbody tr[data-wb-position]").count() == len(words(ONE))
    modules.browser.locator(".wb-output .wb-token").nth(3).click()
    modules.wait("document.querySelectorAll('.wb-alternative').length === 6")
    assert "Choose another" not in modules.browser.locator(".wb-rest").first.inner_text()
    modules.browser.locator(".wb-alternative").nth(4).click(force=True)  # it is said to be disabled
    modules.carry()
    assert len(session.runs) == 1
    modules.browser.locator(".wb-output").first.press("Home")
    modules.wait("document.querySelector('.wb-inspector').dataset.wbToken === '0'")
    expect(modules.browser.locator(".wb-say").first).to_have_text("probability unknown")
    expect(modules.browser.locator(".wb-rest").first).to_contain_text("because no text comes before it")


def test_what_the_model_refuses_is_said_beside_the_text(modules: ModuleHost) -> None:
    allowed = "shorter than the model's context of 8192 tokens"
    session = FakeSession(tokens_per_s=5000, error=InvalidRequestError("text", "9000 tokens", allowed))
    modules.show(read(session, ONE))
    modules.wait(DONE)
    expect(modules.browser.locator(".wb-read-side [role=alert]").first).to_contain_text(f"text must be {allowed}")


def test_a_completion_begins_with_its_prompt_as_warm_as_it_was_surprising(modules: ModuleHost) -> None:
    session = FakeSession(tokens_per_s=5000)
    session.measures_prompts = True
    view = StreamView(session, mode="completion", prompt="Once upon a time")
    modules.show(view)
    run = view.start()
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'finished'")
    given = modules.browser.locator(".wb-given")
    expect(given).to_have_text("Once upon a time")
    assert modules.browser.locator(".wb-output").text_content() == f"Once upon a time{run.text}"
    assert given.locator("> *").evaluate_all("spans => spans.map((span) => span.title !== '')") == [False, *[True] * 3]
    given.locator("> *").last.click()
    modules.carry()
    assert view.feed.selected == ()
    modules.browser.locator(".wb-output").press("Home")
    modules.carry()
    assert view.feed.selected == (0,)


def test_before_the_first_token_the_page_says_what_goes_on(modules: ModuleHost) -> None:
    session = FakeSession(tokens_per_s=0)
    view = StreamView(session, prompt="Hi")
    modules.show(view)
    run = view.start()
    empty = modules.browser.locator(".wb-empty")
    for progress, said in [
        (RunProgress("loading", total=612_000_000), "Loading smollm2-135m-instruct (about 612 MB of memory) …"),
        (RunProgress("reading", 512, 1340), "Reading the prompt: 512 of 1,340 tokens …"),
    ]:
        run.progress, run.state = progress, "running"  # type: ignore[misc]
        run._tell()  # type: ignore[attr-defined]
        modules.wait(f"document.querySelector('.wb-empty').textContent.startsWith({said!r})")
    expect(empty).to_be_visible()
    run.step(10_000)  # type: ignore[attr-defined]
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'finished'")
    assert empty.count() == 0


@pytest.mark.parametrize("width", [320, 600, 1280])
def test_nothing_is_cut_at_any_width(modules: ModuleHost, width: int) -> None:
    modules.browser.set_viewport_size({"width": width, "height": 900})
    modules.show(read(FakeSession(tokens_per_s=5000), ONE * 3, OTHER * 3))
    modules.wait(DONE)
    assert modules.browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_in_jupyterlab_it_is_clean_in_every_theme_and_kept_in_the_notebook(
    open_notebook: Callable[..., NotebookPage], screenshots: Path
) -> None:
    notebook = open_notebook(CELL)
    page = notebook.page
    notebook.run_all()
    page.wait_for_selector(".wb-read[data-wb-state='done']", timeout=60_000)
    page.locator(".wb-output .wb-token").nth(7).click()
    page.get_by_role("button", name="Code", exact=True).click()
    expect(page.locator(".wb-code code")).to_contain_text("bench.read(")
    page.set_viewport_size({"width": 1280, "height": 2000})
    notebook.check_in_every_theme(".wb-read", screenshots / "read")
    page.set_viewport_size({"width": 600, "height": 3000})
    page.locator(".wb-read").last.screenshot(path=screenshots / "read-narrow.png")
    page.set_viewport_size({"width": 1280, "height": 1100})
    notebook.save()
    notebook.open()
    page.wait_for_selector(".wb-read[data-wb-state='done']", timeout=60_000)
    assert page.locator(".wb-output").all_text_contents() == [ONE, OTHER]
    assert notebook.problems == []
