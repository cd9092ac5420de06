"""Conversion of everything that a provider's generator may yield to emissions."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import AsyncIterator
from dataclasses import replace

from workbench.protocol import (
    ChatCompletionResponseEvent,
    ChatCompletionResponseEventType,
    ChatCompletionResponseStreamChunk,
    CompletionResponseStreamChunk,
    StopReason,
    ToolCallDelta,
    ToolCallParseStatus,
)
from workbench.providers.requests import Request
from workbench.providers.streams import closed_after
from workbench.providers.usage import UsageMeter
from workbench.records import Emission, TokenRecord


async def emissions(request: Request, outputs: AsyncIterator[str | Emission]) -> AsyncIterator[Emission]:
    """Yield the output of `InferenceProvider.generate` as emissions, up to the first with a stop reason.

    Raises:
        TypeError: the provider yields another type, or tool calls in a completion.
    """
    texts, turn = _Texts(request.sampling_params.max_tokens), _Turn(request)
    async with closed_after(outputs):
        async for output in outputs:
            emission = texts.emission(output) if isinstance(output, str) else _emission(output)
            if emission is None:
                continue
            yield turn.add(emission)
            if emission.stop_reason is not None:
                return
    yield turn.add(texts.end())


class _Texts:
    """Converter of texts to emissions: each is one token, whose id, probability and rank are unknown."""

    def __init__(self, max_tokens: int | None) -> None:
        self._max_tokens = max_tokens or math.inf
        self._requested_at = time.perf_counter()
        self._meter = UsageMeter()

    def emission(self, text: str) -> Emission:
        """Return the emission of one more text; the last one within ``max_tokens`` ends the answer."""
        elapsed_s = time.perf_counter() - self._requested_at
        self._meter.count(elapsed_s)
        count = self._meter.generated_tokens
        stop_reason = StopReason.out_of_tokens if count >= self._max_tokens else None
        token = unknown_token(count - 1, text, elapsed_s)
        return Emission(text, (token,), stop_reason, logprobs=(), usage=self._meter.usage())

    def end(self) -> Emission:
        """Return the last emission, for a provider that did not end the answer itself."""
        usage = self._meter.usage() if self._meter.generated_tokens else None
        return Emission(stop_reason=StopReason.end_of_turn, usage=usage)


class _Turn:
    """State of an answer: a chat whose turn ends with a tool call gets the stop reason ``end_of_message``."""

    def __init__(self, request: Request) -> None:
        self._is_chat = request.is_chat
        self._ends_in_call = False

    def add(self, emission: Emission) -> Emission:
        delta = emission.delta
        if isinstance(delta, ToolCallDelta):
            if not self._is_chat:
                raise TypeError(f"generate must yield text for a completion; got {type(delta)}")
            if delta.parse_status in (ToolCallParseStatus.started, ToolCallParseStatus.success):
                self._ends_in_call = delta.parse_status is ToolCallParseStatus.success
        elif emission.stop_reason is None:
            self._ends_in_call = self._ends_in_call and delta.isspace()
        if self._ends_in_call and emission.stop_reason is StopReason.end_of_turn:
            return replace(emission, stop_reason=StopReason.end_of_message)
        return emission


def unknown_token(position: int, text: str, elapsed_s: float) -> TokenRecord:
    """Return the record of a token of which only the text is known."""
    return TokenRecord(position, -1, text, text.encode(errors="replace"), math.nan, 0, math.nan, elapsed_s=elapsed_s)


def emission_of(chunk: CompletionResponseStreamChunk | ChatCompletionResponseEvent) -> Emission:
    """Return the emission of a completion's chunk or of a chat's event."""
    return Emission(chunk.delta, stop_reason=chunk.stop_reason, logprobs=tuple(chunk.logprobs or ()))


def _emission(output: object) -> Emission | None:
    if isinstance(output, Emission):
        return output
    if not isinstance(output, CompletionResponseStreamChunk | ChatCompletionResponseStreamChunk | ToolCallDelta):
        raise TypeError(f"generate must yield texts or workbench.records.Emission; got {type(output)}")
    message = f"generate should yield workbench.records.Emission; {type(output).__name__} is accepted for one version"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    if isinstance(output, ToolCallDelta):
        return Emission(output)
    if isinstance(output, CompletionResponseStreamChunk):
        return emission_of(output)
    is_start = output.event.event_type is ChatCompletionResponseEventType.start
    return None if is_start else emission_of(output.event)
