"""Conversion of emissions to the protocol's chunks, where an answer leaves the workbench."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeAlias

from workbench.protocol import (
    ChatCompletionResponseEvent,
    ChatCompletionResponseEventType,
    ChatCompletionResponseStreamChunk,
    CompletionResponseStreamChunk,
    TokenLogProbs,
)
from workbench.providers.requests import Request
from workbench.providers.streams import closed_after
from workbench.records import Emission, token_logprobs

Chunk: TypeAlias = CompletionResponseStreamChunk | ChatCompletionResponseStreamChunk

_EVENT = ChatCompletionResponseEventType


class ChunkMaker:
    """Converter of one answer to chunks: call `chunks` with each emission in order.

    A chat begins with a ``start`` event, which comes with the first emission, so that a refused request has none. One
    ``progress`` event per emission follows, and ``complete`` for the one with the stop reason.
    """

    def __init__(self, *, is_chat: bool, wants_logprobs: bool) -> None:
        self._is_chat = is_chat
        self._wants_logprobs = wants_logprobs
        self._has_started = False

    @classmethod
    def of(cls, request: Request) -> ChunkMaker:
        """Return a converter for the answer to a request."""
        return cls(is_chat=request.is_chat, wants_logprobs=request.logprobs is not None)

    def chunks(self, emission: Emission) -> Iterator[Any]:
        """Yield the chunks of one emission: one, or two for the first of a chat."""
        logprobs = logprobs_of(emission) if self._wants_logprobs or emission.logprobs else None
        if not self._is_chat:
            yield CompletionResponseStreamChunk(
                delta=str(emission.delta), stop_reason=emission.stop_reason, logprobs=logprobs or None
            )
            return
        if not self._has_started:
            self._has_started = True
            yield _chat_chunk(_EVENT.start, Emission(), None)
        yield _chat_chunk(_EVENT.complete if emission.stop_reason else _EVENT.progress, emission, logprobs or None)


async def protocol_chunks(request: Request, emissions: AsyncIterator[Emission]) -> AsyncIterator[Any]:
    """Yield the chunks of a request's emissions."""
    maker = ChunkMaker.of(request)
    async with closed_after(emissions):
        async for emission in emissions:
            for chunk in maker.chunks(emission):
                yield chunk


def logprobs_of(emission: Emission) -> list[TokenLogProbs]:
    """Return the logprobs of an emission in the protocol's form: its prompt tokens, if any, and its tokens."""
    if emission.logprobs is not None:
        return list(emission.logprobs)
    return [token_logprobs(record) for record in (*emission.prompt_tokens, *emission.tokens)]


def _chat_chunk(
    event_type: ChatCompletionResponseEventType, emission: Emission, logprobs: list[TokenLogProbs] | None
) -> ChatCompletionResponseStreamChunk:
    event = ChatCompletionResponseEvent(
        event_type=event_type,
        delta=emission.delta,
        logprobs=logprobs,
        stop_reason=emission.stop_reason,
        retrieval=emission.retrieved,
    )
    return ChatCompletionResponseStreamChunk(event=event)
