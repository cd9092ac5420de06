"""Tools through the session: functions in, calls out, streamed as whole; batches in order; whole conversations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.models import EOM, FakeDecoder, answering
from tests.fakes.serving import FakeModels
from workbench import Workbench
from workbench.errors import InvalidRequestError, ToolCallError
from workbench.protocol import (
    CompletionMessage,
    LogProbConfig,
    SamplingParams,
    StopReason,
    SystemMessage,
    ToolCallDelta,
    ToolChoice,
    ToolDefinition,
    ToolResponseMessage,
    UserMessage,
)

CALL = '{"type": "function", "name": "get_weather", "parameters": {"location": "Rome", "days": 2}}'
BROKEN = '{"type": "function", "name": "get_weather", "parameters": {"location": 5}}'
PATIENCE_S = 60  # the first chat starts a process for templates
QUESTION: list[Any] = [UserMessage(content="How is Rome?")]


def get_weather(location: str, days: int = 1) -> str:
    """Tell the weather.

    Args:
        location: the city.
    """
    return f"{location} is warm for {days} days."


def no_annotation(x): ...  # type: ignore[no-untyped-def]


@pytest.fixture
def saying(fake_models: FakeModels) -> Iterator[Any]:
    """Opens a workbench whose model gives these answers, one in each turn."""
    opened: list[Workbench] = []

    def make(*answers: str) -> Workbench:
        fake_models.add("chat", FakeDecoder(answering(*answers)))
        opened.append(Workbench(fake_models.config))
        return opened[-1]

    yield make
    for bench in opened:
        bench.close()


def test_a_function_is_called_by_the_model_and_not_by_the_workbench(saying: Any) -> None:
    run = saying(f"Let me see. {CALL}").chat_completion(QUESTION, tools=[get_weather])
    message = run.result(PATIENCE_S).completion_message
    assert [(call.tool_name, call.arguments) for call in run.tool_calls] == [
        ("get_weather", {"location": "Rome", "days": 2})
    ]
    assert message.tool_calls == run.tool_calls
    assert message.content == run.text == "Let me see. "
    assert message.stop_reason == run.stop_reason == StopReason.end_of_message


def test_what_is_streamed_is_what_comes_whole_and_every_token_has_its_logprob(saying: Any) -> None:
    bench = saying(f"So: {CALL}\n{BROKEN} and {CALL}")
    run = bench.chat_completion(QUESTION, tools=[get_weather], logprobs=LogProbConfig(top_k=1))
    again = bench.chat_completion(QUESTION, tools=[get_weather], logprobs=LogProbConfig(top_k=1))
    assert run.result(PATIENCE_S) == again.result(PATIENCE_S)  # the ids of the calls too
    statuses = [chunk.event.delta.parse_status.value for chunk in run if isinstance(chunk.event.delta, ToolCallDelta)]
    assert [status for status in statuses if status != "in_progress"] == [
        *("started", "success", "started", "failure", "started", "success")
    ]
    assert run.text == f"So: {BROKEN} and "
    assert len(run.result().logprobs) == len(run.tokens) == run.usage.generated_tokens
    assert "".join(token.text for token in run.tokens) == f"So: {CALL}\n{BROKEN} and {CALL}"
    assert any("days" in note or "location" in note for note in run.notes)


async def test_the_protocol_gives_the_same_streamed_and_whole(saying: Any) -> None:
    bench = saying(f"{CALL} {CALL}")
    choices: tuple[list[ToolDefinition] | None, ...] = ([ToolDefinition(tool_name="get_weather")], None)
    for tools in choices:
        whole = await bench.inference.chat_completion("chat", QUESTION, tools=tools)
        chunks = [chunk async for chunk in bench.inference.chat_completion("chat", QUESTION, tools=tools, stream=True)]
        calls = [
            chunk.event.delta.content
            for chunk in chunks
            if isinstance(chunk.event.delta, ToolCallDelta) and chunk.event.delta.parse_status == "success"
        ]
        assert calls == whole.completion_message.tool_calls


def test_without_tools_a_call_is_plain_text(saying: Any) -> None:
    bench = saying(CALL)
    neither: tuple[Any, ...] = (None, [])
    for tools in neither:
        run = bench.chat_completion(QUESTION, tools=tools)
        assert run.result(PATIENCE_S).completion_message.content == CALL
        assert (run.tool_calls, run.stop_reason) == ([], StopReason.end_of_turn)


def test_functions_and_definitions_may_stand_side_by_side(saying: Any) -> None:
    run = saying(CALL).chat_completion(QUESTION, tools=[ToolDefinition(tool_name="now"), get_weather])
    run.result(PATIENCE_S)
    assert len(run.tool_calls) == 1


@pytest.mark.parametrize(
    "tools,told", [([no_annotation], r"tools\[0\]\.no_annotation\.x"), ([5], r"tools\[0\]"), ("x", "tools")]
)
def test_what_is_no_tool_is_refused_before_a_model_is_loaded(
    saying: Any, fake_models: FakeModels, tools: Any, told: str
) -> None:
    bench = saying("x")
    asks: list[Any] = [
        lambda: bench.chat_completion(QUESTION, tools=tools),
        lambda: bench.batch_chat_completion([QUESTION], tools=tools),
        lambda: bench.converse(QUESTION, tools=tools, approve=True),
    ]
    for ask in asks:
        with pytest.raises(InvalidRequestError, match=f"^{told}"):
            ask()
    assert fake_models.loads == []


def test_a_required_call_that_does_not_fit_the_tokens_is_an_error(saying: Any) -> None:
    run = saying(CALL).chat_completion(
        QUESTION, tools=[get_weather], tool_choice=ToolChoice.required, sampling_params=SamplingParams(max_tokens=20)
    )
    with pytest.raises(ToolCallError, match=r"sampling_params\.max_tokens"):
        run.result(PATIENCE_S)
    assert run.state == "failed"
    assert run.text == CALL[:20]
    assert len(run.tokens) == 20


# ------------------------------------------------------------------------------------------------------- batches


def test_a_batch_keeps_its_order_and_has_the_calls_of_each(saying: Any) -> None:
    bench = saying(CALL, "Fine.", f"No {CALL}")
    said = CompletionMessage(content="x", stop_reason=StopReason.end_of_turn)
    batch = [[UserMessage(content=f"{index}"), *[said, UserMessage(content="y")] * (index % 3)] for index in range(9)]
    alone = [bench.chat_completion(one, tools=[get_weather]).result(PATIENCE_S).completion_message for one in batch]
    together = bench.batch_chat_completion(batch, tools=[get_weather]).completion_message_batch
    assert together == alone
    assert [message.content for message in together] == ["", "Fine.", "No "] * 3
    assert [len(message.tool_calls) for message in together] == [1, 0, 1] * 3


@pytest.mark.parametrize(
    "bad",
    [[], [5], [UserMessage(content="x" * 5000)], [SystemMessage(content="\ud800")], 5],
    ids=["empty", "no message", "too long", "half a character", "no list"],
)
def test_one_bad_conversation_refuses_the_batch_by_its_index_before_anything_is_computed(
    saying: Any, fake_models: FakeModels, bad: Any
) -> None:
    bench = saying("Fine.")
    decoder = fake_models._models["chat"]["decoder"]
    for tools in (None, [get_weather]):
        with pytest.raises(InvalidRequestError, match=r"^messages_batch\[2\]"):
            bench.batch_chat_completion([QUESTION, QUESTION, bad, QUESTION], tools=tools)
    assert decoder.prefills == []


# ------------------------------------------------------------------------------------------------- conversations


def test_a_conversation_runs_approved_calls_and_ends_with_the_answer(saying: Any) -> None:
    bench = saying(CALL, f"Once more. {CALL}", "Warm.")
    conversed = bench.converse(QUESTION, tools=[get_weather], approve=True)
    assert (conversed.ended, conversed.text) == ("answered", "Warm.")
    assert [message.content for message in conversed.messages[1:]] == [
        *("", "Rome is warm for 2 days.", "Once more. ", "Rome is warm for 2 days.", "Warm.")
    ]
    first, second = (message for message in conversed.messages if isinstance(message, ToolResponseMessage))
    assert first.call_id == conversed.runs[0].tool_calls[0].call_id
    assert second.call_id == conversed.runs[1].tool_calls[0].call_id
    assert first.call_id != second.call_id
    assert len(conversed.runs) == 3


def test_a_conversation_ends_at_its_limit(saying: Any) -> None:
    conversed = saying(*[CALL] * 5).converse(QUESTION, tools=[get_weather], approve=True, max_rounds=2)
    assert (conversed.ended, len(conversed.runs)) == ("max_rounds", 3)


def test_a_model_that_hands_over_by_a_token_of_its_own_may_say_nothing_else(fake_models: FakeModels) -> None:
    def hand_over(cache: Any) -> Any:
        logits = answering(CALL)(cache)
        logits[EOM] = logits[258] + 1 if logits[258] > 0 else 0
        return logits

    fake_models.add("chat", FakeDecoder(hand_over))
    with Workbench(fake_models.config) as bench:
        run = bench.chat_completion(QUESTION, tools=[get_weather])
        assert run.result(PATIENCE_S).completion_message.stop_reason == StopReason.end_of_message
        assert len(run.tool_calls) == 1


def test_a_contradiction_in_the_parameters_is_warned_of_once_however_many_rounds(saying: Any) -> None:
    bench = saying(CALL, CALL, "Warm.")
    with pytest.warns(UserWarning, match="greedy") as caught:
        bench.converse(QUESTION, tools=[get_weather], approve=True, sampling_params=SamplingParams(temperature=0.7))
    assert [warning.filename for warning in caught] == [__file__]


def test_an_argument_that_no_answer_takes_is_refused_like_any_other(saying: Any) -> None:
    with pytest.raises(TypeError, match=r"converse\(\) got an unexpected keyword argument 'temperature'"):
        saying().converse(QUESTION, tools=[get_weather], temperature=0.7)


def test_a_conversation_is_moved_on_step_by_step(saying: Any) -> None:
    conversation = saying(CALL, "Warm.").conversation(tools=[get_weather, ToolDefinition(tool_name="now")])
    conversation.say("How is Rome?")
    run = conversation.start_answer(sampling_params=SamplingParams(max_tokens=200), logprobs=LogProbConfig(top_k=1))
    assert run.wait(PATIENCE_S)
    (call,) = conversation.add_answer(run).tool_calls
    assert [(attempt.status, attempt.text, attempt.call) for attempt in run.call_attempts] == [("success", CALL, call)]
    conversation.set_result(0, conversation.result(call))
    answer = conversation.add_answer(conversation.start_answer(sampling_params=None))
    assert answer.content == "Warm."
    assert conversation.turns[2].content == "Rome is warm for 2 days."
    assert [tool["name"] for tool in conversation.tools] == ["get_weather", "now"]
    assert "location" in conversation.tools[0]["parameters"]["properties"]


def test_answers_without_tools_are_made_by_the_choice_none(saying: Any) -> None:
    conversation = saying(CALL, CALL).conversation(tools=[get_weather], tool_choice="none")
    conversation.say("How is Rome?")
    run = conversation.start_answer()
    assert (conversation.add_answer(run).tool_calls, run.text) == ([], CALL)
    conversation.tool_choice = ToolChoice.auto
    conversation.say("And now?")
    assert conversation.add_answer(conversation.start_answer()).tool_calls


def test_a_call_that_is_cut_off_or_does_not_fit_is_an_attempt_that_failed(saying: Any) -> None:
    run = saying(f"So: {BROKEN} and {CALL[:30]}").chat_completion(QUESTION, tools=[get_weather])
    run.result(PATIENCE_S)
    assert [(attempt.status, attempt.call) for attempt in run.call_attempts] == [("failure", None)] * 2
    assert [attempt.text for attempt in run.call_attempts] == [BROKEN, CALL[:30]]


@pytest.mark.parametrize(
    "tools", [[get_weather, get_weather], [no_annotation], [5], "x"], ids=["twice", "untyped", "number", "text"]
)
def test_tools_of_a_conversation_are_checked_before_anything_is_said(saying: Any, tools: Any) -> None:
    with pytest.raises(InvalidRequestError, match="tools"):
        saying("x").conversation(tools=tools)
