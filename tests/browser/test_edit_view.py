"""The edit view in a blank page and in a real JupyterLab: ablation, patching by drag and by keyboard, steering."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import NotebookPage
from tests.browser.test_saved_notebooks import SAVED, reopen_without_kernel, twins
from tests.unit.widgets.fake_insides import HEADS, LAYERS
from tests.unit.widgets.fake_session import FakeRun, FakeSession, words
from workbench.widgets import EditView, Playground, RunFeed

PROMPT = "Why is the sky blue?"
PROMPT_TOKENS = 5
ANSWER = ["The", " sky", " is", " very", " blue", "."]
CELL_WIDTH, CELL_HEIGHT = 46, 12
FRAME_MS = 50
CELL = """\
from tests.unit.widgets.fake_session import FakeSession
from workbench.widgets import EditView
session = FakeSession(["The", " sky", " is", " very", " blue", "."], tokens_per_s=2000)
run = session.completion("Why is the sky blue?")
run.wait(60)
view = EditView(run, session=session)
view.wait(60)
view.ablate("head", 2, 1)
view.start()
view.wait(60)
view"""


def opened(modules: ModuleHost, texts: list[str] | None = None, **options: Any) -> tuple[EditView, FakeSession]:
    session = FakeSession(texts or ANSWER, tokens_per_s=1e6)
    run = session.completion(PROMPT)
    assert run.wait(60)
    view = EditView(run, session=session, **options)
    modules.show(view)
    settle(modules, view)
    expect(modules.browser.locator(".wb-edit-form")).to_be_visible()
    return view, session


def settle(modules: ModuleHost, view: EditView) -> None:
    modules.carry()
    assert view.wait(60)
    modules.carry()
    modules.carry()


def part(modules: ModuleHost, row: int, column: int) -> Locator:
    grid = modules.browser.get_by_role("grid", name="Parts of the layers")
    return grid.locator(f"[data-wb-row='{row}'][data-wb-column='{column}']")


def press(modules: ModuleHost, view: EditView, name: str) -> None:
    modules.browser.get_by_role("button", name=name).locator("visible=true").click()
    settle(modules, view)


def changes(modules: ModuleHost) -> list[str]:
    return modules.browser.locator(".wb-edit-changes li > span").all_text_contents()


def spot_of(modules: ModuleHost, name: str, layer: int, position: int) -> tuple[float, float]:
    """The middle of a cell in the window."""
    box = modules.browser.get_by_role("group", name=name).bounding_box()
    assert box is not None
    return box["x"] + (position + 0.5) * CELL_WIDTH, box["y"] + (LAYERS - layer - 0.5) * CELL_HEIGHT


def test_a_part_is_ablated_by_click_and_the_edited_run_is_shown_beside_the_original(
    modules: ModuleHost, screenshots: Path
) -> None:
    view, session = opened(modules)
    page = modules.browser
    part(modules, 2, 4).click()
    expect(page.locator(".wb-edit-ablate .wb-edit-said")).to_have_text("Zero head 1 of layer 2, all tokens.")
    press(modules, view, "Add change")
    part(modules, 3, 2).click()
    page.get_by_role("radio", name="Mean").check()
    page.get_by_role("radio", name="One token").check()
    page.get_by_role("listbox", name="Token to change").get_by_text("␣sky", exact=True).first.click()
    press(modules, view, "Add change")
    assert changes(modules) == view.changes
    assert view.changes == ["Zero head 1 of layer 2: all tokens", "Mean of MLP of layer 3: token 4 “␣sky”"]
    press(modules, view, "Run with changes")
    edits = view.edited.request.edits
    assert [(one.point, one.operation, one.head, one.start, one.stop) for one in edits] == [
        ("z.2", "scale", 1, 0, None),
        ("mlp_out.3", "set", None, 3, 4),
    ]
    assert edits[1].value == pytest.approx([(PROMPT_TOKENS + len(ANSWER) - 1) / 2 + 3] * 8)  # the mean over the text
    expect(page.locator(".wb-compare-side h3")).to_have_text([re.compile("^A"), re.compile("^B")])
    expect(page.locator(".wb-compare-side[data-wb-side=B] .wb-compare-parted")).to_have_text(" isn")
    said = page.locator(".wb-compare-said p")
    expect(said.first).to_contain_text("A and B diverge at token 3")
    expect(said.last).to_contain_text(f"KL(A‖C) over {len(ANSWER)} tokens")
    expect(page.locator(".wb-compare-strip")).to_have_count(2)
    assert len(session.runs) == 3
    page.screenshot(path=screenshots / "edit-ablate.png", full_page=True)
    page.get_by_role("button", name="Remove: Zero head 1").click()
    settle(modules, view)
    assert changes(modules) == ["Mean of MLP of layer 3: token 4 “␣sky”"]
    expect(page.get_by_role("button", name="Remove: Mean")).to_be_focused()


def test_parts_are_chosen_with_the_keyboard_alone(modules: ModuleHost) -> None:
    view, _ = opened(modules)
    grid = modules.browser.get_by_role("grid", name="Parts of the layers")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "Enter"):
        grid.press(key)
    modules.browser.get_by_role("button", name="Add change").locator("visible=true").press("Enter")
    settle(modules, view)
    assert view.changes == ["Zero MLP of layer 1: all tokens"]


@pytest.fixture
def patching(modules: ModuleHost) -> EditView:
    """A view whose source is the reading of a second prompt."""
    view, _ = opened(modules)
    page = modules.browser
    page.get_by_role("radio", name="Patch").check()
    page.get_by_label("Second prompt").fill("Why is the sea green?")
    page.get_by_label("Second prompt").press("Enter")
    settle(modules, view)
    expect(page.locator(".wb-plane-tokens").first.get_by_text("␣sea", exact=True)).to_be_visible()
    return view


def test_a_cell_is_dragged_from_one_run_to_another_and_its_cone_is_shaded(
    modules: ModuleHost, patching: EditView, screenshots: Path
) -> None:
    page = modules.browser
    start = spot_of(modules, "Cell to take", 3, 3)
    end = spot_of(modules, "Cell to set", 3, 4)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + 20, start[1] + 5)
    page.mouse.move(*end, steps=8)
    expect(page.locator(".wb-edit-ghost")).to_have_text("Layer 3, token 4 “␣sea”")
    cone = page.locator(".wb-cone").last
    expect(cone).to_be_visible()
    box, plane = cone.bounding_box(), page.get_by_role("group", name="Cell to set").bounding_box()
    assert box is not None
    assert plane is not None
    assert box["height"] == (LAYERS - 4) * CELL_HEIGHT  # the layers above
    assert box["x"] - plane["x"] == 4 * CELL_WIDTH  # the token and those after it
    assert box["width"] == (PROMPT_TOKENS + len(ANSWER) - 4) * CELL_WIDTH
    page.screenshot(path=screenshots / "edit-patch-drag.png", full_page=True)
    page.mouse.up()
    settle(modules, patching)
    expect(page.locator(".wb-edit-ghost")).to_have_count(0)
    assert patching.changes == ["Patch layer 3, token 5 “␣blue?” with run-2, layer 3, token 4 “␣sea”"]
    press(modules, patching, "Run with changes")
    (edit,) = patching.edited.request.edits
    assert (edit.point, edit.operation, edit.start, edit.stop) == ("resid_post.3", "set", 4, 5)
    assert edit.value == [6.0] * 8  # the numbers of the other run at layer 3 and position 3
    expect(page.locator(".wb-compare-side")).to_have_count(2)


def test_a_drop_beside_the_grid_and_a_cancelled_drag_change_nothing(modules: ModuleHost, patching: EditView) -> None:
    page = modules.browser
    for is_cancelled in (False, True):
        page.mouse.move(*spot_of(modules, "Cell to take", 3, 3))
        page.mouse.down()
        page.mouse.move(*(spot_of(modules, "Cell to set", 3, 1) if is_cancelled else (5, 5)), steps=4)
        if is_cancelled:
            page.keyboard.press("Escape")
        page.mouse.up()
        settle(modules, patching)
        assert patching.changes == []
        expect(page.locator(".wb-edit-ghost")).to_have_count(0)


def test_a_patch_is_made_with_the_keyboard_alone(modules: ModuleHost, patching: EditView) -> None:
    page = modules.browser
    source, target = (page.get_by_role("group", name=name) for name in ("Cell to take", "Cell to set"))
    for key in ("Home", "ArrowRight", "ArrowUp"):
        source.press(key)
    expect(page.locator(".wb-plane-said").first).to_have_text("Layer 4, token 2 “␣is”")
    source.press("Enter")
    expect(target).to_be_focused()
    for key in ("End", "ArrowLeft", "ArrowUp", "ArrowUp", "Enter"):
        target.press(key)
    settle(modules, patching)
    assert patching.changes == ["Patch layer 2, token 10 “␣blue” with run-2, layer 4, token 2 “␣is”"]
    for key in ("ArrowLeft", "ArrowRight"):
        target.press(key)
    press(modules, patching, "Add change")
    assert len(patching.changes) == 1  # the same cell is set once


def test_a_run_of_the_feed_can_be_patched_from(modules: ModuleHost) -> None:
    view, session = opened(modules)
    other = session.completion("Is it green?")
    assert other.wait(60)
    view.feed.follow(other)
    settle(modules, view)
    page = modules.browser
    page.get_by_role("radio", name="Patch").check()
    choice = page.get_by_label("Run to patch from")
    expect(choice.locator("option")).to_have_text(
        ["Choose a run …", "run-1: Why is the sky blue?", "run-2: Is it green?"]
    )
    choice.select_option("run-1")
    settle(modules, view)
    assert view.source["labels"] == [*words(PROMPT), *ANSWER]


def test_steering_has_two_sets_of_texts_a_layer_and_a_factor(modules: ModuleHost, screenshots: Path) -> None:
    view, session = opened(modules)
    page = modules.browser
    page.get_by_role("radio", name="Steer").check()
    press(modules, view, "Add change")
    expect(page.get_by_role("alert")).to_have_text("Write texts to steer towards and away from.")
    page.get_by_role("textbox", name="Towards").fill("I love it.\nWonderful!")
    page.get_by_role("textbox", name="Away").fill("I hate it.")
    page.get_by_role("spinbutton", name="After layer").fill("2")
    slider = page.get_by_role("slider", name="Factor")
    slider.press("ArrowRight")
    expect(page.locator(".wb-steer-factor")).to_have_text("4.5")
    press(modules, view, "Add change")
    assert changes(modules) == ["Steer after layer 2: +4.5 × (“I love it. / Wonderful!” − “I hate it.”)"]
    slider.press("ArrowLeft")
    press(modules, view, "Add change")
    assert len(changes(modules)) == 1  # the factor of the change is another one
    page.get_by_role("spinbutton", name="After layer").fill("99")
    press(modules, view, "Add change")
    expect(page.get_by_role("alert")).to_have_text(f"This model has no layer 99. Its layers are 0 to {LAYERS - 1}.")
    press(modules, view, "Run with changes")
    (edit,) = view.edited.request.edits
    assert (edit.point, edit.operation, edit.value) == ("resid_post.2", "add", [40.0] * 8)
    asked = [call for call in session.calls if call["method"] == "steering_vector"]
    assert asked == [
        {
            "method": "steering_vector",
            "towards": ["I love it.", "Wonderful!"],
            "away": ["I hate it."],
            "point": "resid_post.2",
        }
    ]
    page.screenshot(path=screenshots / "edit-steer.png", full_page=True)


def test_a_closed_model_is_told_and_the_changes_stay(modules: ModuleHost) -> None:
    view, session = opened(modules)
    part(modules, 0, 0).click()
    modules.browser.get_by_role("radio", name="Mean").check()
    press(modules, view, "Add change")
    insides = session.runs[0].inspector.insides
    assert insides is not None
    insides.is_closed = True
    press(modules, view, "Run with changes")
    expect(modules.browser.get_by_role("alert")).to_have_text(
        "The changes could not be computed: the model of this run was closed, so it cannot be looked into."
    )
    assert changes(modules) == ["Mean of all that layer 0 adds: all tokens"]
    insides.is_closed = False
    press(modules, view, "Run with changes")
    expect(modules.browser.get_by_role("alert")).to_be_hidden()
    expect(modules.browser.locator(".wb-compare-side")).to_have_count(2)


def test_thousands_of_tokens_take_no_long_frame(modules: ModuleHost) -> None:
    view, _ = opened(modules, words("one two three four " * 1_250))
    page = modules.browser
    page.evaluate(
        """() => {
          window.slow = [];
          new PerformanceObserver((list) => window.slow.push(...list.getEntries().map((one) => one.duration)))
            .observe({ type: "longtask" });
        }"""
    )
    page.get_by_role("radio", name="One token").check()
    page.get_by_role("listbox", name="Token to change").press("Home")
    page.get_by_role("radio", name="Patch").check()
    settle(modules, view)
    target = page.get_by_role("group", name="Cell to set")
    for key in ("End", "ArrowUp", "Home", "ArrowRight"):
        target.press(key)
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    for left in (20_000, 100_000):
        page.locator(".wb-plane-scroller").last.evaluate("(one, left) => { one.scrollLeft = left; }", left)
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.locator(".wb-plane-tokens span").count() < 200
    assert [duration for duration in page.evaluate("window.slow") if duration > FRAME_MS] == []


@pytest.mark.parametrize("mode", ["ablate", "patch", "steer"])
def test_it_fits_a_narrow_page(modules: ModuleHost, screenshots: Path, mode: str) -> None:
    modules.browser.set_viewport_size({"width": 320, "height": 900})
    view, session = opened(modules, ["W" * 300, " b", "\n", "שלום", " c"])
    view.mode = mode
    view.ablate("head", 2, HEADS - 1)
    view.start()
    settle(modules, view)
    assert modules.browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    modules.browser.screenshot(path=screenshots / f"edit-320-{mode}.png", full_page=True)
    assert len(session.runs) == 3


def test_in_the_playground_it_is_a_tab_that_reads_nothing_until_it_is_opened(modules: ModuleHost) -> None:
    shown = Playground(FakeSession(ANSWER, tokens_per_s=1e6))
    modules.show(shown)
    shown.start(PROMPT)
    assert shown.wait(60)
    modules.carry()
    assert shown.edits.shape == []
    modules.browser.get_by_role("tab", name="Edit").click()
    settle(modules, shown.edits)
    assert shown.edits.shape == [LAYERS, HEADS]
    expect(modules.browser.locator(".wb-edit-form")).to_be_visible()


def test_without_a_run_or_a_model_here_it_says_so(modules: ModuleHost) -> None:
    view = EditView(feed=RunFeed())
    modules.show(view)
    expect(modules.browser.locator(".wb-edit-message")).to_have_text("No run yet.")
    run = FakeRun(texts=ANSWER)
    run.step(100)
    run.inspector = None  # type: ignore[assignment]
    view.feed.follow(run)
    settle(modules, view)
    expect(modules.browser.locator(".wb-edit-message")).to_have_text(
        "Edits are not available: only models in this process can be changed inside."
    )
    expect(modules.browser.locator(".wb-edit-form")).to_be_hidden()


def test_in_jupyterlab_it_passes_axe_in_every_theme_and_is_reopened_as_it_was(
    open_notebook: Callable[..., NotebookPage], screenshots: Path
) -> None:
    notebook = open_notebook(CELL)
    notebook.run_all()
    box = notebook.page.locator(".wb-edit").last
    expect(box.locator(".wb-compare-side")).to_have_count(2, timeout=60_000)
    expect(box.locator(".wb-compare-strip")).to_have_count(2)
    notebook.check_in_every_theme(".wb-edit", screenshots / "edit")
    for mode in ("Patch", "Steer"):
        box.get_by_role("radio", name=mode).check()
        assert notebook.serious_findings(".wb-edit") == []
    notebook.save()
    assert any("Zero head 1 of layer 2: all tokens" in twin and "KL(A‖C)" in twin for twin in twins(notebook))
    reopen_without_kernel(notebook)
    expect(box.locator(".wb-notice").first).to_have_text(SAVED)
    expect(box.locator(".wb-edit-changes li")).to_have_count(1)
    expect(box.locator(".wb-compare-side")).to_have_count(2)
    expect(box.get_by_role("button", name="Run with changes")).to_be_disabled()
    assert notebook.serious_findings(".wb-edit") == []
    assert notebook.problems == []
