"""The agent loop: approved calls are run on the caller's thread, results go back, and rounds are bounded."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from workbench.errors import InvalidRequestError
from workbench.protocol import (
    URL,
    ChatCompletionResponse,
    CompletionMessage,
    ImageMedia,
    Message,
    StopReason,
    SystemMessage,
    ToolCall,
    ToolChoice,
    ToolDefinition,
    ToolResponseMessage,
    UserMessage,
)
from workbench.session.conversation import MAX_ERROR_CHARACTERS, Conversation, ConversationResult, Loop, function_tools

QUESTION: list[Message] = [UserMessage(content="Add 1 and 2.")]


def add(a: int, b: int = 0) -> int:
    """Add two numbers."""
    return a + b


def fail(message: str) -> str:
    raise LookupError(message)


def calling(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(call_id=f"{name}-id", tool_name=name, arguments=arguments)


class Model:
    """Gives prepared answers, one after the other, and then says that it is done."""

    def __init__(self, *answers: list[ToolCall]) -> None:
        self._answers = list(answers)
        self.asked: list[list[Message]] = []
        self.choices: list[ToolChoice | None] = []

    def __call__(self, messages: list[Message], tool_choice: ToolChoice | None, **settings: Any) -> Any:
        self.asked.append(list(messages))
        self.choices.append(tool_choice)
        return FakeRun(self._answers.pop(0) if self._answers else [])


@dataclass
class FakeRun:
    calls: list[ToolCall]
    text: str = "Done."
    state: str = "finished"

    def result(self) -> ChatCompletionResponse:
        reason = StopReason.end_of_message if self.calls else StopReason.end_of_turn
        message = CompletionMessage(content=self.text, stop_reason=reason, tool_calls=self.calls)
        return ChatCompletionResponse(completion_message=message)


def converse(
    model: Model,
    *functions: Callable[..., Any],
    approve: Any = True,
    max_rounds: Any = 8,
    tool_choice: ToolChoice = ToolChoice.auto,
) -> ConversationResult:
    return Loop(model, function_tools(list(functions) or [add, fail]), approve, max_rounds).run(QUESTION, tool_choice)


def results(conversed: ConversationResult) -> list[Any]:
    return [message.content for message in conversed.messages if isinstance(message, ToolResponseMessage)]


def test_results_go_back_to_the_model_in_the_order_of_the_calls() -> None:
    model = Model([calling("add", a=1, b=2), calling("add", a=5)], [calling("add", a=3)])
    conversed = converse(model)
    assert results(conversed) == ["3", "5", "3"]
    assert (conversed.ended, conversed.text, len(conversed.runs)) == ("answered", "Done.", 3)
    assert [message.role for message in conversed.messages] == [
        *("user", "assistant", "ipython", "ipython", "assistant", "ipython", "assistant")
    ]
    assert model.asked == [conversed.messages[:1], conversed.messages[:4], conversed.messages[:6]]
    answer = conversed.messages[2]
    assert isinstance(answer, ToolResponseMessage)
    assert (answer.call_id, answer.tool_name) == ("add-id", "add")
    assert conversed.message == conversed.messages[-1]
    assert len(QUESTION) == 1


def test_an_answer_without_a_call_runs_nothing() -> None:
    conversed = converse(Model(), approve=pytest.fail)
    assert (conversed.ended, results(conversed)) == ("answered", [])


@pytest.mark.parametrize("rounds", [0, 1, 2, 5])
def test_the_loop_ends_after_so_many_rounds_with_the_last_calls_not_run(rounds: int) -> None:
    ran: list[int] = []

    def count(a: int) -> None:
        ran.append(a)

    conversed = converse(Model(*[[calling("count", a=1)]] * 9), count, max_rounds=rounds)
    assert (conversed.ended, len(ran), len(conversed.runs)) == ("max_rounds", rounds, rounds + 1)
    assert conversed.message.tool_calls == [calling("count", a=1)]


def test_every_call_is_approved_before_it_runs_and_what_is_refused_is_told() -> None:
    seen: list[ToolCall] = []

    def approve(call: ToolCall) -> bool:
        seen.append(call)
        return call.arguments["a"] != 2

    conversed = converse(Model([calling("add", a=1), calling("add", a=2), calling("add", a=3)]), approve=approve)
    assert results(conversed) == ["1", "The user did not approve this call.", "3"]
    assert [call.arguments["a"] for call in seen] == [1, 2, 3]


def test_nothing_runs_unless_somebody_approves() -> None:
    def never() -> None:
        pytest.fail("it ran")

    assert results(converse(Model([calling("never")]), never, approve=False)) == ["The user did not approve this call."]
    conversed = converse(Model([calling("never")]), never, approve=None)
    assert (conversed.ended, results(conversed)) == ("unapproved", [])
    assert conversed.message.tool_calls == [calling("never")]


def test_what_a_function_raises_is_told_to_the_model_and_bounded() -> None:
    conversed = converse(Model([calling("fail", message="no\ud83d such city"), calling("fail", message="x" * 10**6)]))
    short, long = results(conversed)
    assert short == "LookupError: no? such city"
    assert len(long) == MAX_ERROR_CHARACTERS
    assert long.startswith("LookupError: xxx")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_function_ends_the_loop(error: type[BaseException]) -> None:
    def stop() -> None:
        raise error

    model = Model([calling("stop")])
    with pytest.raises(error):
        converse(model, stop)
    assert len(model.asked) == 1


def test_functions_run_on_the_callers_own_thread() -> None:
    threads: list[threading.Thread] = []

    def where() -> None:
        threads.append(threading.current_thread())

    converse(Model([calling("where")]), where)
    assert threads == [threading.current_thread()]


def test_a_call_is_required_of_the_first_answer_alone() -> None:
    model = Model([calling("add", a=1)], [calling("add", a=1)])
    converse(model, tool_choice=ToolChoice.required)
    assert model.choices == ["required", "auto", "auto"]


class Unit(enum.Enum):
    metre = "m"


IMAGE = ImageMedia(image=URL(uri="data:image/png;base64,"))
CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    "result,content",
    [
        ("text", "text"),
        ("half \ud83d", "half ?"),
        (None, "null"),
        ({"a": [1, True, "é"]}, '{"a":[1,true,"é"]}'),
        (float("nan"), "NaN"),
        (Unit.metre, '"m"'),
        (UserMessage(content="x"), '{"role":"user","content":"x","context":null}'),
        (object, "<class 'object'>"),
        (b"\xff", "b'\\xff'"),
        (CIRCLE, "[[...]]"),
        (IMAGE, IMAGE),
        (["An image:", IMAGE, 5], ["An image:", IMAGE, "5"]),
    ],
    ids=str,
)
def test_results_are_told_as_text_as_json_or_as_images(result: Any, content: Any) -> None:
    def give() -> Any:
        return result

    (told,) = results(converse(Model([calling("give")]), give))
    assert told in (content, f'"{content}"')


@pytest.mark.parametrize("approve", [1, "yes", [True], object()])
def test_an_approval_that_is_none_is_refused(approve: Any) -> None:
    model = Model()
    with pytest.raises(InvalidRequestError, match="approve"):
        converse(model, approve=approve)
    assert model.asked == []


@pytest.mark.parametrize("rounds", [-1, 2.5, "3", None, True])
def test_a_limit_that_is_none_is_refused(rounds: Any) -> None:
    with pytest.raises(InvalidRequestError, match="max_rounds"):
        converse(Model(), max_rounds=rounds)


async def wait(seconds: float) -> None: ...


@pytest.mark.parametrize(
    "functions,told",
    [
        (add, "tools must be a list"),
        ([add, 5], r"tools\[1\]"),
        ([wait], "plain function"),
        ([add, add], "a unique name"),
    ],
)
def test_functions_that_cannot_be_run_are_refused(functions: Any, told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        function_tools(functions)


# --------------------------------------------------------------------------------------------------- step by step


def stepping(model: Model, **options: Any) -> Conversation:
    conversation = Conversation(model, function_tools([add, fail]), **options)
    conversation.say("Add 1 and 2.")
    return conversation


def test_a_conversation_taken_step_by_step_is_the_loops() -> None:
    answers = [[calling("add", a=1, b=2), calling("add", a=5)], [calling("fail", message="no")]]
    conversation = stepping(Model(*answers))
    while conversation.add_answer(conversation.start_answer()).tool_calls:
        for index, call in reversed(conversation.open_calls.items()):
            conversation.set_result(index, conversation.result(call))
    assert conversation.messages == converse(Model(*answers)).messages


def test_results_are_among_the_messages_as_soon_as_they_are_there() -> None:
    conversation = stepping(Model([calling("add", a=1), calling("add", a=2)]))
    conversation.add_answer(conversation.start_answer())
    conversation.set_result(1, "two")
    assert [message.content for message in conversation.messages[2:]] == ["two"]
    assert list(conversation.open_calls) == [0]
    conversation.decline(0)
    assert conversation.messages[2].content == "The user did not approve this call."
    assert conversation.open_calls == {}


def test_a_cancelled_answer_asks_for_no_calls() -> None:
    conversation = stepping(Model([calling("add", a=1)]))
    run = conversation.start_answer()
    run.state = "cancelled"
    assert conversation.add_answer(run).tool_calls == []
    assert conversation.open_calls == {}


def test_a_question_without_an_answer_gives_way_to_the_next_one() -> None:
    conversation = stepping(Model())
    conversation.say("Add 3 and 4.")
    conversation.system = "Be brief."
    assert conversation.messages == [SystemMessage(content="Be brief."), UserMessage(content="Add 3 and 4.")]


def test_what_became_of_each_call_is_told_by_the_place_of_its_result() -> None:
    calls = [calling("add", a=1), calling("fail", message="no"), calling("add", a=2), calling("add", a=3)]
    conversation = stepping(Model(calls))
    conversation.add_answer(conversation.start_answer())
    for index in (1, 0):
        conversation.set_result(index, conversation.result(calls[index]))
    assert conversation.outcomes == {2: "ran", 3: "failed"}
    conversation.decline(2)
    conversation.set_result(3, "Stopped.", "stopped")
    outcomes = {2: "ran", 3: "failed", 4: "declined", 5: "stopped"}
    assert conversation.outcomes == outcomes
    conversation.add_answer(conversation.start_answer())
    assert conversation.outcomes == outcomes


def test_turns_that_were_removed_are_put_back_with_what_became_of_their_calls() -> None:
    conversation = stepping(Model([calling("fail", message="no")]))
    conversation.add_answer(conversation.start_answer())
    conversation.set_result(0, LookupError("no"))
    conversation.add_answer(conversation.start_answer())
    turns, tail = conversation.turns, conversation.tail(1)
    conversation.rewind(1)
    assert (conversation.turns, conversation.outcomes) == (turns[:1], {})
    conversation.restore(tail)
    assert (conversation.turns, conversation.outcomes) == (turns, {2: "failed"})


def test_required_binds_the_answers_to_a_user_and_leaves_those_to_results_free() -> None:
    model = Model([calling("add", a=1)], [calling("add", a=2)], [])
    conversation = stepping(model, tool_choice=ToolChoice.required)
    while conversation.add_answer(conversation.start_answer()).tool_calls:
        conversation.set_result(0, "3")
    conversation.say("And 3?")
    conversation.add_answer(conversation.start_answer())
    assert model.choices == ["required", "auto", "auto", "required"]


def test_an_answer_without_tools_is_asked_for_by_the_choice_none() -> None:
    asked: list[dict[str, Any]] = []

    def ask(messages: list[Message], tool_choice: ToolChoice | None, **settings: Any) -> Any:
        asked.append({"tool_choice": tool_choice, **settings})
        return FakeRun([])

    conversation = Conversation(ask, {}, tool_choice="none")
    conversation.say("Hi")
    conversation.add_answer(conversation.start_answer(model="m"))
    conversation.tool_choice = ToolChoice.auto
    conversation.add_answer(conversation.start_answer())
    assert asked == [{"tool_choice": None, "offers_tools": False, "model": "m"}, {"tool_choice": ToolChoice.auto}]


def test_a_rewound_conversation_has_forgotten_what_came_after() -> None:
    conversation = stepping(Model([calling("add", a=1)]))
    conversation.add_answer(conversation.start_answer())
    conversation.rewind(0)
    assert (conversation.messages, conversation.open_calls) == ([], {})


def test_a_definition_among_the_tools_has_no_function_to_run() -> None:
    functions = function_tools([ToolDefinition(tool_name="look_up"), add], skip_definitions=True)
    conversation = Conversation(Model(), functions)
    assert [conversation.can_run(calling(name)) for name in ("look_up", "add")] == [False, True]


def test_the_former_names_of_the_steps_warn_and_take_the_same_steps() -> None:
    conversation = Conversation(Model([calling("add", a=1, b=2)]), {})
    conversation.say("How much is it?")
    with pytest.warns(DeprecationWarning, match=r"Conversation\.ask is now Conversation\.start_answer"):
        run = conversation.ask()
    with pytest.warns(DeprecationWarning, match=r"Conversation\.take is now Conversation\.add_answer"):
        assert conversation.take(run).tool_calls == list(conversation.open_calls.values())
    with pytest.warns(DeprecationWarning, match=r"Conversation\.settle is now Conversation\.set_result"):
        conversation.settle(0, "3", outcome="stopped")
    assert (conversation.open_calls, list(conversation.outcomes.values())) == ({}, ["stopped"])
