"""What a provider yields, and how plain text among it becomes chunks with records and usage."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from typing import TypeAlias

from workbench.protocol import (
    ChatCompletionResponseStreamChunk,
    CompletionResponseStreamChunk,
    StopReason,
    ToolCallDelta,
)
from workbench.providers.streams import closed_after
from workbench.providers.usage import UsageMeter
from workbench.records import RunDetail, TokenRecord, attach_detail

Piece: TypeAlias = str | CompletionResponseStreamChunk | ToolCallDelta | ChatCompletionResponseStreamChunk
"""Text, which counts as one token; a chunk with what is known of it; in chats also news of a call, or a whole event."""


class TextPieces:
    """Plain texts as chunks: each counts as one token, of which nobody knows id, probability and rank."""

    def __init__(self, max_tokens: int | None) -> None:
        self._max_tokens = max_tokens or math.inf
        self._asked_at = time.perf_counter()
        self._meter = UsageMeter()

    def chunk(self, text: str) -> CompletionResponseStreamChunk:
        """The chunk of one more text; the one that ``max_tokens`` leaves room for last ends the stream."""
        elapsed_s = time.perf_counter() - self._asked_at
        self._meter.count(elapsed_s)
        count = self._meter.generated_tokens
        stop_reason = StopReason.out_of_tokens if count >= self._max_tokens else None
        return attach_detail(
            CompletionResponseStreamChunk(delta=text, stop_reason=stop_reason),
            RunDetail(tokens=(unknown_token(count - 1, text, elapsed_s),), usage=self._meter.usage()),
        )

    def end(self) -> CompletionResponseStreamChunk:
        """The last chunk, where the provider did not end the stream itself."""
        chunk = CompletionResponseStreamChunk(delta="", stop_reason=StopReason.end_of_turn)
        counted = self._meter.generated_tokens > 0
        return attach_detail(chunk, RunDetail(usage=self._meter.usage())) if counted else chunk


def unknown_token(position: int, text: str, elapsed_s: float) -> TokenRecord:
    """A token of which its server tells the text alone."""
    return TokenRecord(position, -1, text, text.encode(errors="replace"), math.nan, 0, math.nan, elapsed_s=elapsed_s)


async def completion_chunks(
    pieces: AsyncIterator[Piece], max_tokens: int | None = None
) -> AsyncIterator[CompletionResponseStreamChunk]:
    """A completion stream, which ends with the one chunk that has a stop reason."""
    texts = TextPieces(max_tokens)
    async with closed_after(pieces):
        async for piece in pieces:
            if isinstance(piece, CompletionResponseStreamChunk):
                chunk = piece
            elif isinstance(piece, str):
                chunk = texts.chunk(piece)
            else:
                raise TypeError(f"generate must yield texts or completion chunks for a completion; got {type(piece)}")
            yield chunk
            if chunk.stop_reason is not None:
                return
    yield texts.end()
