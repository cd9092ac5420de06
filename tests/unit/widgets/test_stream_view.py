"""The stream view starts, shows and stops runs, from Python and from the page."""

from __future__ import annotations

import pytest

from tests.unit.widgets.fake_session import FakeRun, FakeSession, wait_until
from tests.unit.widgets.html.test_twins import Reader
from tests.unit.widgets.recorded_page import Page
from workbench.errors import ClosedError, InvalidRequestError
from workbench.protocol import UserMessage
from workbench.widgets import StreamView, TokenInspector, TokenTable, playground


def test_a_prompt_goes_out_as_a_users_turn_by_default(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = StreamView(session)
    run = view.start("Hello")
    assert session.calls[-1]["method"] == "chat_completion"
    assert session.calls[-1]["prompt"] == [UserMessage(content="Hello")]
    assert session.calls[-1]["logprobs"].top_k == 5
    assert run.wait(60)
    assert view.run is run


def test_completion_mode_continues_the_text_as_it_is(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = StreamView(session, mode="completion", prompt="Once")
    view.start().wait(60)
    assert (session.calls[-1]["method"], session.calls[-1]["prompt"]) == ("completion", "Once")


def test_run_in_the_page_takes_the_text_as_it_stands_there(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = StreamView(session)
    page.send(view, {"kind": "state", "state": {"prompt": "typed just now", "mode": "completion"}})
    page.send(view, {"kind": "run", "id": 1})
    assert page.customs(view, "reply") == [{"kind": "reply", "id": 1, "error": None}]
    assert (session.calls[-1]["method"], view.prompt, view.mode) == ("completion", "typed just now", "completion")
    session.runs[-1].wait(60)


def test_what_goes_wrong_at_the_start_is_answered_in_words(page: Page) -> None:
    view = StreamView(FakeSession(), prompt="  ")
    page.send(view, {"kind": "run", "id": 4})
    (reply,) = page.customs(view, "reply")
    assert reply["id"] == 4
    assert reply["error"] == "Write a prompt first."


def test_stop_in_the_page_stops_the_run(page: Page) -> None:
    session = FakeSession(["word"] * 10_000, tokens_per_s=100)
    view = StreamView(session)
    run = view.start("Hello")
    wait_until(lambda: len(run.tokens) > 1)
    page.send(view, {"kind": "stop", "id": 2})
    assert run.wait(60)
    assert run.state == "cancelled"
    assert view.feed.wait(60)
    assert page.customs(view.feed, "end")[-1]["state"] == "cancelled"


def test_a_second_start_stops_the_first_run(page: Page) -> None:
    session = FakeSession(["word"] * 10_000, tokens_per_s=100)
    view = StreamView(session)
    first = view.start("one")
    second = view.start("two")
    assert first.wait(60)
    assert (first.state, view.run) == ("cancelled", second)
    view.close()
    assert second.wait(60)


def test_a_view_of_one_run_cannot_start_another(page: Page) -> None:
    run = FakeRun()
    run.step(1000)
    view = StreamView(run=run)
    assert not view.can_run
    with pytest.raises(ClosedError):
        view.start("Hello")


@pytest.mark.parametrize("prompt", ["", " \n\t"])
def test_an_empty_prompt_is_refused_before_any_work(page: Page, prompt: str) -> None:
    session = FakeSession()
    view = StreamView(session)
    with pytest.raises(InvalidRequestError, match="prompt"):
        view.start(prompt)
    assert session.calls == []


def test_wrong_modes_and_unknown_options_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="chat or completion"):
        StreamView(mode="sing")
    with pytest.raises(TypeError, match="promt"):
        StreamView(promt="x")  # type: ignore[call-arg]


def test_table_and_inspector_share_run_and_selection_with_the_view(page: Page) -> None:
    run = FakeRun()
    run.step(1000)
    view = StreamView(run=run)
    table, inspector = TokenTable(feed=view.feed), TokenInspector(feed=view.feed)
    page.set(view.feed, selected=[3])
    assert table.selected == (3,)
    assert table.selected_tokens == [run.tokens[3]]
    assert run.tokens[3].text.strip() in inspector.static_html()
    table.selected = run.tokens[5].position
    assert view.feed.selected == (5,)
    assert page.writes(view.feed, "selected")[-1] == [5]


def test_a_table_alone_shows_a_run_of_its_own(page: Page) -> None:
    run = FakeRun()
    run.step(1000)
    table = TokenTable(run, height=400)
    assert len(table.feed.tokens) == 44
    assert repr(table) == "TokenTable(rows=44, selected=())"
    table.close()
    assert table.feed.closed


# ------------------------------------------------------------------------------------- a base model, a failed attempt


def session_with_a_base_model() -> FakeSession:
    """The second of its chat models has no template."""
    session = FakeSession(tokens_per_s=5000)
    session.without_template = {"exact/smollm2-135m-instruct"}
    return session


def test_a_model_without_a_chat_template_is_given_the_text_as_it_is(page: Page) -> None:
    session, model = session_with_a_base_model(), "smollm2-135m-instruct"
    view = StreamView(
        session, prompt="Once", settings=lambda: {"model": model, "sampling_params": None, "logprobs": None}
    )
    view.refresh()
    assert (view.mode, view.no_chat) == ("chat", "")
    model = "exact/smollm2-135m-instruct"
    view.refresh()
    assert view.mode == "completion"
    assert view.no_chat == f"{model} has no chat template: it continues your text instead of answering it."
    view.start().wait(60)
    assert (session.calls[-1]["method"], session.calls[-1]["prompt"]) == ("completion", "Once")
    model = "smollm2-135m-instruct"
    view.refresh()
    assert (view.mode, view.no_chat) == ("chat", "")


def test_completion_that_was_chosen_stays_whatever_the_model_can(page: Page) -> None:
    model = "exact/smollm2-135m-instruct"
    view = StreamView(session_with_a_base_model(), mode="completion", settings=lambda: {"model": model})
    view.refresh()
    model = "smollm2-135m-instruct"
    view.refresh()
    assert view.mode == "completion"


def test_an_attempt_that_fails_before_its_first_token_leaves_the_answer_before_it(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = StreamView(session, prompt="Hello")
    answer = view.start()
    assert view.feed.wait(60)
    view.feed.selected = 3
    session._texts, session._error = [], RuntimeError("the template refuses it")
    failed = view.start("Another prompt")
    assert failed.wait(60)
    assert view.feed.wait(60)
    assert failed.state == "failed"
    assert (view.run, view.feed.runs, view.feed.selected) == (answer, (answer,), (3,))
    assert view.feed.problem == "the template refuses it"
    assert (view.feed.snapshot["run"], view.feed.snapshot["state"]) == (answer.id, "finished")
    session._texts, session._error = ["fine"], None
    view.start().wait(60)
    assert view.feed.problem == ""


def test_the_first_attempt_is_shown_also_where_it_fails(page: Page) -> None:
    session = FakeSession([], tokens_per_s=5000, error=RuntimeError("out of luck"))
    view = StreamView(session, prompt="Hello")
    run = view.start()
    assert view.feed.wait(60)
    assert (view.run, view.feed.snapshot["error"], view.feed.problem) == (run, "out of luck", "")


# ------------------------------------------------------------------------------------------- the prompt of a completion


def test_a_text_to_continue_is_measured_where_the_provider_can(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = StreamView(session, mode="completion", prompt="Once upon a time")
    view.start().wait(60)
    session.measures_prompts = True
    view.start().wait(60)
    view.mode = "chat"
    view.start().wait(60)
    assert [call["logprobs"].prompt for call in session.calls] == [False, True, False]
    assert [call["logprobs"].top_k for call in session.calls] == [5, 5, 5]


def test_the_code_of_the_playground_measures_the_prompt_as_its_run_does(page: Page) -> None:
    session = FakeSession()
    session.measures_prompts = True
    opened = playground(session, mode="completion")
    assert "logprobs=wb.LogProbConfig(top_k=5, prompt=True)" in opened.code
    opened.stream.mode = "chat"
    assert "logprobs=wb.LogProbConfig(top_k=5)" in opened.code


def test_the_page_is_told_the_measured_prompt_once_with_the_text_before_it(page: Page) -> None:
    session = FakeSession(tokens_per_s=0)
    session.measures_prompts = True
    view = StreamView(session, mode="completion", prompt="Once upon a time")
    run = view.start()
    run.step(3)  # type: ignore[attr-defined]
    wait_until(lambda: any("prompt" in delta for delta in page.customs(view.feed, "delta")))
    run.step(10_000)  # type: ignore[attr-defined]
    assert view.feed.wait(60)
    told = [delta["prompt"] for delta in page.customs(view.feed, "delta") if "prompt" in delta]
    assert [[wire[1] for wire in prompt] for prompt in told] == [["Once", " upon", " a", " time"]]
    assert told[0][0][2:5] == [None, 0, None]
    assert "prompt" not in page.customs(view.feed, "end")[-1]
    assert view.feed.snapshot["prompt"] == told[0]
    titles = Reader(view.static_html()).titles
    assert len(titles) == len(run.tokens) + 3
