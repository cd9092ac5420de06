"""A completion stream as the protocol's chat stream: one ``start``, ``progress`` for text and tool calls, ``complete``.

Text that may yet turn out to begin a call waits until that is certain, and the logprobs and records of its tokens wait
with it: they come with the next event, so that every generated token is told of exactly once. Between ``start`` and
``complete`` there is no event without text or news of a call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace

from workbench.errors import ToolCallError
from workbench.prompts.tools.parsing import ToolCallParser
from workbench.protocol import (
    ChatCompletionResponseEvent,
    ChatCompletionResponseEventType,
    ChatCompletionResponseStreamChunk,
    CompletionResponseStreamChunk,
    StopReason,
    TokenLogProbs,
    ToolCallDelta,
    ToolCallParseStatus,
)
from workbench.providers.emissions import Piece, TextPieces
from workbench.providers.streams import closed_after
from workbench.records import RunDetail, TokenRecord, attach_detail, detail_of

_EVENT = ChatCompletionResponseEventType


async def chat_chunks(
    pieces: AsyncIterator[Piece],
    parser: ToolCallParser | None = None,
    *,
    must_call: bool = False,
    max_tokens: int | None = None,
) -> AsyncIterator[ChatCompletionResponseStreamChunk]:
    """The chat stream of what a provider yields; events that are made already pass as they are.

    Args:
        parser: reads the tool calls in text; None where there are none to read, and every piece is an event of its own.
        must_call: an answer without a whole call is an error.
        max_tokens: of plain text, each piece of which counts as one token.

    Raises:
        ToolCallError: ``must_call``, and the answer ended without a whole call; in place of ``complete``.
    """
    texts, reading = TextPieces(max_tokens), _Reading(parser, must_call)
    started = False
    async with closed_after(pieces):
        async for piece in pieces:
            for event in reading.events(texts.chunk(piece) if isinstance(piece, str) else piece):
                # Not before the first piece: a request that is refused must not look as if it had begun.
                if not started and event.event.event_type is not _EVENT.start:
                    yield _chat_chunk(_EVENT.start, CompletionResponseStreamChunk(delta=""))
                started = True
                yield event
                if event.event.event_type is _EVENT.complete:
                    return
    if not started:
        yield _chat_chunk(_EVENT.start, CompletionResponseStreamChunk(delta=""))
    for event in reading.events(texts.end()):
        yield event


@dataclass(slots=True)
class _Reading:
    """What was read of an answer so far."""

    parser: ToolCallParser | None
    must_call: bool
    calls: int = 0
    ends_in_call: bool = False
    held_tokens: list[TokenRecord] = field(default_factory=list)
    held_logprobs: list[TokenLogProbs] | None = None

    def events(
        self, piece: CompletionResponseStreamChunk | ToolCallDelta | ChatCompletionResponseStreamChunk
    ) -> Iterator[ChatCompletionResponseStreamChunk]:
        """The events that a piece makes certain."""
        if isinstance(piece, ChatCompletionResponseStreamChunk):
            yield piece
            return
        if isinstance(piece, ToolCallDelta):
            self._note(piece)
            yield self._told(_EVENT.progress, piece, RunDetail())
            return
        if self.parser is not None:
            yield from self._read(self.parser, piece)
        elif piece.stop_reason is None:
            self._note(piece.delta)
            yield _chat_chunk(_EVENT.progress, piece)
        if piece.stop_reason is not None:
            if self.must_call and not self.calls:
                raise ToolCallError(self._lack_of_calls(piece))
            yield self._complete(piece)

    def _read(
        self, parser: ToolCallParser, chunk: CompletionResponseStreamChunk
    ) -> Iterator[ChatCompletionResponseStreamChunk]:
        detail = detail_of(chunk) or RunDetail()
        # A tag may be a control token of its own, which is no part of the text.
        tags = "".join(token.text for token in detail.tokens if token.is_special and token.text in parser.tags)
        self.held_tokens += detail.tokens
        if chunk.logprobs is not None:
            self.held_logprobs = (self.held_logprobs or []) + chunk.logprobs
        events = parser.feed(chunk.delta + tags)
        if chunk.stop_reason is not None:
            events += parser.close()
        for event in events:
            self._note(event)
            yield self._told(_EVENT.progress, event, detail)

    def _complete(self, chunk: CompletionResponseStreamChunk) -> ChatCompletionResponseStreamChunk:
        """The last event, with all that was still held."""
        told = (
            _chat_chunk(_EVENT.complete, chunk)
            if self.parser is None
            else self._told(_EVENT.complete, "", detail_of(chunk) or RunDetail())
        )
        told.event.stop_reason = chunk.stop_reason
        if self.ends_in_call and chunk.stop_reason == StopReason.end_of_turn:
            told.event.stop_reason = StopReason.end_of_message
        return told

    def _lack_of_calls(self, chunk: CompletionResponseStreamChunk) -> str:
        """Why there is no call where there had to be one, and what to do."""
        if chunk.stop_reason == StopReason.out_of_tokens:
            return (
                "tool_choice is required, but the token limit was reached before a call was complete; "
                "raise sampling_params.max_tokens, or shorten the conversation"
            )
        faults = self.parser.faults if self.parser else ()
        reason = faults[-1] if faults else "it ended before a call was complete"
        return f"tool_choice is required, but the answer contains no tool call: {reason}"

    def _note(self, event: str | ToolCallDelta) -> None:
        if isinstance(event, str):
            self.ends_in_call = self.ends_in_call and event.isspace()
        elif event.parse_status is ToolCallParseStatus.success:
            self.calls += 1
            self.ends_in_call = True
        elif event.parse_status is ToolCallParseStatus.started:
            self.ends_in_call = False

    def _told(
        self, event_type: ChatCompletionResponseEventType, delta: str | ToolCallDelta, detail: RunDetail
    ) -> ChatCompletionResponseStreamChunk:
        faults = self.parser.faults if self.parser else ()
        notes = tuple(f"a tool call could not be read: {fault}" for fault in faults)
        opening = self.parser.opening if self.parser else ""
        detail = replace(detail, tokens=tuple(self.held_tokens), notes=detail.notes + notes, call_opening=opening)
        event = ChatCompletionResponseEvent(event_type=event_type, delta=delta, logprobs=self.held_logprobs)
        self.held_tokens, self.held_logprobs = [], None
        return attach_detail(ChatCompletionResponseStreamChunk(event=event), detail)


def _chat_chunk(
    event_type: ChatCompletionResponseEventType, chunk: CompletionResponseStreamChunk
) -> ChatCompletionResponseStreamChunk:
    event = ChatCompletionResponseEvent(
        event_type=event_type, delta=chunk.delta, logprobs=chunk.logprobs, stop_reason=chunk.stop_reason
    )
    return attach_detail(ChatCompletionResponseStreamChunk(event=event), detail_of(chunk) or RunDetail())
