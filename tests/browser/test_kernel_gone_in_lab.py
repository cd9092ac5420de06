"""In a real JupyterLab every widget says so when its kernel was restarted, died or was shut down."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.notebook_page import FAKE_PLAYGROUND, NotebookPage

RESTARTED = "The kernel was restarted. Run this cell again."
ENDED = "The kernel was shut down or has died. Run this cell again."

# A cell for each widget that stands alone.
CELLS = (
    FAKE_PLAYGROUND.format(tokens_per_s=2000),
    "from workbench.widgets import ChatView\nChatView(session)",
    "from workbench.widgets import StreamView\nStreamView(session, prompt='Hello')",
    """\
from tests.unit.widgets.fake_answers import MODELS, AnsweringSession
from workbench.widgets import CompareView
CompareView(AnsweringSession(tokens_per_s=2000), 'Hi', models=MODELS)""",
    """\
from tests.unit.widgets.fake_scores import PROMPT, scored
from workbench.widgets import PredictionGame
PredictionGame(scored(), PROMPT)""",
    "from workbench.widgets import ModelPicker\nModelPicker(session)",
    "from workbench.widgets import ReadView\nReadView(session, 'One text', 'Another')",
)


@pytest.fixture(scope="module")
def opened(open_notebook: Callable[..., NotebookPage]) -> NotebookPage:
    return open_notebook(*CELLS)


@pytest.fixture
def notebook(opened: NotebookPage) -> NotebookPage:
    """The notebook with every widget alive, whatever the test before did to the kernel."""
    opened.run_again()
    expect(opened.page.locator(".jp-OutputArea .wb-root .wb-button:visible")).not_to_have_count(0)
    expect(opened.page.locator(".jp-InputPrompt", has_text="*")).to_have_count(0, timeout=60_000)
    for kind in ("playground", "chat", "compare", "game", "read"):
        opened.page.locator(f".wb-{kind}:not(.wb-slot)").wait_for()  # the playground has a comparison, too
    return opened


def expect_every_widget_to_say(notebook: NotebookPage, sentence: str) -> None:
    outputs = notebook.page.locator(".jp-OutputArea-output:has(.wb-root)")
    expect(outputs).to_have_count(len(CELLS))
    for output in outputs.all():
        expect(output.get_by_role("alert").filter(has_text=sentence)).to_have_count(1)
        for control in output.locator("button, input, select, textarea").all():
            expect(control).to_be_disabled()
    assert notebook.serious_findings(".jp-OutputArea-output .wb-root") == []
    assert notebook.problems == []


def test_after_a_restart_the_cell_has_to_be_run_again(notebook: NotebookPage) -> None:
    notebook.playground.locator(".wb-run").click()
    notebook.wait_for("finished")
    text = notebook.playground.locator(".wb-output").text_content()
    notebook.page.evaluate("() => { jupyterapp.commands.execute('notebook:restart-kernel'); }")
    notebook.page.get_by_role("button", name="Confirm Kernel Restart").click()
    expect_every_widget_to_say(notebook, RESTARTED)
    expect(notebook.playground.locator(".wb-output")).to_have_text(str(text))
    notebook.run_again()
    expect(notebook.page.get_by_text(RESTARTED)).to_have_count(0)
    notebook.playground.locator(".wb-run").click()
    notebook.wait_for("finished")


def test_a_kernel_that_died_was_restarted_by_jupyter(notebook: NotebookPage) -> None:
    notebook.page.evaluate(
        """() => {
          const { kernel } = jupyterapp.shell.currentWidget.context.sessionContext.session;
          kernel.requestExecute({ code: 'import os; os._exit(1)' });
        }"""
    )
    notebook.page.get_by_role("dialog").get_by_role("button", name="Ok").click(timeout=60_000)
    expect_every_widget_to_say(notebook, RESTARTED)


def test_after_a_shutdown_the_cell_has_to_be_run_again(notebook: NotebookPage) -> None:
    notebook.command("kernelmenu:shutdown")
    expect_every_widget_to_say(notebook, ENDED)
