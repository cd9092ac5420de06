"""What comes back of a server's answer: text, records, calls, counts, whatever dialect it speaks."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.observing import Observed
from tests.fakes.requests import chat_request, completion_request
from tests.fakes.scripted_server import Reply, ScriptedServer, Stream, chat_events, completion_events
from tests.unit.providers.openai.conftest import MakeProvider
from workbench.errors import RemoteConnectionError, RemoteError, ToolCallError, UnsupportedFieldError
from workbench.prompts.tools.definitions import Toolset
from workbench.protocol import (
    ChatCompletionResponseEventType,
    LogProbConfig,
    Message,
    SamplingParams,
    StopReason,
    ToolCall,
    ToolCallDelta,
    ToolCallParseStatus,
    ToolChoice,
    ToolDefinition,
    ToolParamDefinition,
    UserMessage,
)
from workbench.providers.openai.failures import Failures
from workbench.providers.openai.logprobs import LogprobOptions
from workbench.providers.openai.reading import AnswerReader
from workbench.providers.openai.request_preparation import PreparedRequest
from workbench.providers.openai.wire import Part

HELLO: list[Message] = [UserMessage(content="Hello")]
WEATHER = ToolDefinition(
    tool_name="get_weather",
    parameters={"city": ToolParamDefinition(param_type="string"), "days": ToolParamDefinition(param_type="integer")},
)


def call_part(index: int, arguments: str, name: str | None = None, call_id: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"tool_calls": [{"index": index, "function": function} | ({"id": call_id} if call_id else {})]}


def read(events: list[Any], *, stop: list[str] | None = None, logprobs: LogprobOptions | None = None) -> list[Any]:
    """The emissions of a completion's events."""
    request = completion_request("small", "x", SamplingParams(stop=stop))
    asked = PreparedRequest("/completions", {}, logprobs or LogprobOptions(), Toolset(), must_call=False, streams=True)
    reader = AnswerReader(request, asked, Failures("the server", None))
    emissions = [emission for event in events for emission in reader.feed(Part.model_validate(event))]
    return [*emissions, *reader.close()]


async def test_a_stream_is_the_text_of_its_events_and_ends_with_the_reason(
    server: ScriptedServer, make: MakeProvider
) -> None:
    server.script("/v1/completions", Stream(completion_events("Once", " upon", " a", finish_reason="length")))
    chunks = [chunk async for chunk in make().completion("small", "x", stream=True)]
    assert "".join(chunk.delta for chunk in chunks) == "Once upon a"
    assert [chunk.stop_reason for chunk in chunks] == [None] * (len(chunks) - 1) + [StopReason.out_of_tokens]


async def test_the_servers_counts_are_the_usage(server: ScriptedServer, make: MakeProvider) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    server.script("/v1/chat/completions", Stream(chat_events("Hi", " there", usage=usage)))
    observed = Observed(make())
    await observed.chat_completion("small", HELLO)
    counted = observed.folded.usage
    assert counted is not None
    assert (counted.prompt_tokens, counted.reused_tokens, counted.generated_tokens) == (7, 4, 5)


async def test_a_chat_begins_goes_on_and_completes(server: ScriptedServer, make: MakeProvider) -> None:
    server.script("/v1/chat/completions", Stream(chat_events("Hi", " there")))
    kinds = [chunk.event.event_type async for chunk in make().chat_completion("small", HELLO, stream=True)]
    event = ChatCompletionResponseEventType
    assert kinds == [event.start, event.progress, event.progress, event.complete]


@given(st.text("ab<|", max_size=24), st.lists(st.text("ab<|", min_size=1, max_size=4), max_size=3), st.randoms())
def test_however_a_text_is_cut_it_ends_before_the_first_stop_string(text: str, stop: list[str], random: Any) -> None:
    cuts = sorted(random.randrange(len(text) + 1) for _ in range(random.randrange(6)))
    parts = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    emissions = read(completion_events(*parts), stop=stop)
    # Of several the one that is completed first, and of those completed together the longest.
    ends = min(((text.find(one) + len(one), text.find(one)) for one in stop if one in text), default=(0, len(text)))
    assert "".join(emission.delta for emission in emissions) == text[: ends[1]]
    assert [emission.stop_reason for emission in emissions if emission.stop_reason] == [StopReason.end_of_turn]


async def test_a_server_that_leaves_the_stop_string_in_is_cut_short_and_left(
    server: ScriptedServer, make: MakeProvider
) -> None:
    server.script("/v1/completions", Stream(completion_events("One, t", "wo, thr", finish_reason=None), "silent"))
    response = await make().completion("small", "x", SamplingParams(stop=["two"]))
    assert response.completion_message.content == "One, "
    assert response.completion_message.stop_reason is StopReason.end_of_turn
    assert server.hung_up.wait(60)


@pytest.mark.parametrize("ending", ["closed", "done", "cut"])
async def test_an_answer_that_breaks_off_is_an_error_and_no_end(
    server: ScriptedServer, make: MakeProvider, ending: Any
) -> None:
    server.script("/v1/completions", Stream(completion_events("Once", finish_reason=None), ending))
    stream = make().completion("small", "x", stream=True)
    assert (await anext(stream)).delta == "Once"
    with pytest.raises(RemoteConnectionError):
        await anext(stream)


@pytest.mark.parametrize("error", [{"error": {"message": "out of memory"}}, {"error": "out of memory"}])
async def test_an_error_event_in_the_stream_is_an_error(server: ScriptedServer, make: MakeProvider, error: Any) -> None:
    server.script("/v1/completions", Stream([*completion_events("Once", finish_reason=None), error]))
    with pytest.raises(RemoteError, match="out of memory"):
        await make().completion("small", "x")


@pytest.mark.parametrize("reason", ["abort", "error", "whatever"])
async def test_a_reason_that_is_none_is_an_error(server: ScriptedServer, make: MakeProvider, reason: str) -> None:
    server.script("/v1/completions", Stream(completion_events("Once", finish_reason=reason)))
    with pytest.raises(RemoteError, match=reason):
        await make().completion("small", "x")


@pytest.mark.parametrize(
    "event",
    [
        {"choices": [{"text": 7}]},
        {"choices": "none"},
        [],
        7,
        {"choices": [{"text": "a", "logprobs": {"content": [{"logprob": "x"}]}}]},
        "data: {not json}\n\n",
        'data: {"choices": ' + "[" * 100_000 + "\n\n",
        "data: NaN\n\n",
    ],
)
async def test_nonsense_is_an_error_that_says_so(server: ScriptedServer, make: MakeProvider, event: Any) -> None:
    server.script("/v1/completions", Stream([event]))
    with pytest.raises(RemoteError):
        await make().completion("small", "x")


# ------------------------------------------------------------------------------------------------------------ logprobs


def newer(token: str, logprob: float, top: dict[str, float], **more: Any) -> dict[str, Any]:
    listed = [{"token": text, "logprob": value} for text, value in top.items()]
    return {"content": [{"token": token, "logprob": logprob, "top_logprobs": listed} | more]}


async def test_logprobs_of_chats_become_records_best_first(server: ScriptedServer, make: MakeProvider) -> None:
    event = {
        "choices": [{"delta": {"content": "Hi"}, "logprobs": newer("Hi", -0.5, {"Hi": -0.5, "Ho": -1.0, "Ha": -2.0})}]
    }
    server.script("/v1/chat/completions", Stream([event, *chat_events()]))
    observed = Observed(make())
    response = await observed.chat_completion("small", HELLO, logprobs=LogProbConfig(top_k=1))
    (record,) = observed.folded.tokens
    assert (record.text, record.bytes, record.logprob, record.rank, record.token_id) == ("Hi", b"Hi", -0.5, 1, -1)
    assert math.isnan(record.entropy)
    assert [(other.text, other.rank) for other in record.alternatives] == [("Ho", 2)]
    assert response.logprobs[0].logprobs_by_token == {"Hi": -0.5, "Ho": -1.0}
    assert server.bodies("/v1/chat/completions")[0]["top_logprobs"] == 2


async def test_logprobs_of_completions_in_the_older_form_become_the_same(
    server: ScriptedServer, make: MakeProvider
) -> None:
    older = {
        "tokens": ["Hi", "!"],
        "token_logprobs": [-0.5, -3.0],
        "top_logprobs": [{"Hi": -0.5, "Ho": -1.0}, {".": -0.1}],
    }
    event = {"choices": [{"text": "Hi!", "logprobs": older}]}
    server.script("/v1/completions", Stream([event, *completion_events()]))
    observed = Observed(make())
    response = await observed.completion("small", "x", logprobs=LogProbConfig(top_k=1))
    tokens: Any = observed.folded.tokens
    first, second = tokens
    assert [(one.text, one.rank) for one in (first, *first.alternatives)] == [("Hi", 1), ("Ho", 2)]
    # The second was not among the most probable ones, so nobody knows its rank, and the list is not shortened by it.
    assert [(one.text, one.rank) for one in (second, *second.alternatives)] == [("!", 0), (".", 1)]
    assert [entry.logprobs_by_token for entry in response.logprobs] == [
        {"Hi": -0.5, "Ho": -1.0},
        {".": -0.1, "!": -3.0},
    ]


async def test_llama_cpp_tells_ids_and_the_text_that_a_token_really_has(
    server: ScriptedServer, make: MakeProvider
) -> None:
    top = [{"id": 5, "token": " but", "bytes": [32, 98, 117, 116], "logprob": -0.3}]
    entry = {"id": 5, "token": "", "bytes": [], "logprob": -0.3, "top_logprobs": top}  # held back for a stop string
    server.script(
        "/v1/completions",
        Stream([{"choices": [{"text": " but", "logprobs": {"content": [entry]}}]}, *completion_events()]),
    )
    observed = Observed(make("llama_cpp"))
    await observed.completion("small", "x", logprobs=LogProbConfig())
    (record,) = observed.folded.tokens
    assert (record.token_id, record.text, record.bytes, record.rank) == (5, " but", b" but", 1)


async def test_vllm_tells_ids_and_logprobs_of_the_prompt(server: ScriptedServer, make: MakeProvider) -> None:
    positions = [
        None,
        {
            "9": {"logprob": -4.0, "rank": 7, "decoded_token": " b"},
            "3": {"logprob": -0.1, "rank": 1, "decoded_token": " a"},
        },
    ]
    choice = {
        "text": "!",
        "token_ids": [11],
        "finish_reason": "length",
        "logprobs": {"tokens": ["!"], "token_logprobs": [-0.2], "top_logprobs": [{"!": -0.2}]},
        "prompt_logprobs": positions,
    }
    server.script(
        "/v1/completions", Reply({"choices": [choice], "prompt_token_ids": [1, 9], "usage": {"prompt_tokens": 2}})
    )
    observed = Observed(make("vllm"))
    response = await observed.completion(
        "small", "x", SamplingParams(max_tokens=1), logprobs=LogProbConfig(top_k=1, prompt=True)
    )
    folded = observed.folded
    (given_token,) = folded.prompt_tokens
    assert (given_token.token_id, given_token.rank, given_token.position, given_token.text) == (9, 7, 1, " b")
    assert [other.token_id for other in given_token.alternatives] == [3]
    assert [record.token_id for record in folded.tokens] == [11]
    assert len(response.logprobs) == 2
    body = server.bodies("/v1/completions")[0]
    assert (body["prompt_logprobs"], body["return_token_ids"], body.get("stream")) == (2, True, None)


async def test_a_server_that_tells_no_logprobs_though_asked_is_an_error_and_no_silence(
    server: ScriptedServer, make: MakeProvider
) -> None:
    server.script("/v1/completions", Stream(completion_events("Once")))
    with pytest.raises(UnsupportedFieldError, match="logprobs"):
        await make().completion("small", "x", logprobs=LogProbConfig())


async def test_tokens_of_which_no_logprob_was_told_are_counted_in_a_note(
    server: ScriptedServer, make: MakeProvider
) -> None:
    entry = {"choices": [{"delta": {"content": "🌟"}, "logprobs": newer("🌟", -0.5, {"🌟": -0.5})}]}
    server.script("/v1/chat/completions", Stream([entry, *chat_events(usage={"completion_tokens": 4})]))
    observed = Observed(make())
    await observed.chat_completion("small", HELLO, logprobs=LogProbConfig())
    assert observed.folded.notes == ("the server sent no logprobs for 3 of its 4 tokens",)


async def test_no_limit_of_ours_and_an_answer_out_of_tokens_is_told(server: ScriptedServer, make: MakeProvider) -> None:
    server.script("/v1/completions", Stream(completion_events("Once", finish_reason="length")))
    observed = Observed(make())
    await observed.completion("small", "x")
    folded = observed.folded
    assert "the server's own limit" in folded.notes[0]


# --------------------------------------------------------------------------------------------------------------- calls


@given(st.lists(st.integers(1, 40), max_size=12), st.sampled_from(["{a,b}", "Köln 😀", 'say "hi"', "\\", ""]))
def test_a_call_cut_anywhere_is_the_same_call(lengths: list[int], city: str) -> None:
    text, position, parts = json.dumps({"city": city, "days": 3}), 0, []
    for length in lengths:
        parts.append(call_part(0, text[position : position + length]))
        position += length
    parts.append(call_part(0, text[position:]))
    events = chat_events(call_part(0, "", "get_weather", "call_1"), *parts, finish_reason="tool_calls")
    request = chat_request("small", HELLO, tools=[WEATHER])
    asked = PreparedRequest(
        "/chat/completions", {}, LogprobOptions(), Toolset.of([WEATHER]), must_call=True, streams=True
    )
    reader = AnswerReader(request, asked, Failures("the server", None))
    emissions = [emission for event in events for emission in reader.feed(Part.model_validate(event))] + list(
        reader.close()
    )
    deltas = [emission.delta for emission in emissions if isinstance(emission.delta, ToolCallDelta)]
    assert deltas[0].parse_status is ToolCallParseStatus.started
    assert deltas[-1].content == ToolCall(
        call_id="call_1", tool_name="get_weather", arguments={"city": city, "days": 3}
    )


async def test_two_calls_are_two_calls_and_the_turn_waits_for_their_answers(
    server: ScriptedServer, make: MakeProvider
) -> None:
    parts = [
        call_part(0, '{"city": "Rome",', "get_weather", "call_1"),
        call_part(0, ' "days": 1}'),
        call_part(1, '{"city": "Oslo", "days": 2}', "get_weather", "call_2"),
    ]
    server.script("/v1/chat/completions", Stream(chat_events("Let me see.", *parts, finish_reason="tool_calls")))
    message = (await make().chat_completion("small", HELLO, tools=[WEATHER])).completion_message
    assert message.content == "Let me see."
    assert [(call.call_id, call.arguments["city"]) for call in message.tool_calls] == [
        ("call_1", "Rome"),
        ("call_2", "Oslo"),
    ]
    assert message.stop_reason is StopReason.end_of_message


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("drop_tables", "{}"),
        ("get_weather", '{"city": 7, "days": 1}'),
        ("get_weather", '{"city": "Rome"'),
        ("get_weather", "[" * 100_000),
        ("get_weather", '"Rome"'),
        ("get_weather", '{"city": "Rome", "days": NaN}'),
    ],
)
async def test_a_call_that_cannot_be_one_stays_as_text_and_is_none(
    server: ScriptedServer, make: MakeProvider, name: str, arguments: str
) -> None:
    parts = chat_events(call_part(0, arguments, name, "call_1"), finish_reason="tool_calls")
    server.script("/v1/chat/completions", Stream(parts))
    observed = Observed(make())
    response = await observed.chat_completion("small", HELLO, tools=[WEATHER])
    assert response.completion_message.tool_calls == []
    assert response.completion_message.content == name + arguments
    assert response.completion_message.stop_reason is StopReason.end_of_turn
    folded = observed.folded
    assert "could not be read" in folded.notes[0]


async def test_a_call_that_had_to_come_and_did_not_is_an_error(server: ScriptedServer, make: MakeProvider) -> None:
    server.script("/v1/chat/completions", Stream(chat_events("No.")))
    with pytest.raises(ToolCallError, match="made none"):
        await make().chat_completion("small", HELLO, tools=[WEATHER], tool_choice=ToolChoice.required)
    assert server.bodies("/v1/chat/completions")[0]["tool_choice"] == "required"
