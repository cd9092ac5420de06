"""Calls put together of whatever parts a server makes of them: names said again, places and ids left out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.scripted_server import Reply, ScriptedServer, Stream, chat_events
from tests.unit.providers.openai.conftest import MakeProvider
from workbench.errors import RemoteError
from workbench.prompts.tools.definitions import Toolset
from workbench.protocol import LogProbConfig, ToolCall, ToolCallDelta, ToolDefinition, ToolParamDefinition, UserMessage
from workbench.providers.openai.calls import CallReader
from workbench.providers.openai.wire import CallPart

HELLO: list[Any] = [UserMessage(content="Hello")]
CITY = {"city": ToolParamDefinition(param_type="string")}
TOOLS = [
    ToolDefinition(tool_name="get", parameters={}),
    ToolDefinition(tool_name="get_weather", parameters=CITY),
    ToolDefinition(tool_name="get_weather_in", parameters=CITY),
    ToolDefinition(tool_name="get_get_here", parameters={}),
    ToolDefinition(tool_name="list_all", parameters={}),
]
NAMES = [str(tool.tool_name) for tool in TOOLS]
ROME, OSLO = '{"city": "Rome"}', '{"city": "Oslo"}'


def part(
    name: str | None = None, arguments: Any = None, *, index: int | None = None, call_id: str | None = None
) -> dict[str, Any]:
    """A part without what is None, as servers leave it out."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fields = {"index": index, "id": call_id, "function": function}
    return {key: value for key, value in fields.items() if value is not None}


def news(parts: Sequence[dict[str, Any]]) -> list[ToolCallDelta]:
    reader = CallReader(Toolset.of(TOOLS))
    told = [delta for one in parts for delta in reader.feed(CallPart.model_validate(one))]
    return [*told, *reader.close()]


def calls(parts: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Names and arguments of the calls; the parts have to make up calls alone."""
    told = news(parts)
    assert not [delta for delta in told if delta.parse_status == "failure"], told
    found = [delta.content for delta in told if isinstance(delta.content, ToolCall)]
    assert len({call.call_id for call in found}) == len(found), "two calls with one id"
    return [(str(call.tool_name), call.arguments) for call in found]


def cut(text: str, ends: Sequence[int]) -> list[str]:
    places = [0, *sorted(min(end, len(text)) for end in ends), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(places)]


IN_ROME, IN_OSLO = ("get_weather", json.loads(ROME)), ("get_weather", json.loads(OSLO))
CALLS: dict[str, tuple[list[dict[str, Any]], list[tuple[str, dict[str, Any]]]]] = {
    "name in every part": (
        [part("get_weather", piece, index=0, call_id="1") for piece in ("", '{"city"', ': "Rome"}')],
        [IN_ROME],
    ),
    "name in every part, without place and id": (
        [part("get_weather", piece) for piece in ("", '{"city"', ': "Rome"}', "")],
        [IN_ROME],
    ),
    "name and another id in every part": (
        [part("get_weather", "", index=0, call_id="1")]
        + [part(None, piece, index=0, call_id=str(piece)) for piece in ('{"city"', ': "Rome"}')],
        [IN_ROME],
    ),
    "all of it but the place new in every part": (
        [part("get_weather", piece, index=0, call_id=f"call{piece}") for piece in ("", ROME[:5], ROME[5:], "")],
        [IN_ROME],
    ),
    "name behind the arguments": ([part(None, ROME, index=0), part("get_weather", "", index=0)], [IN_ROME]),
    "name in two pieces": (
        [part("get_", index=0, call_id="1"), part("weather", index=0), part(None, ROME, index=0)],
        [IN_ROME],
    ),
    "name in two pieces, the first of which is a tool": (
        [part("get", index=0, call_id="1"), part("_weather", index=0), part("_in", ROME, index=0)],
        [("get_weather_in", json.loads(ROME))],
    ),
    "name in pieces without a place": ([part("get_"), part("weather"), part(None, ROME)], [IN_ROME]),
    "name in two equal pieces": ([part("get_"), part("get_"), part("here", "{}")], [("get_get_here", {})]),
    "name as far as it has come": (
        [part("get_", index=0), part("get_wea", index=0), part("get_weather", index=0), part("get_weather", ROME)],
        [IN_ROME],
    ),
    "name in pieces, then whole": (
        [part("get_", index=0), part("weather", index=0), part("get_weather", ROME, index=0)],
        [IN_ROME],
    ),
    "two calls by place": (
        [part("get_weather", ROME, index=0, call_id="1"), part("get_weather", OSLO, index=1, call_id="2")],
        [IN_ROME, IN_OSLO],
    ),
    "two calls in turn": (
        [part("get_weather", "", index=0, call_id="1"), part("get_weather", "", index=1, call_id="2")]
        + [part(None, piece, index=index) for piece in ('{"city": ', '"Rome"}') for index in (0, 1)],
        [IN_ROME, IN_ROME],
    ),
    "two calls, the second of which is whole first": (
        [part("get_weather", ROME[:5], index=0), part("get_weather", OSLO, index=1), part(None, ROME[5:], index=0)],
        [IN_ROME, IN_OSLO],
    ),
    "a call without arguments before another": (
        [part("get", "", index=0, call_id="1"), part("get_weather", ROME, index=1, call_id="2")],
        [("get", {}), IN_ROME],
    ),
    "two calls in one place": (
        [part("get_weather", ROME, index=0, call_id="1"), part("get_weather", OSLO, index=0, call_id="2")],
        [IN_ROME, IN_OSLO],
    ),
    "two calls in one place, without ids": (
        [part("get_weather", ROME, index=0), part("get_weather", OSLO, index=0), part("get", "", index=0)],
        [IN_ROME, IN_OSLO, ("get", {})],
    ),
    "two calls with one id": (
        [part("get_weather", ROME, index=0, call_id="1"), part("get_weather", OSLO, index=1, call_id="1")],
        [IN_ROME, IN_OSLO],
    ),
    "two calls with one id and no place": (
        [part("get_weather", ROME, call_id="1"), part("get_weather", OSLO, call_id="1")],
        [IN_ROME, IN_OSLO],
    ),
    "two tools without anything else": ([part("get"), part("list_all")], [("get", {}), ("list_all", {})]),
    "the same call twice": ([part("get_weather", ROME), part("get_weather", ROME)], [IN_ROME, IN_ROME]),
    "the whole call once more": (
        [part("get_weather", piece, index=0, call_id="1") for piece in ("", ROME, ROME)],
        [IN_ROME],
    ),
    "nothing more of a call that is whole": (
        [part("get_weather", ROME, index=0), part("get_weather", OSLO, index=1), part(None, "", index=0)],
        [IN_ROME, IN_OSLO],
    ),
    "arguments as an object": ([part("get_weather", json.loads(ROME), call_id="1")], [IN_ROME]),
    "arguments that are null": ([{"id": "1", "function": {"name": "get", "arguments": None}}], [("get", {})]),
    "a function that is null": ([part("get_weather", ROME, index=0), {"index": 0, "function": None}], [IN_ROME]),
    "an id that is empty": (
        [part("get_weather", ROME, call_id=""), part("get_weather", OSLO, call_id="")],
        [IN_ROME, IN_OSLO],
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_read_from_the_parts_of(name: str) -> None:
    parts, wanted = CALLS[name]
    assert calls(parts) == wanted


@given(
    name=st.sampled_from(NAMES),
    name_cuts=st.lists(st.integers(0, 20), max_size=3),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    city=st.text(max_size=8),
    place=st.sampled_from([{}, {"index": 0}, {"call_id": "1"}, {"index": 0, "call_id": "1"}]),
    says=st.sampled_from(["once", "again", "so far", "in pieces"]),
)
def test_however_a_name_is_said_it_is_said_once(
    name: str, name_cuts: list[int], cuts: list[int], city: str, place: dict[str, Any], says: str
) -> None:
    arguments = {"city": city} if "weather" in name else {}
    texts = cut(json.dumps(arguments), cuts)
    pieces = [piece for piece in cut(name, name_cuts) if piece]
    parts = {
        "once": [part(name, "", **place), *(part(None, text, **place) for text in texts)],
        "again": [part(name, text, **place) for text in ("", *texts)],
        "so far": [part("".join(pieces[: at + 1]), "", **place) for at in range(len(pieces))]
        + [part(name, text, **place) for text in texts],
        "in pieces": [part(piece, "", **place) for piece in pieces] + [part(None, text, **place) for text in texts],
    }[says]
    told = news(parts)
    assert "".join(str(delta.content) for delta in told[:-1]) == name + json.dumps(arguments)
    (call,) = (delta.content for delta in told if delta.parse_status in ("success", "failure"))
    assert isinstance(call, ToolCall)
    assert (call.tool_name, call.arguments) == (name, arguments)


@pytest.mark.parametrize("name", ["foo", "get_weather_"])
def test_a_name_of_no_tool_is_told_once_as_well(name: str) -> None:
    told = news([part(name, piece, index=0) for piece in ('{"city"', ': "Rome"}')])
    assert told[-1].content == f"{name}{ROME}"


async def test_a_name_in_every_part_is_one_call_of_the_answer(server: ScriptedServer, make: MakeProvider) -> None:
    parts = [{"tool_calls": [part("get_weather", piece, index=0, call_id="c")]} for piece in ("", ROME[:4], ROME[4:])]
    server.script("/v1/chat/completions", Stream(chat_events(*parts, finish_reason="tool_calls")))
    message = (await make().chat_completion("small", HELLO, tools=TOOLS)).completion_message
    assert [(call.call_id, call.tool_name, call.arguments) for call in message.tool_calls] == [("c", *IN_ROME)]
    assert message.content == ""


async def test_a_whole_answer_has_calls_without_place_and_id(server: ScriptedServer, make: MakeProvider) -> None:
    told = {"content": None, "tool_calls": [part("get_weather", ROME), part("get_weather", json.loads(OSLO))]}
    entry = {"token": "x", "logprob": -0.5, "top_logprobs": []}
    choice = {"index": 0, "message": told, "logprobs": {"content": [entry]}, "finish_reason": "tool_calls"}
    server.script("/v1/chat/completions", Reply({"choices": [choice]}))
    provider = make("llama_cpp")  # which streams no logprobs beside tools
    message = (await provider.chat_completion("small", HELLO, tools=TOOLS, logprobs=LogProbConfig())).completion_message
    assert [(call.tool_name, call.arguments) for call in message.tool_calls] == [IN_ROME, IN_OSLO]


@pytest.mark.parametrize(
    "content, text",
    [
        (None, ""),
        ("", ""),
        ("Hi", "Hi"),
        ([], ""),
        ([{"type": "text", "text": "H"}, {"type": "text", "text": "i"}], "Hi"),
    ],
)
async def test_content_is_text_null_or_a_list_of_texts(
    server: ScriptedServer, make: MakeProvider, content: Any, text: str
) -> None:
    server.script("/v1/chat/completions", Stream(chat_events({"content": content}, {"content": "!"})))
    assert (await make().chat_completion("small", HELLO)).completion_message.content == f"{text}!"


@pytest.mark.parametrize(
    "content", [7, ["Hi"], [{"type": "image_url", "image_url": {"url": "data:"}}], [{"type": "text"}]]
)
async def test_content_that_is_no_text_is_refused_by_its_place(
    server: ScriptedServer, make: MakeProvider, content: Any
) -> None:
    server.script("/v1/chat/completions", Stream(chat_events({"content": content})))
    with pytest.raises(RemoteError, match="content"):
        await make().chat_completion("small", HELLO)


@pytest.mark.parametrize(
    "reason, wanted",
    [
        ("stop", "end_of_turn"),
        ("eos", "end_of_turn"),
        ("eos_token", "end_of_turn"),
        ("stop_sequence", "end_of_turn"),
        ("content_filter", "end_of_turn"),
        ("tool_calls", "end_of_turn"),
        ("length", "out_of_tokens"),
        ("model_length", "out_of_tokens"),
    ],
)
async def test_every_servers_reason_is_one_of_ours(
    server: ScriptedServer, make: MakeProvider, reason: str, wanted: str
) -> None:
    events = [{"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": ""}]}]  # empty is none
    server.script("/v1/chat/completions", Stream(events + chat_events(finish_reason=reason)))
    assert (await make().chat_completion("small", HELLO)).completion_message.stop_reason == wanted
