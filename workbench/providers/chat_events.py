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
    RunDetail,
    StopReason,
    TokenLogProbs,
    ToolCallDelta,
    ToolCallParseStatus,
    attach_detail,
    detail_of,
)
from workbench.records import TokenRecord

_EVENT = ChatCompletionResponseEventType


async def chat_chunks(
    chunks: AsyncIterator[CompletionResponseStreamChunk],
    parser: ToolCallParser | None = None,
    *,
    must_call: bool = False,
) -> AsyncIterator[ChatCompletionResponseStreamChunk]:
    """The chat form of a completion stream.

    Args:
        parser: reads the tool calls; None where the request has no tools, and every token is an event of its own.
        must_call: an answer without a whole call is an error.

    Raises:
        ToolCallError: ``must_call``, and the answer ended without a whole call; in place of ``complete``.
    """
    started = False
    reading = _Reading(parser) if parser else None
    async for chunk in chunks:
        if not started:  # not before the first chunk: a request that is refused must not look as if it had begun
            yield _chat_chunk(_EVENT.start, CompletionResponseStreamChunk(delta=""))
            started = True
        is_last = chunk.stop_reason is not None
        if reading is None:
            yield _chat_chunk(_EVENT.complete if is_last else _EVENT.progress, chunk)
            continue
        for event in reading.progress(chunk):
            yield event
        if is_last:
            if must_call and not reading.calls:
                raise ToolCallError(reading.lack_of_calls(chunk))
            yield reading.complete(chunk)


@dataclass(slots=True)
class _Reading:
    """What was read of an answer so far."""

    parser: ToolCallParser
    calls: int = 0
    ends_in_call: bool = False
    held_tokens: list[TokenRecord] = field(default_factory=list)
    held_logprobs: list[TokenLogProbs] | None = None

    def progress(self, chunk: CompletionResponseStreamChunk) -> Iterator[ChatCompletionResponseStreamChunk]:
        """The events that a chunk makes certain."""
        detail = detail_of(chunk) or RunDetail()
        # A tag may be a control token of its own, which is no part of the text.
        tags = "".join(token.text for token in detail.tokens if token.is_special and token.text in self.parser.tags)
        self.held_tokens += detail.tokens
        if chunk.logprobs is not None:
            self.held_logprobs = (self.held_logprobs or []) + chunk.logprobs
        events = self.parser.feed(chunk.delta + tags)
        if chunk.stop_reason is not None:
            events += self.parser.close()
        for event in events:
            self._note(event)
            yield self._told(_EVENT.progress, event, detail)

    def complete(self, chunk: CompletionResponseStreamChunk) -> ChatCompletionResponseStreamChunk:
        """The last event, with all that was still held."""
        told = self._told(_EVENT.complete, "", detail_of(chunk) or RunDetail())
        told.event.stop_reason = chunk.stop_reason
        if self.ends_in_call and chunk.stop_reason == StopReason.end_of_turn:
            told.event.stop_reason = StopReason.end_of_message
        return told

    def lack_of_calls(self, chunk: CompletionResponseStreamChunk) -> str:
        """Why there is no call where there had to be one, and what to do."""
        if chunk.stop_reason == StopReason.out_of_tokens:
            return (
                "tool_choice is required, and the tokens ran out before a call was whole; "
                "raise sampling_params.max_tokens, or shorten the conversation"
            )
        reason = self.parser.faults[-1] if self.parser.faults else "it ended before a call was whole"
        return f"tool_choice is required, and the answer holds no call: {reason}"

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
        notes = tuple(f"a tool call could not be read: {fault}" for fault in self.parser.faults)
        detail = replace(detail, tokens=tuple(self.held_tokens), notes=detail.notes + notes)
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
