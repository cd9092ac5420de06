"""The picker in a real JupyterLab: a model is registered, refused and taken back, and Python knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.notebook_page import NotebookPage

CELL = """\
from tests.unit.widgets.fake_session import FakeSession
from workbench.widgets import ModelPicker
picker = ModelPicker(FakeSession())
picker"""


def test_a_model_is_refused_registered_and_unregistered(
    open_notebook: Callable[..., NotebookPage], screenshots: Path
) -> None:
    notebook = open_notebook(CELL)
    notebook.run_all()
    box = notebook.page.locator(".wb-picker").last
    box.get_by_role("button", name="Register…").click(timeout=60_000)
    box.get_by_label("Source").fill("big-70b")
    box.get_by_label("Source").press("Enter")
    expect(box).to_have_attribute("data-wb-registration", "failed")
    expect(box.get_by_role("alert")).to_contain_text("choose a smaller model")
    box.get_by_role("button", name="Model card").click()
    box.get_by_role("button", name="Unregister…").click()
    notebook.check_in_every_theme(".wb-picker", screenshots / "picker")
    box.get_by_role("button", name="Keep").click()
    box.get_by_label("Source").fill("third")
    box.get_by_role("button", name="Register", exact=True).click()
    expect(box).to_have_attribute("data-wb-value", "third")
    notebook.expect_python("picker.value, picker.registration['state']", "('third', 'done')")
    box.get_by_role("button", name="Unregister…").click()
    box.get_by_role("button", name="Unregister", exact=True).click()
    expect(box).to_have_attribute("data-wb-value", "smollm2-135m-instruct")
    notebook.expect_python("len(picker.cards)", "2")
    assert notebook.problems == []
