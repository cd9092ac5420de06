"""In a real JupyterLab the keys that are pressed in a widget are the widget's own: no cell comes, goes or runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.notebook_page import FAKE_PLAYGROUND, NotebookPage

CHAT = """\
from workbench.widgets import ChatView
chat = ChatView(session)
chat"""
CELLS = (FAKE_PLAYGROUND.format(tokens_per_s=2000), CHAT, "below = 1")

# What JupyterLab takes for commands to its cells. Enter would edit one; d d, x and z delete one or bring it back.
KEYS = ["ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight", "a", "b", "d", "d", "x", "v", "z", "m", "y", "0", "0"]
KEYS += ["Shift+ArrowDown", "Shift+ArrowUp", "Shift+m", "Escape"]

CONTROLS: dict[str, Callable[[Locator], Locator]] = {
    "textarea": lambda box: box.get_by_label("Prompt", exact=True),
    "text field": lambda box: box.get_by_role("textbox", name="Stop strings"),
    "number": lambda box: box.get_by_role("textbox", name="Max tokens"),
    "slider": lambda box: box.get_by_label("Temperature, slider"),
    "radio": lambda box: box.get_by_role("radio", name="Top-p"),
    "select": lambda box: box.get_by_label("Model", exact=True),
    "button": lambda box: box.get_by_role("button", name="White space"),
    "checkbox": lambda box: box.get_by_role("checkbox", name="Tool call"),
    "tokens": lambda box: box.locator(".wb-output"),
    "listbox": lambda box: box.locator(".wb-inspector .wb-listbox"),
    "table": lambda box: box.get_by_role("grid", name="Tokens"),
    "search": lambda box: box.get_by_label("Filter"),
    "tab": lambda box: box.get_by_role("tab", name="Tokens", exact=True),
}


@pytest.fixture(scope="module")
def notebook(open_notebook: Callable[..., NotebookPage]) -> NotebookPage:
    """A playground with a run, everything open, a chat, and a cell below them."""
    opened = open_notebook(*CELLS)
    opened.run_again()
    opened.page.locator(".wb-chat").wait_for()
    box = opened.playground
    opened.unfold_sampling()
    box.get_by_role("button", name="Pause at").click()
    box.locator(".wb-run").click()
    opened.wait_for("finished")
    box.locator(".wb-token").nth(25).click()
    box.locator(".wb-sampled").wait_for()
    return opened


@pytest.fixture
def cells(notebook: NotebookPage) -> Iterator[NotebookPage]:
    """The notebook, whose cells are after the test what they were before."""
    notebook.python("pg.controls.apply_preset('Balanced')")  # no control of the tests is disabled
    expect(notebook.playground.locator(".wb-controls")).to_have_attribute("data-wb-strategy", "top_p")
    select_cell(notebook, 0)
    before = standing(notebook)
    yield notebook
    assert standing(notebook) == before
    assert notebook.problems == []


def select_cell(notebook: NotebookPage, index: int) -> None:
    """Make a cell the active one, and wait until JupyterLab has moved the focus to it, which it does a frame later."""
    notebook.page.evaluate(
        """async (index) => {
          jupyterapp.shell.currentWidget.content.activeCellIndex = index;
          for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
        }""",
        index,
    )


def focus(control: Locator) -> None:
    control.focus()
    expect(control).to_be_focused()


def standing(notebook: NotebookPage) -> Any:
    """The cells with their sources and numbers of execution, and which one is active."""
    return notebook.page.evaluate(
        """() => {
          const { widgets, activeCellIndex } = jupyterapp.shell.currentWidget.content;
          const cells = widgets.map(({ model }) => [model.type, model.sharedModel.source, model.executionCount]);
          return [cells, activeCellIndex];
        }"""
    )


@pytest.mark.parametrize("mode", ["command", "edit"])
@pytest.mark.parametrize("kind", CONTROLS)
def test_no_key_in_a_control_reaches_the_cells(cells: NotebookPage, kind: str, mode: str) -> None:
    control = CONTROLS[kind](cells.playground)
    before = standing(cells)
    for key in KEYS:
        cells.command(f"notebook:enter-{mode}-mode")
        focus(control)
        cells.page.keyboard.press(key)
        assert standing(cells) == before, key
    expect(cells.page.locator(".jp-Dialog")).to_have_count(0)


def test_a_key_pressed_before_the_focus_came_begins_no_command(cells: NotebookPage) -> None:
    cells.command("notebook:enter-command-mode")
    cells.page.locator(".jp-Notebook").focus()
    cells.page.keyboard.press("d")
    focus(CONTROLS["slider"](cells.playground))
    cells.page.keyboard.press("d")
    expect(cells.page.locator(".jp-Cell")).to_have_count(len(CELLS))


def test_controls_do_with_their_keys_what_a_browser_does(cells: NotebookPage) -> None:
    box, press = cells.playground, cells.page.keyboard.press
    slider = CONTROLS["slider"](box)
    before = float(slider.input_value())
    slider.press("ArrowRight")
    assert float(slider.input_value()) > before
    number = CONTROLS["number"](box)
    number.fill("32")
    number.press("ArrowUp")
    expect(number).to_have_value("48")
    CONTROLS["radio"](box).focus()
    press("ArrowRight")
    expect(box.get_by_role("radio", name="Top-k")).to_be_checked()
    press("ArrowLeft")
    expect(CONTROLS["radio"](box)).to_be_checked()
    CONTROLS["select"](box).focus()
    press("ArrowDown")
    expect(CONTROLS["select"](box)).to_have_value("exact/smollm2-135m-instruct")
    press("ArrowUp")
    pressed = CONTROLS["button"](box)
    pressed.press("Enter")
    expect(pressed).to_have_attribute("aria-pressed", "true")
    pressed.press(" ")
    expect(pressed).to_have_attribute("aria-pressed", "false")
    CONTROLS["checkbox"](box).press(" ")
    expect(CONTROLS["checkbox"](box)).to_be_checked()
    CONTROLS["checkbox"](box).press(" ")
    CONTROLS["tokens"](box).press("Home")
    expect(box.locator(".wb-token").first).to_contain_class("wb-selected wb-frame")
    CONTROLS["table"](box).press("ArrowDown")
    expect(box.locator(".wb-token").nth(1).locator(".wb-frame")).to_have_count(1)
    tab = CONTROLS["tab"](box)
    tab.press("ArrowRight")
    expect(box.get_by_role("tab", name="Waterfall")).to_be_focused()
    press("ArrowLeft")
    expect(tab).to_have_attribute("aria-selected", "true")


def test_enter_breaks_the_line_of_a_prompt(cells: NotebookPage) -> None:
    prompt = CONTROLS["textarea"](cells.playground)
    prompt.fill("one")
    expect(prompt).to_be_focused()
    prompt.press("Enter")
    prompt.press_sequentially("two")
    prompt.press("Shift+Enter")
    prompt.press_sequentially("three")
    expect(prompt).to_have_value("one\ntwo\nthree")


def test_shift_and_enter_break_the_line_of_a_message(notebook: NotebookPage) -> None:
    select_cell(notebook, 1)
    before = standing(notebook)
    message = notebook.page.get_by_label("Message", exact=True)
    message.fill("one")
    message.press("Shift+Enter")
    message.press_sequentially("two")
    expect(message).to_have_value("one\ntwo")
    message.fill("")
    assert standing(notebook) == before


@pytest.mark.parametrize("kind", ["textarea", "slider", "button", "tokens"])
def test_the_notebook_is_saved_from_within_a_control(cells: NotebookPage, kind: str) -> None:
    cells.page.evaluate("() => { jupyterapp.shell.currentWidget.context.model.dirty = true; }")
    focus(CONTROLS[kind](cells.playground))
    cells.page.keyboard.press("Control+s")
    cells.page.wait_for_function("() => !jupyterapp.shell.currentWidget.context.model.dirty")


def test_the_command_palette_opens_from_within_a_control(cells: NotebookPage) -> None:
    CONTROLS["textarea"](cells.playground).focus()
    cells.page.keyboard.press("Control+Shift+C")
    palette = cells.page.locator("#modal-command-palette")
    expect(palette).to_be_visible()
    cells.page.keyboard.press("Escape")
    expect(palette).to_be_hidden()
