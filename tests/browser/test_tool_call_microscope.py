"""The microscope in a blank page and in a real JupyterLab: three lanes over the same tokens, and a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import NotebookPage
from tests.unit.widgets.fake_session import FakeRun, words
from workbench.protocol import ToolCall
from workbench.widgets import ToolCallMicroscope

CALL = ToolCall(call_id="c", tool_name="get_weather", arguments={"city": "Rome", "days": 2, "units": "metric"})
PATIENCE_S = 60


def looked_at(modules: ModuleHost, texts: list[str] | None = None) -> ToolCallMicroscope:
    run = FakeRun(texts=texts or words("Let me look that up for you. One moment."), calls=[CALL, CALL])
    run.step(10_000)
    scope = ToolCallMicroscope(run)
    modules.show(scope)
    assert scope.wait(PATIENCE_S)
    modules.carry()
    return scope


def test_each_lane_draws_every_token_that_it_speaks_of(modules: ModuleHost) -> None:
    scope = looked_at(modules)
    draws = "(path) => (path.getAttribute('d').match(/M/g) ?? []).length"
    page = modules.browser
    count = {kind: page.locator(f"path.wb-scope-{kind}").evaluate_all(f"(all) => all.map({draws})") for kind in (
        "start", "started", "in_progress", "success", "removed", "forced"
    )}  # fmt: skip
    steps = scope.call_steps
    states = [step.parse_state for step in steps]
    assert sum(count["start"]) == sum(step.start_probability > 0 for step in steps)
    assert {state: count[state] for state in ("started", "in_progress", "success")} == {
        state: [states.count(state)] for state in ("started", "in_progress", "success")
    }
    assert count["removed"] == [sum(step.removed_mass > 0 for step in steps)]
    assert count["forced"] == [sum(step.is_forced for step in steps)]
    assert page.locator("tbody tr").count() == len(steps)


def test_it_fills_in_while_the_answer_is_written(modules: ModuleHost) -> None:
    run = FakeRun(texts=words("Let me look."), calls=[CALL])
    scope = ToolCallMicroscope(run)
    modules.show(scope)
    expect(modules.browser.locator(".wb-scope-said")).to_have_text("No tokens yet.")
    states = "[...document.querySelectorAll('.wb-scope tbody tr')].map((row) => row.dataset.wbState).join()"
    run.step(5)
    modules.wait(f"{states} === 'text,text,text,started,in_progress'")
    modules.show(scope)  # a view that is opened in the middle asks for what it has missed
    modules.wait(f"{states} === 'text,text,text,started,in_progress,text,text,text,started,in_progress'")
    run.step(1000)
    modules.wait("document.querySelectorAll('.wb-scope tbody [data-wb-state=success]').length === 2")
    assert modules.browser.locator(".wb-scope-lane svg").count() == 6


def test_tokens_are_walked_by_keyboard_and_told_in_words(modules: ModuleHost) -> None:
    scope = looked_at(modules)
    chart = modules.browser.get_by_role("group", name="Tokens of the run")
    said = modules.browser.locator(".wb-scope-said")
    expect(said).to_contain_text("2 complete calls. The schema left no choice at")
    for key, expected in [("ArrowRight", 0), ("ArrowRight", 1), ("End", len(scope.steps) - 1), ("ArrowLeft", -2)]:
        chart.press(key)
        modules.carry()
        assert scope.feed.selected == (expected % len(scope.steps),)
    expect(said).to_contain_text("call in progress")
    expect(modules.browser.locator("tr.wb-selected")).to_have_attribute("data-wb-position", str(len(scope.steps) - 2))
    chart.press("Escape")
    modules.carry()
    assert scope.feed.selected == ()


def test_a_click_in_a_lane_selects_the_token_under_it(modules: ModuleHost) -> None:
    scope = looked_at(modules)
    box = modules.browser.locator(".wb-scope-lane svg").first.bounding_box()
    assert box is not None
    modules.browser.mouse.click(box["x"] + box["width"] * 4.5 / len(scope.steps), box["y"] + 10)
    modules.carry()
    assert scope.feed.selected == (4,)


def test_without_tools_there_are_only_words(modules: ModuleHost) -> None:
    run = FakeRun()
    run.step(1000)
    scope = ToolCallMicroscope(run)
    modules.show(scope)
    assert scope.wait(PATIENCE_S)
    modules.carry()
    expect(modules.browser.locator(".wb-scope-said")).to_contain_text("Tool calls cannot be shown")
    expect(modules.browser.locator(".wb-scope-chart")).to_be_hidden()


@pytest.mark.parametrize("width", [320, 1090])
def test_it_fits_every_width(modules: ModuleHost, screenshots: Path, width: int) -> None:
    modules.browser.set_viewport_size({"width": width, "height": 700})
    scope = looked_at(modules)
    scope.feed.selected = 9
    modules.carry()
    modules.browser.screenshot(path=screenshots / f"microscope-{width}.png", full_page=True)
    assert modules.browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_in_jupyterlab_it_passes_axe_in_every_theme_and_shows_the_run_after_a_reload(
    open_notebook: Callable[..., NotebookPage], screenshots: Path
) -> None:
    notebook = open_notebook(
        "from tests.unit.widgets.fake_session import FakeRun\n"
        "from workbench.protocol import ToolCall\n"
        "from workbench.widgets import ToolCallMicroscope\n"
        "call = ToolCall(call_id='c', tool_name='get_weather', arguments={'city': 'Rome', 'days': 2})\n"
        "run = FakeRun(texts=['Let', ' me', ' see', '.'], calls=[call])\n"
        "run.step(1000)\n"
        "scope = ToolCallMicroscope(run)\n"
        "scope"
    )
    notebook.run_all()
    scope = notebook.page.locator(".wb-scope").last
    expect(scope.locator("tbody tr")).to_have_count(11, timeout=60_000)
    scope.get_by_role("group", name="Tokens of the run").press("Home")
    expect(scope.locator(".wb-scope-said")).to_contain_text("Token 1, Let, text")
    notebook.expect_python("scope.feed.selected", "(0,)")
    notebook.check_in_every_theme(".wb-scope", screenshots / "microscope")
    notebook.save()
    notebook.open()
    expect(scope.locator("tbody tr")).to_have_count(11, timeout=60_000)
    assert notebook.problems == []
