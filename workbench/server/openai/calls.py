"""Answers that end with their first tool call, for requests whose ``parallel_tool_calls`` is false."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from workbench.protocol import (
    ChatCompletionResponseEvent,
    ChatCompletionResponseEventType,
    ChatCompletionResponseStreamChunk,
    StopReason,
    ToolCallDelta,
    ToolCallParseStatus,
)
from workbench.providers.streams import closed_after
from workbench.records import RunDetail, attach_detail, detail_of


async def until_first_call(
    chunks: AsyncIterator[ChatCompletionResponseStreamChunk],
) -> AsyncIterator[ChatCompletionResponseStreamChunk]:
    """The chunks of a chat up to its first whole call, where the turn ends and nothing more is computed.

    It is the end that a model makes itself that writes one call alone, so the call is the same as without the cut.
    """
    async with closed_after(chunks):
        async for chunk in chunks:
            yield chunk
            delta = chunk.event.delta
            if isinstance(delta, ToolCallDelta) and delta.parse_status is ToolCallParseStatus.success:
                yield _end(detail_of(chunk) or RunDetail())
                return


def _end(detail: RunDetail) -> ChatCompletionResponseStreamChunk:
    event = ChatCompletionResponseEvent(
        event_type=ChatCompletionResponseEventType.complete, delta="", stop_reason=StopReason.end_of_message
    )
    return attach_detail(ChatCompletionResponseStreamChunk(event=event), replace(detail, tokens=()))
