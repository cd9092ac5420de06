"""The comparison in a blank page and in a real JupyterLab: what is the same, where the answers part, and how far."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import NotebookPage
from tests.unit.widgets.fake_answers import MODELS, OTHER_SEA, PARTED, SEA, AnsweringSession
from workbench.protocol import SamplingParams
from workbench.widgets import CompareView, compare

QUESTION = "Why is the sea salty?"
ALL_DONE = "[...document.querySelectorAll('.wb-compare')].every((el) => el.dataset.wbState === 'done')"

CELL = """\
from tests.unit.widgets.fake_answers import MODELS, AnsweringSession
from workbench.widgets import compare
session = AnsweringSession(tokens_per_s=30)
view = compare(session, "Why is the sea salty?", models=MODELS)
view"""


def shown(modules: ModuleHost, view: CompareView, *, times: int = 1) -> CompareView:
    for _ in range(times):
        modules.show(view)
    assert view.wait(60)
    modules.wait(ALL_DONE)
    return view


def texts(modules: ModuleHost, selector: str) -> list[str]:
    return modules.browser.locator(selector).all_text_contents()


# ----------------------------------------------------------------------------------------------------- a blank page


def test_what_is_the_same_is_quiet_and_the_first_difference_is_marked(modules: ModuleHost) -> None:
    shown(modules, compare(AnsweringSession(), QUESTION, models=MODELS))
    assert texts(modules, ".wb-output") == [SEA, OTHER_SEA]
    assert texts(modules, ".wb-compare-parted")[1:] == [" carry", " bring"]  # after that of the legend
    for letter in "AB":
        same = modules.browser.locator(f"[data-wb-side='{letter}'] .wb-output .wb-compare-same")
        assert same.count() == PARTED
    said = modules.browser.locator(".wb-compare-said")
    expect(said).to_contain_text(
        f"A and B diverge at token {PARTED + 1}: “␣carry” and “␣bring”. KL(A‖B) over 7 tokens: mean"
    )
    assert modules.browser.locator(".wb-compare-bar").count() == PARTED + 1


def test_two_views_agree_while_it_streams_and_after(modules: ModuleHost) -> None:
    view = compare(AnsweringSession(tokens_per_s=40), QUESTION, models=MODELS)
    modules.show(view)
    modules.wait("document.querySelectorAll('.wb-token').length > 6")
    shown(modules, view)
    first, second = (modules.browser.locator(".wb-compare").nth(i).inner_text() for i in range(2))
    assert first == second
    assert modules.browser.locator(".wb-compare").nth(1).locator(".wb-compare-bar").count() == PARTED + 1


def test_a_page_that_missed_messages_asks_for_everything(modules: ModuleHost) -> None:
    view = compare(AnsweringSession(tokens_per_s=15), QUESTION, models=MODELS)
    modules.show(view)
    modules.wait("document.querySelector('.wb-compare').dataset.wbDivergence === '6'")
    modules.drop()
    modules.show(view)
    modules.wait("[...document.querySelectorAll('.wb-compare')].every((el) => el.dataset.wbDivergence === '6')")
    view.stop()
    assert view.wait(60)


def test_the_keyboard_walks_all_sides_at_once_and_shows_what_each_held_possible(modules: ModuleHost) -> None:
    view = shown(modules, compare(AnsweringSession(), QUESTION, models=MODELS))
    modules.browser.get_by_role("button", name="Show first difference").press("Enter")
    modules.wait(f"document.querySelector('.wb-compare').dataset.wbPosition === '{PARTED}'")
    assert view.position == PARTED
    assert texts(modules, ".wb-output .wb-selected") == [" carry", " bring"]
    modules.wait("document.querySelectorAll('.wb-compare-candidates tbody tr').length >= 5")
    rows = texts(modules, ".wb-compare-candidates tbody th")
    assert {"␣carry", "␣bring"} <= set(rows)
    assert modules.browser.locator(".wb-compare-picked").count() == 2
    output = modules.browser.locator(".wb-output").first
    for key, expected in [("ArrowRight", 7), ("Home", 0), ("ArrowLeft", 0), ("ArrowRight", 1)]:
        output.press(key)
        modules.carry()
        assert view.position == expected
    expect(modules.browser.locator(".wb-compare p.wb-sr[role=status]")).to_contain_text("Token 2. A: ␣sea")
    output.press("Escape")
    modules.carry()
    assert modules.browser.locator(".wb-compare-candidates").is_hidden()
    view.position = 3
    modules.wait("document.querySelector('.wb-compare').dataset.wbPosition === '3'")
    expect(modules.browser.locator(".wb-compare-candidates h3")).to_contain_text("Token 4 · KL(A‖B)")


def test_the_keyboard_runs_and_stops_all_sides(modules: ModuleHost) -> None:
    session = AnsweringSession(dict.fromkeys(MODELS, "word " * 500), tokens_per_s=50)
    view = CompareView(session, models=MODELS, sampling_params=SamplingParams(max_tokens=500))
    modules.show(view)
    prompt = modules.browser.get_by_label("Prompt", exact=True)
    prompt.press("Control+Enter")
    modules.wait("!document.querySelector('.wb-error').hidden")
    expect(modules.browser.get_by_role("alert").first).to_have_text("Write a prompt first.")
    prompt.fill("Hello")
    prompt.press("Control+Enter")
    modules.wait("document.querySelector('.wb-compare').dataset.wbState === 'running'")
    modules.wait("document.querySelectorAll('.wb-token').length > 4")
    expect(modules.browser.locator(".wb-run")).to_be_disabled()
    prompt.press("Escape")
    modules.wait(ALL_DONE)
    assert [run.state for run in session.runs] == ["cancelled", "cancelled"]
    expect(modules.browser.locator(".wb-compare-foot").first).to_contain_text("stopped by you")


def test_of_a_thousand_tokens_the_strip_shows_the_peaks_and_a_bar_leads_to_its_token(modules: ModuleHost) -> None:
    modules.browser.set_viewport_size({"width": 320, "height": 900})
    view = shown(modules, compare(AnsweringSession(dict.fromkeys(MODELS, "a b c d e " * 200)), QUESTION, models=MODELS))
    slots = modules.browser.locator(".wb-compare-slot")
    assert slots.count() == 64
    (pair,) = view.differences["pairs"]
    assert pair["at"] is None
    title = str(slots.nth(40).get_attribute("title"))
    at = int(title.removeprefix("token ").partition(":")[0]) - 1
    stretch = [value for i, value in enumerate(pair["kl"]) if i * 64 // len(pair["kl"]) == 40]
    assert pair["kl"][at] == max(stretch)
    slots.nth(40).click()
    modules.wait(f"document.querySelector('.wb-compare').dataset.wbPosition === '{at}'")
    assert modules.browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("width", [320, 700, 1600])
def test_sides_stand_beside_each_other_or_below_and_nothing_is_cut(modules: ModuleHost, width: int) -> None:
    modules.browser.set_viewport_size({"width": width, "height": 900})
    view = shown(modules, compare(AnsweringSession(), QUESTION, models=MODELS))
    view.position = PARTED
    modules.wait("!document.querySelector('.wb-compare-candidates').hidden")
    assert modules.browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    tops = [box["y"] for box in _boxes(modules, ".wb-compare-side")]
    assert (tops[0] == tops[1]) == (width > 640)
    for box in _boxes(modules, ".wb-compare-side, .wb-compare-strip, .wb-compare-candidates, .wb-prompt, .wb-row"):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


def _boxes(modules: ModuleHost, selector: str) -> list[Any]:
    return [one.bounding_box() for one in modules.browser.locator(selector).all()]


def test_the_sides_of_the_next_run_are_chosen_with_the_keyboard(modules: ModuleHost) -> None:
    session = AnsweringSession()
    view = shown(modules, compare(session, QUESTION, models=MODELS))
    page = modules.browser
    titles = texts(modules, ".wb-compare-side h3")
    page.get_by_role("button", name="Add side").press("Enter")
    modules.wait("document.querySelectorAll('.wb-compare-choice').length === 3")
    page.get_by_label("Model of side C").select_option(MODELS[0])
    modules.carry()
    page.get_by_label("Precision of side C").select_option("int8")
    modules.carry()
    assert view.choices[2] == {"model": MODELS[0], "precision": "int8"}
    assert texts(modules, ".wb-compare-side h3") == titles  # what is shown was made with the sides before
    page.get_by_role("group", name="Side B").get_by_role("button", name="Sampling").press("Enter")
    modules.carry()
    page.get_by_role("group", name="Side B").get_by_label("max tokens", exact=False).first.fill("9")
    page.get_by_role("group", name="Side B").get_by_label("max tokens", exact=False).first.press("Tab")
    modules.carry()
    session.answers[f"{MODELS[0]}-int8"] = SEA
    page.get_by_role("button", name="Run", exact=False).first.press("Enter")
    modules.wait("document.querySelectorAll('.wb-compare-side').length === 3")
    shown(modules, view, times=0)
    assert texts(modules, ".wb-compare-side h3")[2] == f"C{MODELS[0]}-int8"
    assert session.calls[-2]["sampling_params"].max_tokens == 9
    assert page.get_by_label("Precision of side C").input_value() == ""
    page.get_by_role("button", name="Remove side a").press("Enter")
    modules.wait("document.querySelectorAll('.wb-compare-choice').length === 2")
    assert page.get_by_label("Model of side A").input_value() == MODELS[1]
    assert page.get_by_role("button", name="Remove side a").count() == 0
    assert len(texts(modules, ".wb-compare-side")) == 3


# ------------------------------------------------------------------------------------------------------- JupyterLab


def test_in_jupyterlab_the_divergence_is_marked_in_every_theme_and_after_a_reload(
    open_notebook: Callable[..., NotebookPage], screenshots: Path
) -> None:
    notebook = open_notebook(CELL)
    page = notebook.page
    notebook.run_all()
    box = page.locator(".wb-compare").last
    page.wait_for_selector(".wb-compare[data-wb-state='done']", timeout=60_000)
    expect(box).to_have_attribute("data-wb-divergence", notebook.python("view.divergence"))
    box.get_by_role("button", name="Show first difference").click()
    expect(box.locator(".wb-compare-picked")).to_have_count(2)
    notebook.expect_python("view.position", str(PARTED))
    box.get_by_role("button", name="Code", exact=True).click()
    expect(box.locator(".wb-code code")).to_contain_text("bench.compare(")
    box.get_by_role("group", name="Side A").get_by_role("button", name="Sampling").click()
    notebook.check_in_every_theme(".wb-compare", screenshots / "compare")
    page.set_viewport_size({"width": 480, "height": 1400})
    box.screenshot(path=screenshots / "compare-narrow.png")
    page.set_viewport_size({"width": 1280, "height": 1100})
    box.get_by_label("Prompt", exact=True).fill("And the lakes?")
    box.get_by_label("Prompt", exact=True).press("Control+Enter")
    expect(box).to_have_attribute("data-wb-state", "running")
    page.wait_for_selector(".wb-compare[data-wb-state='done']")
    notebook.expect_python("session.runs[-1].prompt[0].content", "'And the lakes?'")
    said = str(box.locator(".wb-compare-said").text_content())
    notebook.save()
    notebook.open()
    page.wait_for_selector(".wb-compare[data-wb-state='done']", timeout=60_000)
    expect(box.locator(".wb-compare-said")).to_have_text(said)
    assert box.locator(".wb-output").all_text_contents() == [SEA, OTHER_SEA]
    assert notebook.problems == []
