"""The chat moves a conversation on at the clicks of a person: turns, calls that wait for approval, and what is told."""

from __future__ import annotations

import re
import sys
import threading
from typing import Any

import pytest
from ipywidgets.widgets import widget as ipywidget

from tests.unit.widgets.fake_session import FakeRun, FakeSession, wait_until
from tests.unit.widgets.hostile import PAYLOADS
from tests.unit.widgets.recorded_page import Page
from workbench.errors import BusyError, ClosedError, InvalidRequestError, ShieldViolationError
from workbench.protocol import (
    CompletionMessage,
    SafetyViolation,
    SamplingParams,
    SystemMessage,
    ToolCall,
    ToolChoice,
    ToolDefinition,
    ToolResponseMessage,
    UserMessage,
    ViolationLevel,
)
from workbench.records import CallAttempt
from workbench.session.conversation import Conversation, function_tools
from workbench.widgets import ChatView, chat
from workbench.widgets.chat_transcript import Transcript
from workbench.widgets.wire.chat import turns_wire

PATIENCE_S = 60


def get_weather(city: str, days: int = 1) -> str:
    """Tell the weather."""
    return f"{city} is warm for {days} days."


def break_down() -> None:
    raise LookupError("no such city")


def leave() -> None:
    sys.exit(3)


def asking(*names: str) -> list[ToolCall]:
    return [
        ToolCall(call_id=f"id-{i}", tool_name=name, arguments={"city": "Rome"} if name == "get_weather" else {})
        for i, name in enumerate(names)
    ]


def chatting(*answers: list[ToolCall], tools: Any = (get_weather, break_down, leave), **options: Any) -> ChatView:
    return ChatView(FakeSession(["Fine", " then."], tokens_per_s=5000, calls=answers), tools=list(tools), **options)


def said(view: ChatView, text: str = "How is Rome?", **options: Any) -> ChatView:
    view.say(text, **options)
    assert view.wait(PATIENCE_S)
    return view


def results(view: ChatView) -> list[Any]:
    return [message.content for message in view.messages if isinstance(message, ToolResponseMessage)]


@pytest.fixture(autouse=True)
def shown(page: Page) -> Page:
    """Every chat here speaks to a page, and none outlives its test."""
    return page


# ----------------------------------------------------------------------------------------------------------- turns


def test_what_is_said_and_what_is_answered_stand_among_the_messages() -> None:
    view = said(said(chatting(system="Be brief.")), "And then?")
    assert [message.role for message in view.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert view.messages[0] == SystemMessage(content="Be brief.")
    assert [turn["text"] for turn in view.turns] == ["How is Rome?", "Fine then.", "And then?", "Fine then."]
    assert (view.state, view.run.id if view.run else None) == ("idle", "run-2")
    asked = view.run.prompt if view.run else []
    assert asked == view.messages[:4]


def test_the_next_answer_is_made_with_the_model_and_the_parameters_that_stand_now() -> None:
    view = chatting(sampling_params=SamplingParams(max_tokens=5))
    assert view.sampling_params.max_tokens == 5
    view.model = "exact/smollm2-135m-instruct"
    view.sampling_params = SamplingParams(max_tokens=7)
    said(view)
    assert view.run is not None
    assert (view.run.model, view.run.sampling_params.max_tokens) == ("exact/smollm2-135m-instruct", 7)


def test_an_earlier_turn_is_said_anew_and_what_came_after_it_is_forgotten() -> None:
    view = said(said(said(chatting()), "two"), "three")
    places = [turn["turn"] for turn in view.turns if turn["role"] == "user"]
    said(view, "TWO", turn=places[1])
    assert [turn["text"] for turn in view.turns if turn["role"] == "user"] == ["How is Rome?", "TWO"]
    assert len(view.messages) == 4
    assert [turn["run"] for turn in view.turns if turn["role"] == "assistant"] == ["run-1", "run-4"]


@pytest.mark.parametrize("turn", [1, 9, -1, "0", 1.5])
def test_only_turns_of_the_user_are_said_anew(turn: Any) -> None:
    view = said(chatting())
    with pytest.raises(InvalidRequestError, match="turn"):
        view.say("x", turn=turn)
    assert len(view.messages) == 2


@pytest.mark.parametrize("text", ["", " \n", None, 5])
def test_what_says_nothing_is_refused_before_any_work(text: Any) -> None:
    view = chatting()
    with pytest.raises(InvalidRequestError, match="text"):
        view.say(text)
    assert view.messages == []


def test_stop_ends_the_answer_and_keeps_what_was_said() -> None:
    view = ChatView(FakeSession([" word"] * 10_000, tokens_per_s=100))
    run = view.say("Go on.")
    wait_until(lambda: len(run.tokens) > 1)
    with pytest.raises(BusyError, match="is still running"):
        view.say("And?")
    view.stop()
    assert view.wait(PATIENCE_S)
    assert (run.state, view.state) == ("cancelled", "idle")
    assert view.messages[-1].content == run.text


def test_an_alternative_that_is_chosen_is_another_version_of_the_answer() -> None:
    view = said(said(chatting()), "And then?")
    view.show("run-1")
    branch = view.inspector.branch(1, 1003)
    assert view.run is branch
    assert isinstance(branch, FakeRun)
    branch.step(100)
    assert view.wait(PATIENCE_S)
    assert [message.role for message in view.messages] == ["user", "assistant"]
    assert view.messages[-1].content == branch.text
    assert [turn.get("run") for turn in view.turns] == [None, branch.id]
    said(view, "Good.")
    assert len(view.messages) == 4
    view.choose_version(1, turn=0)
    assert [turn.get("run") for turn in view.turns] == [None, "run-1", None, "run-2"]


def test_an_alternative_may_be_chosen_while_the_model_answers() -> None:
    view = ChatView(FakeSession(tokens_per_s=0))
    first = view.say("Go on.")
    assert isinstance(first, FakeRun)
    first.step(5)
    branch = view.inspector.branch(2, 1003)
    first.step(1)
    assert isinstance(branch, FakeRun)
    branch.step(100)
    assert view.wait(PATIENCE_S)
    assert (first.state, view.run, view.state) == ("cancelled", branch, "idle")
    assert view.messages[-1].content == branch.text


def test_an_answer_that_fails_says_why_and_the_next_turn_takes_its_place() -> None:
    session = FakeSession(["a"], tokens_per_s=5000, error=RuntimeError("out of luck"))
    view = said(ChatView(session))
    assert view.turns[-1]["error"] == "out of luck"
    session._error = None
    said(view, "Again?")
    assert [message.content for message in view.messages] == ["Again?", "a"]


def test_a_closed_chat_leaves_nothing_and_says_so() -> None:
    view = ChatView(FakeSession([" word"] * 10_000, tokens_per_s=100))
    run = view.say("Go on.")
    view.close()
    assert run.wait(PATIENCE_S)
    assert view.wait(PATIENCE_S)
    with pytest.raises(ClosedError):
        view.say("And?")
    assert all(part.closed for part in (view.feed, view.picker, view.controls, view.inspector))


def test_a_cell_that_is_run_again_leaves_as_many_widgets_as_after_the_first_time() -> None:
    session, opened, counts = FakeSession(tokens_per_s=5000), [], []
    for _ in range(5):

        def look_up(city: str) -> str:
            return city

        opened.append(said(chat(session, tools=[look_up])))
        counts.append(len(ipywidget._instances))
    assert [view.closed for view in opened] == [True] * 4 + [False]
    assert set(counts) == {counts[0]}
    another = chat(session, system="Be brief.")
    assert (opened[-1].closed, another.closed) == (False, False)


@pytest.mark.parametrize(
    "options,told",
    [
        ({"system": 5}, "system"),
        ({"tools": [5]}, r"tools\[0\]"),
        ({"tools": get_weather}, "tools"),
        ({"alternatives": -1}, "alternatives"),
        ({"model": "nobody"}, "nobody"),
    ],
)
def test_what_makes_no_chat_is_refused_and_leaves_no_widget(page: Page, options: dict[str, Any], told: str) -> None:
    class Real(FakeSession):
        def conversation(self, *, tools: Any = None, tool_choice: Any = None) -> Conversation:
            return Conversation(lambda *_, **__: pytest.fail("asked"), function_tools([] if tools is None else tools))

    with pytest.raises(Exception, match=told):
        ChatView(Real(), **options)


# ----------------------------------------------------------------------------------------------------------- calls


def test_a_function_runs_once_it_is_approved_and_its_result_goes_back() -> None:
    threads: list[threading.Thread] = []

    def where(city: str) -> str:
        threads.append(threading.current_thread())
        return f"{city}: warm"

    where.__name__ = "get_weather"
    view = said(chatting(asking("get_weather"), tools=[where]))
    assert (view.state, results(view), threads) == ("deciding", [], [])
    (call,) = view.turns[-1]["calls"]
    assert (call["name"], call["state"], call["can_run"]) == ("get_weather", "waiting", True)
    view.decide(0, approved=True)
    assert view.wait(PATIENCE_S)
    assert (view.state, results(view)) == ("idle", ["Rome: warm"])
    assert threads != [threading.current_thread()]
    assert [message.role for message in view.messages] == ["user", "assistant", "ipython", "assistant"]
    assert view.turns[1]["calls"][0]["result"] == "Rome: warm"


def test_a_declined_call_never_runs_and_the_model_is_told() -> None:
    def never() -> None:
        pytest.fail("it ran")

    view = said(chatting(asking("never"), tools=[never]))
    view.decide(0, approved=False)
    assert view.wait(PATIENCE_S)
    assert results(view) == ["The user did not approve this call."]
    assert isinstance(view.messages[-1], CompletionMessage)


def test_results_stand_in_the_order_of_the_calls_however_they_are_decided() -> None:
    view = said(chatting(asking("get_weather", "break_down", "get_weather")))
    view.decide(2, approved=False)
    assert (view.state, view.run.id if view.run else None) == ("deciding", "run-1")
    view.decide(1, approved=True)
    wait_until(lambda: view.state == "deciding")
    view.decide(0, approved=True)
    assert view.wait(PATIENCE_S)
    wait_until(lambda: view.state == "idle")
    assert results(view) == [
        "Rome is warm for 1 days.",
        "LookupError: no such city",
        "The user did not approve this call.",
    ]


def test_a_call_may_be_required_of_the_answer_to_a_user_alone() -> None:
    view = said(chatting(asking("get_weather"), tool_choice=ToolChoice.required))
    view.decide(0, approved=False)
    assert view.wait(PATIENCE_S)
    said(view, "And?")
    assert [call["tool_choice"] for call in view.picker._session.calls] == ["required", "auto", "required"]


def test_required_binds_the_first_answer_alone_and_may_be_set_between_answers() -> None:
    view = said(chatting(asking("get_weather"), asking("get_weather"), tool_choice="required"))
    for _ in range(2):  # the model calls again of its own accord
        view.decide(0, approved=True)
        assert view.wait(PATIENCE_S)
    assert view.state == "idle"
    view.tool_choice = "none"
    said(view, "And?")
    view.tool_choice = "auto"
    said(view, "So?")
    choices = [call["tool_choice"] for call in view.picker._session.calls]
    assert choices == ["required", "auto", "auto", "none", "auto"]


@pytest.mark.parametrize("choice", ["any", 5, ["auto"]])
def test_a_tool_choice_that_is_none_is_refused(choice: Any) -> None:
    with pytest.raises(InvalidRequestError, match="tool_choice"):
        chatting(tool_choice=choice)


def test_what_became_of_a_call_is_told_apart_from_its_parsing() -> None:
    gate = threading.Event()

    def wait_for_it() -> str:
        gate.wait(PATIENCE_S)
        return "late"

    view = chatting(
        asking("get_weather", "break_down", "leave", "get_weather", "wait_for_it"),
        tools=[get_weather, break_down, leave, wait_for_it],
    )

    def states() -> list[str | None]:
        return [call["state"] for turn in view.turns for call in turn.get("calls", ())]

    said(view)
    assert states() == ["waiting"] * 5
    assert {call["status"] for call in view.turns[-1]["calls"]} == {"success"}
    for place in range(3):
        view.decide(place, approved=True)
        wait_until(lambda: view.state == "deciding")
    view.decide(3, approved=False)
    view.decide(4, approved=True)
    assert states() == ["ran", "failed", "failed", "declined", "running"]
    view.stop()
    gate.set()
    assert states() == ["ran", "failed", "failed", "declined", "stopped"]
    said(view, "And now?")
    assert states() == ["ran", "failed", "failed", "declined", "stopped"]


@pytest.mark.parametrize(
    "decide,told",
    [
        (lambda view: None, "waiting for you"),
        (lambda view: view.decide(0, approved=False), "declined"),
        (lambda view: view.stop(), "stopped"),
        (lambda view: view.decide(0, approved=True), "failed"),
    ],
)
def test_the_twin_tells_what_became_of_a_call(decide: Any, told: str) -> None:
    view = said(chatting(asking("break_down")))
    decide(view)
    wait_until(lambda: view.state in ("idle", "deciding"))
    assert f"{told}):" in view.static_html()
    assert "success" not in view.static_html()


def test_a_tool_without_a_function_is_answered_by_hand() -> None:
    view = said(chatting(asking("look_up"), tools=[ToolDefinition(tool_name="look_up")]))
    assert view.turns[-1]["calls"][0]["can_run"] is False
    with pytest.raises(InvalidRequestError, match="look_up has no function to run"):
        view.decide(0, approved=True)
    view.decide(0, approved=True, result="42")
    assert view.wait(PATIENCE_S)
    assert results(view) == ["42"]


def test_sys_exit_in_a_function_is_a_result_like_any_other() -> None:
    view = said(chatting(asking("leave")))
    view.decide(0, approved=True)
    assert view.wait(PATIENCE_S)
    assert results(view) == ["SystemExit: 3"]


def test_a_message_while_calls_are_open_declines_them() -> None:
    view = said(said(chatting(asking("get_weather"))), "Never mind.")
    assert results(view) == ["The user did not approve this call."]
    assert [message.role for message in view.messages] == ["user", "assistant", "ipython", "user", "assistant"]


def test_stop_gives_up_on_a_function_that_does_not_come_back() -> None:
    gate, ended = threading.Event(), threading.Event()

    def wait_for_it() -> str:
        gate.wait(PATIENCE_S)
        ended.set()
        return "too late"

    view = said(chatting(asking("wait_for_it"), tools=[wait_for_it]))
    view.decide(0, approved=True)
    assert view.state == "calling"
    with pytest.raises(BusyError):
        view.say("And?")
    with pytest.raises(InvalidRequestError, match="place"):
        view.decide(0, approved=False)
    view.stop()
    assert view.wait(PATIENCE_S)
    gate.set()
    assert ended.wait(PATIENCE_S)
    said(view, "So?")
    assert results(view) == ["The user stopped this call before it returned a result."]


def test_a_stopped_answer_asks_for_nothing() -> None:
    session = FakeSession(tokens_per_s=100, calls=[asking("get_weather") * 50])
    view = ChatView(session, tools=[get_weather])
    run = view.say("How is Rome?")
    wait_until(lambda: any(attempt.call for attempt in run.call_attempts))
    view.stop()
    assert view.wait(PATIENCE_S)
    assert view.state == "idle"
    assert {call["state"] for call in view.turns[-1]["calls"]} == {None}


@pytest.mark.parametrize("place", [1, -1, None, "0"])
def test_a_decision_on_no_open_call_is_refused(place: Any) -> None:
    view = said(chatting(asking("get_weather")))
    with pytest.raises(InvalidRequestError, match="place"):
        view.decide(place, approved=True)
    assert view.state == "deciding"


# ----------------------------------------------------------------------------------------- versions and new chats


def runs(view: ChatView) -> list[str]:
    return [turn["run"] for turn in view.turns if turn["role"] == "assistant"]


def version(view: ChatView) -> Any:
    return view.turns[-1]["version"]


def regenerated(view: ChatView) -> ChatView:
    view.regenerate()
    assert view.wait(PATIENCE_S)
    return view


def test_an_answer_that_is_regenerated_keeps_the_earlier_ones_as_versions() -> None:
    view = said(chatting())
    assert version(view) is None
    for _ in range(2):
        regenerated(view)
    assert (runs(view), version(view), len(view.messages)) == (["run-3"], [3, 3], 2)
    view.choose_version(1)
    assert (runs(view), version(view), view.feed.run.id) == (["run-1"], [1, 3], "run-1")
    view.choose_version(2)
    assert (runs(view), version(view)) == (["run-2"], [2, 3])
    assert view.messages[-1] is not None
    assert "version 2 of 3" in view.static_html()
    with pytest.raises(InvalidRequestError, match="version"):
        view.choose_version(4)


def test_the_chosen_version_is_what_the_conversation_goes_on_with() -> None:
    view = regenerated(said(ChatView(FakeSession(["Fine"], tokens_per_s=5000))))
    view.choose_version(1)
    said(view, "And then?")
    assert view.run is not None
    assert view.run.prompt == view.messages[:3]
    assert runs(view) == ["run-1", "run-3"]


def test_what_was_said_after_a_version_comes_back_with_it() -> None:
    view = regenerated(said(regenerated(said(chatting())), "And then?"))
    assert (runs(view), version(view)) == (["run-2", "run-4"], [2, 2])
    view.choose_version(1, turn=0)
    assert (runs(view), version(view)) == (["run-1"], [1, 2])
    view.choose_version(2, turn=0)
    assert (runs(view), version(view)) == (["run-2", "run-4"], [2, 2])
    view.choose_version(1)
    assert runs(view) == ["run-2", "run-3"]


def test_calls_and_their_results_belong_to_their_version() -> None:
    view = said(chatting(asking("break_down")))
    view.decide(0, approved=True)
    assert view.wait(PATIENCE_S)
    regenerated(view)
    assert (results(view), runs(view), version(view)) == ([], ["run-3"], [2, 2])
    view.choose_version(1)
    assert (results(view), runs(view)) == (["LookupError: no such city"], ["run-1", "run-2"])
    assert view.turns[1]["calls"][0]["state"] == "failed"
    assert [turn.get("version") for turn in view.turns] == [None, None, [1, 2]]


def test_an_answer_with_open_calls_is_regenerated_without_them() -> None:
    view = regenerated(said(chatting(asking("get_weather"))))
    assert (view.state, results(view), version(view)) == ("idle", [], [2, 2])
    view.choose_version(1)
    assert (view.state, view.turns[-1]["calls"][0]["state"]) == ("idle", "declined")


def test_a_version_that_fails_leaves_the_answer_before() -> None:
    session = FakeSession(["a"], tokens_per_s=5000)
    view = said(ChatView(session))
    session._error = RuntimeError("out of luck")
    regenerated(view)
    assert (view.turns[-1]["error"], version(view)) == ("out of luck", [2, 2])
    session._error = None
    said(view, "Again?")
    assert [message.content for message in view.messages] == ["How is Rome?", "a", "Again?", "a"]
    assert version(view) is None


@pytest.mark.parametrize("move", [lambda view: view.regenerate(), lambda view: view.say("TWO", turn=0)])
def test_an_answer_that_cannot_even_start_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch, move: Any
) -> None:
    view = said(said(chatting()), "And then?")
    before = view.turns

    def refuse(*_: Any, **__: Any) -> Any:
        raise InvalidRequestError("model", "x", "one that is served")

    monkeypatch.setattr(view._conversation, "start_answer", refuse)
    with pytest.raises(InvalidRequestError, match="model"):
        move(view)
    assert (view.turns, view.state) == (before, "idle")


def test_a_message_that_is_edited_has_no_versions_of_its_answer() -> None:
    view = said(regenerated(said(chatting())), "ONE", turn=0)
    assert (runs(view), version(view)) == (["run-3"], None)


def test_a_new_chat_has_no_turns_and_the_same_settings() -> None:
    view = said(chatting(system="Be brief.", tool_choice="none", sampling_params=SamplingParams(max_tokens=5)))
    view.new_chat()
    assert (view.turns, view.run, view.feed.run, view.can_undo) == ([], None, None, True)
    assert view.messages == [SystemMessage(content="Be brief.")]
    assert (view.sampling_params.max_tokens, view.tool_choice, view.context["used"]) == (5, "none", 0)
    said(view, "Hello")
    assert (len(view.messages), view.can_undo) == (3, False)


def test_a_new_chat_is_undone_until_something_is_said() -> None:
    view = regenerated(said(chatting()))
    before = view.turns
    view.new_chat()
    view.undo_new_chat()
    assert (view.turns, view.can_undo, view.feed.run.id) == (before, False, "run-2")
    view.choose_version(1)
    assert runs(view) == ["run-1"]
    view.new_chat()
    said(view, "Hello")
    with pytest.raises(InvalidRequestError, match="new_chat"):
        view.undo_new_chat()


def test_a_new_chat_without_turns_changes_nothing() -> None:
    view = chatting()
    view.new_chat()
    assert view.can_undo is False


@pytest.mark.parametrize(
    "move", [lambda view: view.regenerate(), lambda view: view.new_chat(), lambda view: view.choose_version(1)]
)
def test_nothing_is_moved_while_the_model_answers(move: Any) -> None:
    view = ChatView(FakeSession(tokens_per_s=0))
    view.say("Go on.")
    with pytest.raises(BusyError, match="stop it"):
        move(view)


def test_a_chat_without_a_message_has_nothing_to_regenerate() -> None:
    with pytest.raises(InvalidRequestError, match="turn"):
        chatting().regenerate()


def test_the_context_is_told_by_the_last_run_and_the_models_card() -> None:
    view = chatting()
    assert view.context == {"used": 0, "length": 8192}
    said(view)
    assert view.run is not None
    assert view.context == {"used": 48 + view.run.usage.generated_tokens, "length": 8192}


def test_tools_are_listed_with_their_descriptions_and_schemas() -> None:
    view = chatting(tools=[get_weather, ToolDefinition(tool_name="now", description="The time.")])
    assert [(tool["name"], tool["description"]) for tool in view.tools] == [
        ("get_weather", "Tell the weather."),
        ("now", "The time."),
    ]
    assert '"city"' in view.tools[0]["parameters"]


# -------------------------------------------------------------------------------------------------------- the page


def test_the_page_says_decides_and_shows(page: Page) -> None:
    view = chatting(asking("get_weather"))
    page.send(view, {"kind": "state", "state": {"system": "Be kind."}})
    page.send(view, {"kind": "say", "id": 1, "text": "How is Rome?", "turn": None})
    assert view.wait(PATIENCE_S)
    page.send(view, {"kind": "decide", "id": 2, "place": 0, "approved": True})
    assert view.wait(PATIENCE_S)
    page.send(view, {"kind": "show", "id": 3, "run": "run-1"})
    assert view.feed.run is not None
    assert view.feed.run.id == "run-1"
    assert view.system == "Be kind."
    assert [(reply["id"], reply["error"]) for reply in page.customs(view, "reply")] == [(1, None), (2, None), (3, None)]
    assert page.writes(view, "state") == ["answering", "deciding", "calling", "answering", "idle"]


def test_the_page_regenerates_chooses_begins_anew_and_undoes(page: Page) -> None:
    view = said(chatting())
    page.send(view, {"kind": "regenerate", "id": 1})
    assert view.wait(PATIENCE_S)
    page.send(view, {"kind": "version", "id": 2, "version": 1, "turn": 0})
    assert runs(view) == ["run-1"]
    page.send(view, {"kind": "new", "id": 3})
    assert view.turns == []
    page.send(view, {"kind": "undo", "id": 4})
    assert runs(view) == ["run-1"]
    assert [reply["error"] for reply in page.customs(view, "reply")] == [None] * 4


@pytest.mark.parametrize(
    "message,told",
    [
        ({"kind": "say", "text": " "}, "Write a message first."),
        ({"kind": "say", "text": None}, "Write a message first."),
        ({"kind": "decide", "place": 0, "approved": True}, "place"),
        ({"kind": "show", "run": "run-9"}, "run_id"),
    ],
)
def test_what_cannot_be_done_is_answered_in_words(page: Page, message: dict[str, Any], told: str) -> None:
    view = chatting()
    page.send(view, {"id": 7, **message})
    (reply,) = page.customs(view, "reply")
    assert reply["id"] == 7
    assert told in reply["error"]


def test_a_call_is_told_while_it_is_written(page: Page) -> None:
    view = ChatView(FakeSession(tokens_per_s=60, calls=[asking("get_weather")]), tools=[get_weather])
    view.say("How is Rome?")
    assert view.wait(PATIENCE_S)
    live = [call for delta in page.customs(view.feed, "delta") for call in delta.get("calls", ())]
    assert live[0][:2] == [0, "in_progress"]
    assert view.run is not None
    (attempt,) = view.run.call_attempts
    assert "".join(text for _, _, text, *_ in live) in attempt.text
    assert view.feed.snapshot["calls"] == [["success", attempt.text, "get_weather", '{\n "city": "Rome"\n}']]


def test_a_broken_call_is_shown_as_one_and_nothing_is_to_decide() -> None:
    view = said(chatting())
    run = FakeRun()
    run.call_attempts = [CallAttempt("failure", '{"name": ')]
    view._transcript.runs[0] = run
    (call,) = turns_wire(Transcript(view._conversation, [run]))[-1]["calls"]
    assert (call["status"], call["state"]) == ("failure", None)


# ------------------------------------------------------------------------------------------------------ the twin


def test_the_twin_holds_the_whole_conversation_with_calls_and_results() -> None:
    view = said(chatting(asking("get_weather"), system="Be brief."))
    view.decide(0, approved=True)
    assert view.wait(PATIENCE_S)
    twin = view.static_html()
    for text in (
        "Be brief.",
        "How is Rome?",
        "get_weather",
        "Rome is warm",
        "Tool call (ran)",
        "smollm2-135m-instruct",
    ):
        assert text in twin
    assert repr(view) == "ChatView(model='smollm2-135m-instruct', messages=5, state='idle')"
    view.close()
    assert view.static_html() == twin


def test_the_twin_of_a_chat_without_turns_says_so() -> None:
    assert "No messages yet." in chatting().static_html()


def test_whatever_is_said_by_anybody_is_text_in_the_twin() -> None:
    for payload in PAYLOADS:

        def give(payload: str = payload) -> str:
            return payload

        give.__name__, give.__annotations__ = "give", {"payload": str}
        calls = [ToolCall(call_id="i", tool_name="give", arguments={"payload": payload})]
        view = ChatView(
            FakeSession([payload], tokens_per_s=1e6, calls=[calls]), tools=[ToolDefinition(tool_name="give")]
        )
        said(view, payload)
        view.decide(0, approved=True, result=payload)
        assert view.wait(PATIENCE_S)
        twin = view.static_html()
        for tag in ("<script", "<img", "<svg", "<iframe", "<a ", "<style", "<form", "<button", "<x "):
            assert tag not in twin.lower()
        view.close()


def test_the_conversation_is_the_sessions_own() -> None:
    view = said(chatting())
    assert isinstance(view._conversation, Conversation)
    assert view._conversation.turns[0] == UserMessage(content="How is Rome?")


# ---------------------------------------------------------------------------------------------------------- shields


def refusal(where: Any) -> ShieldViolationError:
    facts = {"category": "S9", "name": "Weapons <b>", "probability": 0.93}
    return ShieldViolationError("words", SafetyViolation(violation_level=ViolationLevel.error, metadata=facts), where)


def test_every_answer_is_made_with_the_shields_that_stand_now() -> None:
    session = FakeSession(["Fine"], tokens_per_s=5000)
    view = said(ChatView(session, shields=["words", "more"]))
    view.shields = ["words"]
    said(view)
    view.shields = []
    said(view)
    assert [call.get("shields") for call in session.calls] == [["words", "more"], ["words"], None]


@pytest.mark.parametrize("shields", ["words", [""], [1], 3])
def test_shields_that_are_no_list_of_names_are_refused(shields: Any) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        ChatView(FakeSession(), shields=shields)
    assert raised.value.field == "shields"


@pytest.mark.parametrize(
    "where, told",
    [
        ("prompt", "Shield words refused this message: category S9 (Weapons <b>), probability 0.93. Nothing was"),
        ("answer", "Shield words refused this answer: category S9 (Weapons <b>), probability 0.93. The rest was"),
    ],
)
def test_a_refusal_is_told_with_shield_category_and_probability(where: Any, told: str) -> None:
    session = FakeSession(["I", " am", " fine."], tokens_per_s=5000, error=refusal(where))
    view = said(ChatView(session, shields=["words"]))
    turn = view.turns[-1]
    assert turn["error"].startswith(told)
    assert (turn["state"], turn["refused_by"]) == ("failed", "words")
    assert [message.role for message in view.messages] == ["user"]
    twin = view.static_html()
    assert "refused this" in twin
    assert "Weapons &lt;b&gt;" in twin
    assert view.run is not None
    assert view.run.text
    assert view.run.text in re.sub("<[^>]*>", "", twin), "what passed is shown in the twin as it is in the page"
    said(view, "Another question")
    assert [message.content for message in view.messages] == ["Another question"]


def test_an_answer_without_refusals_is_refused_by_nobody() -> None:
    assert said(chatting()).turns[-1]["refused_by"] is None
