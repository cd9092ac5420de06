"""The attention view in a blank page and in a real JupyterLab: arcs, heads, keys, and long texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import FAKE_PLAYGROUND, NotebookPage
from tests.browser.test_saved_notebooks import SAVED, reopen_without_kernel, twins
from tests.unit.widgets.fake_insides import HEADS, LAYERS
from tests.unit.widgets.fake_session import FakeRun, FakeSession, words
from workbench.protocol import UserMessage
from workbench.widgets import AttentionView, Playground

PROMPT = [UserMessage(content="Why is the sky blue?")]
TEXT = 18
"""Number of tokens of prompt and answer."""
FRAME_MS = 50
CELL = """\
from tests.unit.widgets.fake_session import FakeRun
from workbench.widgets import AttentionView
run = FakeRun(texts=["The", " sky", " is", " blue", "."], prompt="Why is the sky blue?")
run.step(100)
view = AttentionView(run)
view.wait(60)
view"""


def ended(texts: list[str] | None = None) -> FakeRun:
    run = FakeRun(texts=texts or ["The", " sky", " is", " blue", "."], prompt=PROMPT)
    run.step(100_000)
    return run


def shown(modules: ModuleHost, view: AttentionView | None = None) -> AttentionView:
    opened = view or AttentionView(ended())
    modules.show(opened)
    expect_row(modules, opened)
    modules.wait(f"document.querySelector('.wb-attention').dataset.wbHeads === '{LAYERS}'")
    return opened


def expect_row(modules: ModuleHost, view: AttentionView) -> None:
    """Wait until the page shows the weights of the view's choice."""
    modules.carry()
    assert view.wait(60)
    row = f"{view.layer} {view.head} {view.position}"
    modules.wait(f"document.querySelector('.wb-attention').dataset.wbRow === '{row}'")


def line(modules: ModuleHost) -> Locator:
    return modules.browser.get_by_role("listbox", name="Tokens of prompt and answer")


def grid(modules: ModuleHost) -> Locator:
    return modules.browser.get_by_role("grid", name="Heads")


def test_arcs_go_from_the_chosen_token_to_those_that_it_attends_to(modules: ModuleHost, screenshots: Path) -> None:
    view = shown(modules)
    page = modules.browser
    options = line(modules).get_by_role("option")
    expect(options).to_have_count(TEXT)
    assert options.nth(TEXT - 2).text_content() == "␣blue"
    line(modules).get_by_text("␣sky", exact=True).last.click()
    expect_row(modules, view)
    assert view.position == TEXT - 4
    assert view.feed.selected == (1,)
    weights = view.row["weights"]
    assert len(weights) == TEXT - 3
    arcs = page.locator(".wb-arcs path")
    expect(arcs).to_have_count(len(weights))  # a part of the head is spread evenly
    last = arcs.last  # the strongest is drawn over the others
    expect(last).to_have_attribute("data-wb-position", "0")
    options.first.hover()
    expect(page.get_by_role("tooltip")).to_have_text(f"<|im_start|> token 1: {100 * weights[0]:.1f} %")
    options.last.hover()
    expect(page.get_by_role("tooltip")).to_have_text(f". token {TEXT}, after the chosen one")
    at = last.evaluate(
        "(one) => { const { x, y } = one.getPointAtLength(40).matrixTransform(one.getScreenCTM()); return [x, y]; }"
    )
    page.mouse.move(*at)
    expect(page.get_by_role("tooltip")).to_contain_text("token 1:")
    widths = arcs.evaluate_all("(all) => all.map((one) => Number(one.getAttribute('stroke-width')))")
    assert widths == sorted(widths)
    ends = last.evaluate("(one) => { const end = one.getPointAtLength(0); return [end.x, one.getBBox().width]; }")
    boxes = [options.nth(at).evaluate("(one) => one.offsetLeft + one.offsetWidth / 2") for at in (0, TEXT - 4)]
    assert ends[0] == pytest.approx(boxes[0], abs=1)
    assert ends[1] == pytest.approx(boxes[1] - boxes[0], abs=8)
    expect(page.locator(".wb-attention-said")).to_contain_text(
        f"Token {TEXT - 3} “␣sky” in layer 0, head 0 attends most to “<|im_start|>” {100 * weights[0]:.1f} %"
    )
    expect(page.locator(".wb-attention-note")).to_have_text(
        "Derived: the weights are computed again from the queries and keys of this run."
    )
    rows = page.get_by_role("region", name="Attention weights").locator("tbody tr")
    expect(rows.first).to_have_text(f"1<|im_start|>{100 * weights[0]:.1f} %")
    page.screenshot(path=screenshots / "attention.png", full_page=True)


def test_arrows_walk_tokens_and_heads_and_enter_chooses_a_head(modules: ModuleHost) -> None:
    view = shown(modules)
    for key, position in [("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", TEXT - 1)]:
        line(modules).press(key)
        expect_row(modules, view)
        assert view.position == position, key
    chosen = line(modules).evaluate("(one) => document.getElementById(one.getAttribute('aria-activedescendant'))")
    assert chosen is not None
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowDown"):
        grid(modules).press(key)
    assert (view.layer, view.head) == (0, 0)
    grid(modules).press("Enter")
    expect_row(modules, view)
    assert (view.layer, view.head) == (1, 1)
    assert view.row["weights"][TEXT - 2] > 0.5  # head 1 looks at the previous token
    expect(grid(modules).locator("[aria-selected=true]")).to_have_attribute("data-wb-row", "1")
    grid(modules).locator("[data-wb-row='5'][data-wb-column='3']").click()
    expect_row(modules, view)
    assert (view.layer, view.head) == (5, 3)


def test_the_grid_shows_one_of_three_numbers_of_each_head(modules: ModuleHost) -> None:
    view = shown(modules)
    page = modules.browser
    cells = grid(modules).get_by_role("gridcell")
    expect(cells).to_have_count(LAYERS * HEADS)
    first = int(cells.first.text_content() or "")
    assert first > 90
    said = page.locator(".wb-heads-said")
    expect(said).to_have_text(f"Share on the first token, in percent; mean over the last {TEXT - 1} tokens.")
    page.get_by_role("radio", name="Previous token").check()
    modules.carry()
    assert view.measure == "previous"
    assert int(cells.nth(1).text_content() or "") > 90
    page.get_by_role("radio", name="Entropy").check()
    expect(said).to_have_text(f"Entropy, in bits; mean over the last {TEXT - 1} tokens.")
    assert float(cells.nth(3).text_content() or "") > 2
    view.feed.unit = "nats"
    modules.carry()
    expect(said).to_contain_text("in nats")


def test_a_token_selected_in_the_playground_is_the_one_with_arcs(modules: ModuleHost) -> None:
    session = FakeSession(["The", " sky", " is", " blue", "."], tokens_per_s=1e6)
    opened = Playground(session)
    modules.show(opened)
    opened.start("Why?")
    assert opened.wait(60)
    modules.carry()
    assert opened.attention.shape == []  # nothing is read while the tab is closed
    modules.browser.get_by_role("tab", name="Attention").click()
    expect_row(modules, opened.attention)
    opened.selected = 3
    expect_row(modules, opened.attention)
    expect(line(modules).locator("[aria-selected=true]")).to_have_text("␣blue")


def test_a_closed_model_is_told_and_what_was_read_stays(modules: ModuleHost) -> None:
    run = ended()
    view = shown(modules, AttentionView(run))
    insides = run.inspector.insides
    assert insides is not None
    insides.is_closed = True
    line(modules).press("Home")
    modules.carry()
    assert view.wait(60)
    modules.carry()
    expect(modules.browser.locator(".wb-attention-message")).to_have_text(
        "Attention cannot be shown: the model of this run was closed, so it cannot be looked into."
    )
    expect(grid(modules)).to_be_visible()
    insides.is_closed = False
    line(modules).press("ArrowRight")
    expect_row(modules, view)
    expect(modules.browser.locator(".wb-attention-message")).to_be_hidden()


def test_thousands_of_tokens_take_no_long_frame(modules: ModuleHost) -> None:
    view = shown(modules, AttentionView(ended(words("one two three four " * 1_250))))
    page = modules.browser
    assert line(modules).get_by_role("option").count() < 200
    page.evaluate(
        """() => {
          window.slow = [];
          new PerformanceObserver((list) => window.slow.push(...list.getEntries().map((one) => one.duration)))
            .observe({ type: "longtask" });
        }"""
    )
    for key in ("Home", "ArrowRight", "End", "ArrowLeft", "ArrowLeft"):
        line(modules).press(key)
        expect_row(modules, view)
    for left in (0, 40_000, 120_000):
        page.locator(".wb-line").evaluate("(one, left) => { one.scrollLeft = left; }", left)
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert line(modules).get_by_role("option").count() < 200
    assert page.locator(".wb-arcs path").count() <= 24
    assert [duration for duration in page.evaluate("window.slow") if duration > FRAME_MS] == []


@pytest.mark.parametrize("width, scheme", [(320, "light"), (1090, "dark")])
def test_it_fits_every_width(modules: ModuleHost, screenshots: Path, width: int, scheme: str) -> None:
    modules.browser.set_viewport_size({"width": width, "height": 900})
    modules.browser.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    shown(modules, AttentionView(ended(["W" * 300, " b", "\n", "שלום", " c"])))
    assert modules.browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    modules.browser.screenshot(path=screenshots / f"attention-{width}-{scheme}.png", full_page=True)


def test_in_jupyterlab_it_passes_axe_in_every_theme_and_is_reopened_as_it_was(
    open_notebook: Callable[..., NotebookPage], screenshots: Path
) -> None:
    notebook = open_notebook(CELL)
    notebook.run_all()
    box = notebook.page.locator(".wb-attention").last
    expect(box).to_have_attribute("data-wb-heads", str(LAYERS), timeout=60_000)
    tokens = box.get_by_role("listbox")
    tokens.press("Home")
    tokens.press("End")
    notebook.expect_python("view.position", "9")
    notebook.check_in_every_theme(".wb-attention", screenshots / "attention")
    notebook.save()
    assert any('class="wb-arcs"' in twin and "head 3" in twin for twin in twins(notebook))
    reopen_without_kernel(notebook)
    expect(box.locator(".wb-notice")).to_have_text(SAVED)
    expect(tokens.get_by_role("option")).to_have_count(10)
    expect(box.locator(".wb-arcs path")).to_have_count(10)
    assert notebook.serious_findings(".wb-attention") == []
    assert notebook.problems == []


def test_the_tab_of_the_playground_draws_in_jupyterlab(
    open_notebook: Callable[..., NotebookPage], screenshots: Path
) -> None:
    notebook = open_notebook(FAKE_PLAYGROUND.format(tokens_per_s=2000), "pg.start('Why is the sky blue?')\npg.wait(60)")
    notebook.run_all()
    notebook.playground.get_by_role("tab", name="Attention").click()
    expect(notebook.playground.locator(".wb-arcs path").first).to_be_attached(timeout=60_000)
    notebook.playground.screenshot(path=screenshots / "attention-tab.png")
    assert notebook.serious_findings(".wb-playground") == []
    assert notebook.problems == []
