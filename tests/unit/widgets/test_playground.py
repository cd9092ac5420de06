"""The playground: its state is Python's, and running its cell again leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ipywidgets.widgets import widget as ipywidget

import workbench as wb
from tests.unit.widgets.fake_session import FakeSession
from tests.unit.widgets.recorded_page import Page
from workbench.errors import ClosedError, InvalidRequestError, ModelNotFoundError
from workbench.protocol import SamplingParams, SamplingStrategy
from workbench.records import Breakpoint
from workbench.widgets import Playground, playground


@pytest.fixture
def session() -> FakeSession:
    return FakeSession(tokens_per_s=5000)


@pytest.fixture
def opened(page: Page, session: FakeSession) -> Iterator[Playground]:
    shown = playground(session)
    yield shown
    shown.close()


def test_a_run_takes_model_prompt_and_parameters_as_they_stand(opened: Playground, session: FakeSession) -> None:
    opened.model = "exact/smollm2-135m-instruct"
    opened.sampling_params = SamplingParams(max_tokens=9)
    run = opened.start("Hello")
    call = session.calls[-1]
    assert (call["model"], call["sampling_params"].max_tokens) == ("exact/smollm2-135m-instruct", 9)
    assert call["prompt"][0].content == opened.prompt == "Hello"
    assert run.wait(60)
    assert opened.run is run


def test_the_stored_twin_is_in_the_unit_of_the_page(opened: Playground, page: Page) -> None:
    opened.start("Hello").wait(60)
    assert "surprisal, bits" in opened.static_html()
    page.set(opened.feed, unit="nats")
    assert "surprisal, nats" in opened.static_html()


def test_what_is_selected_in_the_page_is_there_in_python(opened: Playground, page: Page) -> None:
    run = opened.start("Hello")
    run.wait(60)
    page.set(opened.feed, selected=[2, 7])
    assert opened.selected == (2, 7)
    assert opened.selected_tokens == [run.tokens[2], run.tokens[7]]
    opened.selected = [1]
    assert opened.table.selected == (1,)


def test_the_code_is_the_call_that_was_made(
    opened: Playground, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wb, "Workbench", lambda: session)
    opened.sampling_params = SamplingParams(
        strategy=SamplingStrategy.top_k, top_k=4, temperature=0.5, seed=7, stop=["\n"]
    )
    opened.breakpoints = [Breakpoint(entropy_above=9.5), Breakpoint(text='"'), Breakpoint(tool_call=True)]
    opened.prompt = 'Say "hi"\n\u202e and \\ stop'
    for mode in ("chat", "completion"):
        opened.stream.mode = mode
        opened.start().wait(60)
        made = session.calls[-1]
        names: dict[str, Any] = {}
        exec(opened.code, names)
        assert session.calls[-1] == made
        assert names["run"].wait(60)


def test_the_code_of_a_run_that_pauses_does_not_wait_for_its_end(
    opened: Playground, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wb, "Workbench", lambda: session)
    opened.breakpoints = [Breakpoint(text="considered")]
    names: dict[str, Any] = {}
    exec(opened.code, names)
    assert names["run"].state == "paused"
    names["run"].resume()
    assert names["run"].wait(60)


@pytest.mark.parametrize("mode", ["chat", "completion"])
def test_the_code_of_a_branch_gives_that_branch_wherever_it_is_pasted(
    opened: Playground, session: FakeSession, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(wb, "Workbench", lambda: session)
    opened.stream.mode = mode
    opened.sampling_params = SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.7, seed=3)
    run = opened.start()
    assert run.wait(60)
    for position in (3, 20):
        branch = opened.branch(position, opened.feed.tokens[position].alternatives[0].token_id)
        assert opened.wait(60)
    names: dict[str, Any] = {}
    opened.prompt = "Something else"
    exec(opened.code, names)
    pasted = names["run"]
    assert [token.token_id for token in pasted.tokens] == [token.token_id for token in branch.tokens]
    assert (pasted.prompt, pasted.model, pasted.sampling_params) == (run.prompt, run.model, run.sampling_params)
    assert opened.code.count("run.branch(") == 2
    opened.tree.choose(run)
    assert "Something else" in opened.code


def test_the_picker_learns_the_memory_of_a_model_once_it_is_loaded(opened: Playground) -> None:
    assert opened.picker.card.memory_bytes is None
    opened.start("Hello").wait(60)
    assert opened.feed.wait(60)
    assert opened.picker.card.memory_bytes == 612_000_000


def test_a_hundred_runs_of_the_cell_leave_no_more_live_models_than_the_first(page: Page, session: FakeSession) -> None:
    playground(session)
    first = len(ipywidget._instances)
    for _ in range(99):
        last = playground(session)
    assert len(ipywidget._instances) == first
    last.close()


def test_a_second_playground_closes_the_first_and_stops_its_run(page: Page) -> None:
    slow = FakeSession(["word"] * 10_000, tokens_per_s=100)
    first = playground(slow)
    run = first.start("Hello")
    second = playground(slow)
    assert run.wait(60)
    assert (run.state, first.closed, second.closed) == ("cancelled", True, False)
    assert first.run is run
    with pytest.raises(ClosedError):
        first.start("again")
    second.close()


def test_playgrounds_of_two_sessions_live_side_by_side(page: Page) -> None:
    one, two = FakeSession(), FakeSession()
    first, second = playground(one), playground(two)
    assert not first.closed
    first.close()
    second.close()


def test_closing_closes_every_model_and_may_be_done_twice(page: Page, session: FakeSession) -> None:
    before = len(ipywidget._instances)
    opened = playground(session)
    opened.close()
    opened.close()
    assert len(ipywidget._instances) == before


@pytest.mark.parametrize(
    "options, error",
    [
        ({"promt": "x"}, TypeError),
        ({"mode": "sing"}, InvalidRequestError),
        ({"alternatives": -1}, InvalidRequestError),
        ({"model": "gpt-5"}, ModelNotFoundError),
    ],
)
def test_wrong_options_are_refused_and_leave_no_model_behind(
    page: Page, session: FakeSession, options: dict[str, Any], error: type[Exception]
) -> None:
    before = set(ipywidget._instances)
    with pytest.raises(error):
        playground(session, **options)
    assert set(ipywidget._instances) == before


def test_the_repr_is_stable(opened: Playground) -> None:
    assert repr(opened) == "Playground(model='smollm2-135m-instruct', run=None)"
    opened.start("Hello").wait(60)
    assert repr(opened) == "Playground(model='smollm2-135m-instruct', run='run-1')"
