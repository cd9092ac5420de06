"""The microscope shows the calls of a run as it goes on and once it has ended, or says why there is nothing to see."""

from __future__ import annotations

import pytest

from tests.budget import some
from tests.unit.widgets.fake_session import FakeRun, wait_until
from tests.unit.widgets.hostile import PAYLOADS
from tests.unit.widgets.recorded_page import Page
from workbench.protocol import ToolCall
from workbench.widgets import RunFeed, ToolCallMicroscope

PATIENCE_S = 60
CALL = ToolCall(call_id="c", tool_name="get_weather", arguments={"city": "Rome"})


def finished(**options: object) -> FakeRun:
    run = FakeRun(texts=["Let", " me", " see."], calls=[CALL], **options)  # type: ignore[arg-type]
    run.step(10_000)
    return run


def looked_at(run: FakeRun) -> ToolCallMicroscope:
    scope = ToolCallMicroscope(run)
    assert scope.wait(PATIENCE_S)
    return scope


def test_every_token_of_a_run_has_a_step(page: Page) -> None:
    scope = looked_at(finished())
    states = [step.parse_state for step in scope.call_steps]
    assert states == ["text", "text", "text", "started", *["in_progress"] * 3, "success"]
    assert [row[3] for row in page.writes(scope, "steps")[-1]] == states
    assert scope.message == ""
    assert repr(scope) == "ToolCallMicroscope(tokens=8, calls=1)"


def test_the_picture_fills_in_with_what_has_changed_and_is_whole_at_the_end(page: Page) -> None:
    run = FakeRun(texts=["Let", " me", " see."], calls=[CALL])
    scope = ToolCallMicroscope(run)
    wait_until(lambda: scope.message == "No tokens yet.")
    drawn: dict[int, list[object]] = {}
    for count in (2, 5):
        run.step(count - len(run.tokens))
        wait_until(lambda: len(scope.call_steps) == count)  # noqa: B023 - it ends within the round
    for message in page.customs(scope, "steps"):
        drawn |= dict(message["changes"])
    assert [step[3] for step in drawn.values()] == ["text", "text", "text", "started", "in_progress"]
    assert sum(len(message["changes"]) for message in page.customs(scope, "steps")) == len(drawn)
    assert scope.steps == []
    page.send(scope, {"kind": "steps"})
    assert page.customs(scope, "steps")[-1] == {"kind": "steps", "run": run.id, "changes": [*map(list, drawn.items())]}
    run.step(10_000)
    assert scope.wait(PATIENCE_S)
    assert len(scope.steps) == len(run.tokens)


def test_it_says_at_once_that_a_run_has_no_tools_and_sleeps_while_nobody_looks(page: Page) -> None:
    run = FakeRun()
    scope = ToolCallMicroscope(run, active=False)
    assert scope.message == "No run yet."
    scope.active = True
    run.step()
    wait_until(lambda: "Tool calls cannot be shown" in scope.message)
    scope.active = False
    assert scope.wait(PATIENCE_S)
    run.cancel()
    run.step()


def test_it_follows_the_feed_of_another_widget(page: Page) -> None:
    feed = RunFeed()
    scope = ToolCallMicroscope(feed=feed)
    assert scope.message == "No run yet."
    feed.follow(finished())
    assert scope.wait(PATIENCE_S)
    assert len(scope.steps) == 8
    scope.close()
    assert not feed.closed


def test_a_run_without_tools_is_told_in_words(page: Page) -> None:
    run = FakeRun()
    run.step(1000)
    scope = looked_at(run)
    assert "Tool calls cannot be shown: tools must be" in scope.message
    assert "Tool calls cannot be shown" in scope.static_html()


def test_the_twin_has_a_row_for_every_token_and_sums_up(page: Page) -> None:
    twin = looked_at(finished()).static_html()
    assert twin.count("<tr>") == 9
    assert "8 tokens: 1 complete call. The schema left no choice at 2 of them." in twin
    assert "≥ " in twin


@pytest.mark.parametrize("payload", some(PAYLOADS[:20], at_least=4))
def test_whatever_a_token_is_it_is_text_in_the_twin(page: Page, payload: str) -> None:
    run = FakeRun(texts=[payload], calls=[CALL])
    run.step(1000)
    twin = looked_at(run).static_html()
    assert not any(tag in twin.lower() for tag in ("<script", "<img", "<svg", "<iframe", "<a ", "<style", "<form"))
