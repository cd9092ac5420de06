"""The attribution view in a blank page and in a real JupyterLab: marks, keys, chunks, and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import NotebookPage
from tests.browser.test_saved_notebooks import SAVED, reopen_without_kernel, twins
from tests.unit.widgets.fake_attribution import ANSWER, FakeAskedRun, attributed, chunk, large
from tests.unit.widgets.fake_session import wait_until
from workbench.widgets import AttributionView

CELL = """\
from tests.unit.widgets.fake_attribution import attributed
from workbench.widgets import AttributionView
view = AttributionView(attributed())
view"""


def shown(modules: ModuleHost, view: AttributionView | None = None) -> AttributionView:
    opened = view or AttributionView(attributed())
    modules.show(opened)
    return opened


def cites(modules: ModuleHost) -> dict[str, str]:
    """What stands over which word."""
    marked = modules.browser.locator(".wb-output [data-wb-cite]")
    pairs = marked.evaluate_all("(all) => all.map((one) => [one.textContent.trim(), one.dataset.wbCite])")
    return dict(pairs)


def output(modules: ModuleHost) -> Locator:
    return modules.browser.get_by_role("group", name="Answer, marked by chunk")


def expect_chosen(modules: ModuleHost, view: AttributionView, index: int | None) -> None:
    modules.carry()
    assert view.chosen == index


def test_each_stretch_has_the_number_of_the_chunk_that_raised_it_and_a_strength(modules: ModuleHost) -> None:
    shown(modules)
    expect(output(modules)).to_have_text(ANSWER)
    assert cites(modules) == {"observatory": "3", "opens": "1", "nine": "1", "Fridays,": "1", "Marta": "2", "key.": "2"}
    expect(modules.browser.locator(".wb-attribution-said")).to_have_text(
        "7 of 13 tokens are at least 1.5 times as probable because of a chunk."
    )
    width = "(one) => parseFloat(one.style.getPropertyValue('--wb-u'))"
    thin, thick = (output(modules).get_by_text(word, exact=True).evaluate(width) for word in ("opens", "Marta"))
    assert 1 <= thin < thick <= 3
    drawn = "(one) => getComputedStyle(one).boxShadow"
    assert "inset" in output(modules).get_by_text("Marta", exact=True).evaluate(drawn)
    assert output(modules).get_by_text("keeps", exact=True).evaluate(drawn).endswith("0px 0px 0px inset")


def test_a_chunk_under_the_pointer_shows_what_it_raised_and_lowered(modules: ModuleHost) -> None:
    view = shown(modules)
    page = modules.browser
    before = cites(modules)
    box = output(modules).bounding_box()
    page.locator(".wb-chunk").nth(2).hover()
    assert cites(modules) == {"observatory": "↑", "nine": "↓", "Marta": "↓"}
    expect(page.locator(".wb-attribution-legend")).to_contain_text("↑ raised by [3] history.md, ↓ lowered by it")
    lines = "(one) => getComputedStyle(one).textDecorationStyle"
    assert output(modules).get_by_text("nine", exact=True).evaluate(lines) == "dashed"
    assert output(modules).get_by_text("observatory", exact=True).evaluate(lines) == "solid"
    assert output(modules).bounding_box() == box  # marks take no room
    page.mouse.move(2, 2)
    assert cites(modules) == before
    modules.carry()
    assert view.chosen is None


def test_a_chunk_is_chosen_by_click_key_and_from_python_and_unfolds_its_text(modules: ModuleHost) -> None:
    view = shown(modules)
    page = modules.browser
    third = page.locator(".wb-chunk").nth(2)
    text, button = third.locator(".wb-chunk-text"), third.get_by_role("button")
    expect(text).to_have_text(re.compile("…$"))
    button.click()
    expect_chosen(modules, view, 2)
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("region", name="Text of chunk 3")).to_have_text(str(view.chunks[2]["text"]).strip())
    page.mouse.move(2, 2)
    button.blur()
    assert cites(modules)["nine"] == "↓"  # it stays
    button.press("Enter")
    expect_chosen(modules, view, None)
    assert cites(modules)["nine"] == "1"  # also under the focus
    view.chosen = 0
    modules.carry()
    assert cites(modules) == {"opens": "↑", "nine": "↑", "Fridays,": "↑"}
    expect(page.locator(".wb-chunk").first.get_by_role("button")).to_have_attribute("aria-pressed", "true")


def test_tokens_are_walked_by_keyboard_and_told_in_words(modules: ModuleHost) -> None:
    view = shown(modules)
    page = modules.browser
    text = output(modules)
    walked = [("ArrowRight", 0), ("ArrowRight", 1), ("End", 12), ("ArrowLeft", 11), ("Home", 0), ("n", 1), ("n", 2)]
    for key, expected in [*walked, ("p", 1), ("p", 12), ("n", 1), ("n", 2), ("n", 4)]:
        text.press(key)
        modules.carry()
        assert view.selected == expected, key
    said = page.locator(".wb-attribution-token [role=status]")
    expect(said).to_have_text("Token 5 of 13: nine. 89.5 %. Raised most by [1] hours.md: +3.40 nats (×30.0).")
    rows = page.locator(".wb-attribution-token tbody tr")
    expect(rows).to_have_text(
        ["[1]hours.md+3.40 nats×30.0", "[2]staff.md0.00 nats×1.00", "[3]history.md−1.10 nats×0.333"]
    )
    expect(rows.first).to_have_class("wb-strongest")
    page.get_by_role("radio", name="bits").check()
    modules.carry()
    assert view.unit == "bits"
    expect(rows.first).to_have_text("[1]hours.md+4.91 bits×30.0")
    expect(page.locator(".wb-chunk-total").first).to_have_text("+8.66 bits")
    text.press("Enter")
    expect(page.locator(".wb-chunk").first.get_by_role("button")).to_be_focused()
    text.press("Escape")
    modules.carry()
    assert view.selected is None
    expect(said).to_be_empty()


def test_tab_reaches_the_text_once_and_each_chunk_and_arrows_move_between_chunks(modules: ModuleHost) -> None:
    view = shown(modules)
    page = modules.browser
    stops = []
    page.locator("body").click(position={"x": 1, "y": 1})
    for _ in range(5):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.className || document.activeElement.type"))
    assert stops == ["radio", "wb-output", "wb-chunk-head", "wb-chunk-head", "wb-chunk-head"]
    assert cites(modules)["nine"] == "↓"  # the focus shows what a chunk did
    page.keyboard.press("ArrowUp")
    assert cites(modules) == {"Marta": "↑", "key.": "↑"}
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    expect_chosen(modules, view, 2)
    page.keyboard.press("Escape")
    expect_chosen(modules, view, None)


def test_a_click_on_a_token_selects_it_and_the_pointer_brings_up_its_cause(modules: ModuleHost) -> None:
    view = shown(modules)
    output(modules).get_by_text("Marta", exact=True).click()
    modules.carry()
    assert view.selected == 8
    output(modules).get_by_text("nine", exact=True).hover()
    expect(modules.browser.get_by_role("tooltip")).to_have_text("nine 89.5 %; [1] hours.md: +3.40 nats (×30.0)")
    output(modules).get_by_text("keeps", exact=True).hover()
    expect(modules.browser.get_by_role("tooltip")).to_have_text(re.compile(r"^keeps [\d.]+ %$"))


def test_measuring_says_so_and_can_be_given_up_and_begun_again(modules: ModuleHost) -> None:
    run = FakeAskedRun(done=False)
    view = shown(modules, AttributionView(run))
    page = modules.browser
    said = page.locator(".wb-attribution-said")
    expect(said).to_have_text("Waiting for the end of the answer …")
    expect(page.locator(".wb-attribution-columns")).to_be_hidden()
    run.end()
    modules.wait("document.querySelector('.wb-attribution').dataset.wbState === 'measuring'")
    expect(said).to_have_text("Measuring: the model reads the answer again without each of the 3 chunks …")
    expect(output(modules)).to_have_text(ANSWER)
    assert cites(modules) == {}
    output(modules).press("Home")
    expect(page.locator(".wb-attribution-rows")).to_be_hidden()
    page.get_by_role("button", name="Stop").press("Enter")
    modules.wait("document.querySelector('.wb-attribution').dataset.wbState === 'stopped'")
    assert run.futures[0].cancelled()
    again = page.get_by_role("button", name="Measure", exact=True)
    expect(again).to_be_focused()
    again.click()
    modules.carry()
    wait_until(lambda: len(run.futures) == 2)
    run.measure()
    assert view.wait(60)
    modules.wait("document.querySelector('.wb-attribution').dataset.wbState === 'done'")
    assert len(cites(modules)) == 6
    expect(page.locator(".wb-attribution-rows")).to_be_visible()
    expect(page.locator(".wb-attribution-ask button:visible")).to_have_count(0)


def test_an_error_is_announced_in_words(modules: ModuleHost) -> None:
    run = FakeAskedRun()
    view = shown(modules, AttributionView(run))
    wait_until(lambda: len(run.futures) == 1)
    run.futures[0].set_exception(RuntimeError("the server is gone"))
    assert view.wait(60)
    modules.carry()
    expect(modules.browser.get_by_role("alert")).to_have_text("The attribution cannot be measured: the server is gone.")
    expect(modules.browser.get_by_role("button", name="Measure", exact=True)).to_be_visible()


def test_a_step_through_thousands_of_tokens_draws_two_of_them_and_a_hover_those_that_change(
    modules: ModuleHost,
) -> None:
    view = AttributionView(large(2_000, 20))
    shown(modules, view)
    page = modules.browser
    assert page.locator(".wb-output .wb-token").count() == 2_000
    assert page.locator(".wb-chunk").count() == 20
    assert page.locator(".wb-output").evaluate("(one) => one.scrollTop") == 0  # an answer is read from its start
    page.evaluate(
        """() => {
          window.touched = new Set();
          const text = document.querySelector(".wb-output");
          new MutationObserver((all) => all.forEach(({ target }) => target !== text && window.touched.add(
            target.closest("[data-wb-position]")))).observe(text, { attributes: true, childList: true, subtree: true });
        }"""
    )
    touched = "() => { const count = window.touched.size; window.touched.clear(); return count; }"
    output(modules).press("End")
    output(modules).press("ArrowLeft")
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert page.evaluate(touched) == 2
    modules.carry()
    assert view.selected == 1_998
    page.locator(".wb-chunk").nth(3).get_by_role("button").focus()
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert page.evaluate(touched) == 2_000
    page.locator(".wb-chunk").nth(3).get_by_role("button").press("Enter")
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert page.evaluate(touched) == 0  # they are drawn already
    assert page.get_by_role("region", name="Changes by chunk").locator("tbody tr").count() == 20


@pytest.mark.parametrize("width", [320, 1090])
def test_it_fits_every_width_whatever_its_chunks_say(modules: ModuleHost, screenshots: Path, width: int) -> None:
    modules.browser.set_viewport_size({"width": width, "height": 700})
    texts = ["W" * 10_000, "שלום עולם\n" * 40, "plain"]
    chunks = [chunk("n" * 10_000, texts[0]), chunk("עברית.md", texts[1]), chunk("", texts[2])]
    view = shown(modules, AttributionView(attributed(["W" * 300, " b", "\n", " c"], chunks, {(0, 0): 3, (1, 1): 2})))
    view.selected, view.chosen = 0, 0
    modules.carry()
    assert modules.browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    expect(modules.browser.get_by_role("region", name="Text of chunk 1")).to_have_text(texts[0])
    side = "(one) => getComputedStyle(one).direction"
    assert modules.browser.locator(".wb-chunk-text").nth(1).evaluate(side) == "rtl"
    modules.browser.screenshot(path=screenshots / f"attribution-{width}.png", full_page=True)


def test_in_jupyterlab_it_passes_axe_in_every_theme_and_is_reopened_as_it_was(
    open_notebook: Callable[..., NotebookPage], screenshots: Path
) -> None:
    notebook = open_notebook(CELL)
    notebook.run_all()
    box = notebook.page.locator(".wb-attribution").last
    text = box.get_by_role("group", name="Answer, marked by chunk")
    expect(text).to_have_text(ANSWER, timeout=60_000)
    text.press("Home")
    text.press("n")
    notebook.expect_python("view.selected", "1")
    box.get_by_role("button", name="history.md").click()
    notebook.expect_python("view.chosen", "2")
    notebook.check_in_every_theme(".wb-attribution", screenshots / "attribution")
    notebook.save()
    assert any("<sup>2</sup>" in twin for twin in twins(notebook))
    reopen_without_kernel(notebook)
    expect(box.locator(".wb-notice")).to_have_text(SAVED)
    expect(text).to_have_text(ANSWER)
    expect(box.locator(".wb-attribution-token h3")).to_have_text("Token 2 of 13")
    text.press("End")
    expect(box.locator(".wb-attribution-token h3")).to_have_text("Token 13 of 13")
    box.get_by_role("button", name="hours.md").click()
    expect(box.locator(".wb-output [data-wb-cite]")).to_have_count(3)
    assert notebook.serious_findings(".wb-attribution") == []
    assert notebook.problems == []
