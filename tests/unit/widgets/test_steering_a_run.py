"""Pausing a run, going on after it, having it again, and going on from another token: from Python and from the page."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.widgets.fake_session import FakeSession, wait_until
from tests.unit.widgets.recorded_page import Page
from workbench.errors import InvalidRequestError
from workbench.records import Breakpoint
from workbench.widgets import StreamView, TokenInspector, playground


def test_a_run_is_held_and_goes_on_from_the_page(page: Page) -> None:
    session = FakeSession(["word"] * 3000, tokens_per_s=500)
    view = StreamView(session)
    run = view.start("Hello")
    wait_until(lambda: len(run.tokens) > 1)
    page.send(view, {"kind": "pause", "id": 1})
    wait_until(lambda: [delta.get("state") for delta in page.customs(view.feed, "delta")][-1:] == ["paused"])
    held = len(run.tokens)
    page.send(view, {"kind": "resume", "id": 2})
    wait_until(lambda: len(run.tokens) > held + 1)
    assert [reply["error"] for reply in page.customs(view, "reply")] == [None, None]
    view.stop()
    assert view.feed.wait(60)


def test_what_was_stopped_goes_on_and_what_was_said_is_said_again(page: Page) -> None:
    session = FakeSession(tokens_per_s=0)
    view = StreamView(session)
    first = view.start("Hello")
    session.runs[0].step(5)
    view.stop()
    session.runs[0].step()
    page.send(view, {"kind": "extend", "id": 1})
    second = session.runs[1]
    assert (second.parent, second.branched_at, view.run) == (first, 5, second)
    second.step(1000)
    page.send(view, {"kind": "again", "id": 2})
    assert view.run is session.runs[2]
    page.send(view, {"kind": "extend", "id": 3})
    assert "state" in page.customs(view, "reply")[-1]["error"]  # it goes on already
    session.runs[2].step(1000)
    assert view.feed.wait(60)
    assert view.feed.runs == tuple(session.runs)


def test_a_run_that_is_made_anew_while_it_goes_on_is_stopped(page: Page) -> None:
    session = FakeSession(tokens_per_s=0)
    view = StreamView(session)
    view.start("Hello")
    session.runs[0].step(2)
    view.again()
    session.runs[0].step()
    assert (session.runs[0].state, view.run) == ("cancelled", session.runs[1])
    view.close()
    session.runs[1].step()


def test_without_a_run_there_is_nothing_to_go_on_with(page: Page) -> None:
    view = StreamView(FakeSession())
    for act in (view.pause, view.resume, view.extend, view.again):
        with pytest.raises(InvalidRequestError, match="run must be started first"):
            act()


def test_breakpoints_of_the_form_are_those_of_the_next_run(page: Page) -> None:
    session = FakeSession(tokens_per_s=0)
    view = StreamView(session, prompt="Hello")
    page.set(view, pauses={"entropy_above": 3.5, "text": "blue", "tool_call": False})
    assert view.breakpoints == [Breakpoint(entropy_above=3.5), Breakpoint(text="blue")]
    run = view.start()
    assert session.calls[-1]["breakpoints"] == view.breakpoints
    session.runs[0].step(1000)
    assert (run.state, run.breakpoint) == ("paused", Breakpoint(entropy_above=3.5))
    page.send(view.feed, {"kind": "snapshot", "id": 1})
    snapshot = page.customs(view.feed, "snapshot")[-1]["snapshot"]
    assert (snapshot["state"], snapshot["paused_by"]) == ("paused", ["entropy_above", 3.5])
    view.close()
    session.runs[0].step()
    assert run.state == "cancelled"


@pytest.mark.parametrize("form", [{"entropy_above": -1.0}, {"entropy_above": "x"}, {"text": 3}, {"word": "x"}])
def test_what_can_be_no_breakpoint_is_refused_and_the_last_good_ones_stay(form: dict[str, Any]) -> None:
    view = StreamView(breakpoints=[Breakpoint(tool_call=True)])
    with pytest.raises(InvalidRequestError):
        view.pauses = form
    assert view.breakpoints == [Breakpoint(tool_call=True)]
    with pytest.raises(InvalidRequestError, match="at most one"):
        view.breakpoints = [Breakpoint(text="a"), Breakpoint(text="b")]
    view.breakpoints = [Breakpoint(entropy_above=0.0)]
    assert view.breakpoints == [Breakpoint(entropy_above=0.0)]
    view.close()


def test_an_alternative_that_is_chosen_goes_on_and_the_old_branch_stays(page: Page) -> None:
    session = FakeSession(tokens_per_s=0)
    view = StreamView(session, prompt="Hello")
    inspector = TokenInspector(feed=view.feed)
    run = view.start()
    session.runs[0].step(10)
    other = run.tokens[4].alternatives[0]
    page.send(inspector, {"kind": "branch", "id": 1, "run": run.id, "position": 4, "token_id": other.token_id})
    assert page.customs(inspector, "reply") == [{"kind": "reply", "id": 1, "error": None}]
    session.runs[0].step()
    assert run.state == "cancelled"
    branch = session.runs[1]
    assert (view.run, view.feed.selected, branch.branched_at) == (branch, (4,), 4)
    branch.step(1000)
    assert view.feed.wait(60)
    assert branch.tokens[4].token_id == other.token_id
    assert (view.feed.runs, view.feed.forks) == ((run, branch), [4])
    page.send(inspector, {"kind": "branch", "id": 2, "run": run.id, "position": 4, "token_id": 1})
    assert "Another run is shown now." in page.customs(inspector, "reply")[-1]["error"]
    page.send(inspector, {"kind": "branch", "id": 3, "run": branch.id, "position": 999, "token_id": 1})
    assert "position" in page.customs(inspector, "reply")[-1]["error"]
    inspector.close()


def test_a_model_that_cannot_pause_is_told_before_a_run_of_it(page: Page) -> None:
    session = FakeSession(tokens_per_s=0)
    session.cannot_pause.add("exact/smollm2-135m-instruct")
    opened = playground(session)
    assert not opened.stream.no_pause
    opened.start("Hello")
    can_pause = [opened.feed.snapshot["can_pause"]]
    opened.model = "exact/smollm2-135m-instruct"
    assert opened.stream.no_pause == "exact/smollm2-135m-instruct cannot pause: its provider does not support it."
    opened.start("Hello")
    assert [*can_pause, opened.feed.snapshot["can_pause"]] == [True, False]
    opened.close()


def test_a_view_that_nobody_can_ask_says_nothing_of_pauses(page: Page) -> None:
    gone = StreamView(FakeSession(), settings=lambda: {"model": "gone"})
    gone.refresh()
    assert [gone.no_pause, StreamView().no_pause] == ["", ""]
