"""A chat stream with tools: calls are told as they come, no token is lost, and the whole is the folded stream."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.assistant_texts import corpus, tools
from tests.fakes.requests import chat_request
from workbench.errors import ToolCallError
from workbench.prompts.tools.parsing import ToolCallParser, call_ids_after
from workbench.prompts.tools.syntaxes import ToolSyntax
from workbench.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseStreamChunk,
    LogProbConfig,
    StopReason,
    ToolCallDelta,
    UserMessage,
)
from workbench.providers.chunks import ChunkMaker
from workbench.providers.emissions import emissions
from workbench.providers.folding import folded, response
from workbench.providers.tool_calls import with_tool_calls
from workbench.records import Emission, TokenRecord, Usage

TOOLS = tools()
END = StopReason.end_of_turn
NOW = '{"name": "now", "parameters": {}}'
ASKED = chat_request("m", [UserMessage(content="x")], logprobs=LogProbConfig())


def parser(syntax: ToolSyntax = ToolSyntax.json) -> ToolCallParser:
    return ToolCallParser(TOOLS, syntax, call_ids_after([1, 2, 3]))


def tokens_of(text: str, seed: int = 0) -> list[str]:
    """The text in pieces of one to six characters, as tokens are."""
    draw, pieces, start = random.Random(seed), list[str](), 0
    while start < len(text):
        pieces.append(text[start : start + draw.randint(1, 6)])
        start += len(pieces[-1])
    return pieces


async def stream(
    pieces: Sequence[str], reason: StopReason = END, *, special: Sequence[str] = ()
) -> AsyncIterator[Emission]:
    """An answer with a token for each piece; control tokens have no text."""
    for position, piece in enumerate(pieces):
        is_special = piece in special
        record = TokenRecord(position, position, piece, piece.encode(), -1.0, 1, 0.5, is_special=is_special)
        usage = Usage(generated_tokens=position + 1)
        yield Emission("" if is_special else piece, (record,), usage=usage)
    yield Emission(stop_reason=reason, usage=Usage(generated_tokens=len(pieces)))


async def answer(
    pieces: AsyncIterator[Emission], syntax: ToolSyntax = ToolSyntax.json, **options: Any
) -> AsyncIterator[Emission]:
    async for emission in emissions(ASKED, with_tool_calls(pieces, parser(syntax), **options)):
        yield emission


async def answer_of(
    text: str, syntax: ToolSyntax = ToolSyntax.json, *, reason: StopReason = END, **options: Any
) -> list[Emission]:
    return [emission async for emission in answer(stream(tokens_of(text), reason), syntax, **options)]


def chunks_of(answer: Sequence[Emission]) -> list[ChatCompletionResponseStreamChunk]:
    maker = ChunkMaker.of(ASKED)
    return [chunk for emission in answer for chunk in maker.chunks(emission)]


def whole(answer: Sequence[Emission]) -> ChatCompletionResponse:
    made: ChatCompletionResponse = response(ASKED, answer)
    return made


def kinds(answer: Sequence[Emission]) -> list[str]:
    """Text as ``text``, news of a call by its status, each run of one kind once."""
    told: list[str] = []
    for emission in answer[:-1]:
        delta = emission.delta
        kind = "text" if isinstance(delta, str) else delta.parse_status.value
        told += [kind] if kind != (told or [""])[-1] else []
    return told


def success(emission: Emission) -> Any:
    delta = emission.delta
    assert isinstance(delta, ToolCallDelta)
    assert delta.parse_status == "success"
    return delta.content


@pytest.mark.parametrize("syntax", ToolSyntax)
async def test_a_stream_starts_once_completes_once_and_loses_no_token(syntax: ToolSyntax) -> None:
    for one in corpus(syntax, 100):
        pieces = tokens_of(one.text)
        read = [emission async for emission in answer(stream(pieces), syntax)]
        chunks = chunks_of(read)
        types = [chunk.event.event_type.value for chunk in chunks]
        assert types == ["start", *["progress"] * (len(types) - 2), "complete"]
        assert [bool(chunk.event.stop_reason) for chunk in chunks] == [False] * (len(types) - 1) + [True]
        entries = [entry for chunk in chunks for entry in chunk.event.logprobs or ()]
        records = [record for emission in read for record in emission.tokens]
        assert [record.text for record in records] == pieces
        assert [entry.tokens[0].text for entry in entries] == pieces
        assert all(chunk.event.delta != "" for chunk in chunks[1:-1])


@pytest.mark.parametrize("syntax", ToolSyntax)
async def test_the_whole_answer_is_the_folded_stream(syntax: ToolSyntax) -> None:
    for one in corpus(syntax, 100):
        message = whole(await answer_of(one.text, syntax)).completion_message
        judge = parser(syntax)
        events = judge.feed(one.text) + judge.close()
        assert message.tool_calls == [
            event.content for event in events if isinstance(event, ToolCallDelta) and event.parse_status == "success"
        ]
        if one.calls is not None:
            assert [(call.tool_name, call.arguments) for call in message.tool_calls] == one.calls
            assert message.content == one.plain


async def test_a_call_alone_starts_the_progress_and_its_success_ends_it() -> None:
    for text, syntax in (
        (NOW, ToolSyntax.json),
        ("<function=now>{}</function>", ToolSyntax.function_tag),
        ("[now()]", ToolSyntax.python_list),
        ('<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>', ToolSyntax.tool_call_tag),
        ('[TOOL_CALLS] [{"name": "now", "arguments": {}}]', ToolSyntax.mistral),
    ):
        read = await answer_of(text, syntax)
        assert kinds(read) == ["started", "in_progress", "success"]
        assert success(read[-2]).tool_name == "now"
        assert read[-1].stop_reason == StopReason.end_of_message
        message = whole(read).completion_message
        assert (message.content, message.stop_reason) == ("", StopReason.end_of_message)


@pytest.mark.parametrize(
    "text,reason,expected",
    [
        (f"Well: {NOW}", END, StopReason.end_of_message),
        (f"{NOW}\n", END, StopReason.end_of_message),
        (f"{NOW} There.", END, END),
        ("There.", END, END),
        ('{"name": "nope", "parameters": {}}', END, END),
        (f'{NOW}{{"name": "now", "para', END, END),
        (NOW, StopReason.out_of_tokens, StopReason.out_of_tokens),
        ("There.", StopReason.end_of_message, StopReason.end_of_message),
    ],
)
async def test_a_turn_that_ends_in_calls_hands_over(text: str, reason: StopReason, expected: StopReason) -> None:
    assert whole(await answer_of(text, reason=reason)).completion_message.stop_reason == expected


async def test_a_broken_call_stays_in_the_content_and_its_fault_is_noted() -> None:
    text = f'One {{"name": "nope", "parameters": {{}}}} two {NOW}'
    read = await answer_of(text)
    message = whole(read).completion_message
    assert message.content == text.removesuffix(NOW)
    assert [call.tool_name for call in message.tool_calls] == ["now"]
    (note,) = folded(read).notes
    assert "no tool 'nope'" in note


async def test_a_stream_that_is_cut_off_in_a_call_keeps_its_raw_text() -> None:
    read = await answer_of('So: {"name": "now", "parameters": {"a": 1')
    assert whole(read[:-2]).completion_message.content == 'So: {"name": "now", "parameters": {"a": 1'


async def test_a_tag_that_is_a_control_token_counts_as_text() -> None:
    pieces = ["<s>", "[TOOL_CALLS]", ' [{"name"', ': "now"}]']
    tagged = stream(pieces, special=("<s>", "[TOOL_CALLS]"))
    read = [emission async for emission in answer(tagged, ToolSyntax.mistral)]
    assert kinds(read) == ["started", "in_progress", "success"]


@pytest.mark.parametrize(
    "text,reason,told",
    [
        ("It is warm.", END, "before a call was complete"),
        ('{"name": "now", "param', StopReason.out_of_tokens, "sampling_params.max_tokens"),
        ('{"name": "now", "parameters": {"a": 1', StopReason.out_of_tokens, "sampling_params.max_tokens"),
        ('{"name": "nope", "parameters": {}}', END, "no tool 'nope'"),
    ],
)
async def test_where_a_call_must_come_and_none_does_the_stream_ends_in_an_error(
    text: str, reason: StopReason, told: str
) -> None:
    got: list[Emission] = []

    async def read() -> None:
        async for emission in answer(stream(tokens_of(text), reason), must_call=True):
            got.append(emission)  # noqa: PERF401 (a list would be lost with the error)

    with pytest.raises(ToolCallError, match=told):
        await read()
    assert "complete" not in [chunk.event.event_type for chunk in chunks_of(got)]
    assert whole(got).completion_message.content == text
    assert await answer_of(NOW, must_call=True)


async def test_a_request_has_the_same_call_ids_every_time_and_the_next_turn_others() -> None:
    first, again, next_turn = (call_ids_after(prompt) for prompt in ([1, 2], (1, 2), [1, 2, 3]))
    ids = [first() for _ in range(50)]
    assert ids == [again() for _ in range(50)]
    assert len({*ids, *(next_turn() for _ in range(50))}) == 100


async def test_without_tools_every_token_is_an_event_of_its_own() -> None:
    pieces = ["a", "", NOW, "b"]
    read = [emission async for emission in emissions(ASKED, stream(pieces))]
    assert [chunk.event.delta for chunk in chunks_of(read)] == ["", *pieces, ""]
    assert whole(read).completion_message.content == "".join(pieces)
