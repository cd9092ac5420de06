"""Answers of a model: whole, and as the chunks of a stream."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import PrivateAttr

from workbench.protocol.base import ProtocolModel
from workbench.protocol.logprobs import TokenLogProbs
from workbench.protocol.messages import CompletionMessage, StopReason
from workbench.protocol.tools import ToolCall


class DetailedModel(ProtocolModel):
    """A response or chunk that may carry facts of its run. Two of them are equal when their wire forms are."""

    _detail: Any = PrivateAttr(default=None)
    """A `workbench.records.RunDetail`; never in JSON."""

    def __eq__(self, other: object) -> bool:
        # Pydantic compares private attributes too, but timings must not make two equal answers differ.
        if not isinstance(other, DetailedModel):
            return NotImplemented
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]


class ChatCompletionResponseEventType(StrEnum):
    """A chat stream is one ``start``, any number of ``progress`` and one ``complete``."""

    start = "start"
    complete = "complete"
    progress = "progress"


class ToolCallParseStatus(StrEnum):
    """How far the reading of a tool call has come; after ``failure`` the raw text stays in the content."""

    started = "started"
    in_progress = "in_progress"
    failure = "failure"
    success = "success"


class ToolCallDelta(ProtocolModel):
    """Text of a call that is being written, or with ``success`` the call itself."""

    content: str | ToolCall
    parse_status: ToolCallParseStatus


class ChatCompletionResponseEvent(ProtocolModel):
    """One step of a chat stream; ``logprobs`` are those of its own tokens, ``stop_reason`` comes with the last."""

    event_type: ChatCompletionResponseEventType
    delta: str | ToolCallDelta
    logprobs: list[TokenLogProbs] | None = None
    stop_reason: StopReason | None = None


class CompletionResponse(DetailedModel):
    """The whole continuation; one ``logprobs`` entry per generated token where they were asked for."""

    completion_message: CompletionMessage
    logprobs: list[TokenLogProbs] | None = None


class CompletionResponseStreamChunk(DetailedModel):
    """Whole characters of a continuation; the last chunk, and no other, has a ``stop_reason``."""

    delta: str
    stop_reason: StopReason | None = None
    logprobs: list[TokenLogProbs] | None = None


class ChatCompletionResponse(DetailedModel):
    """The whole answer; one ``logprobs`` entry per generated token where they were asked for."""

    completion_message: CompletionMessage
    logprobs: list[TokenLogProbs] | None = None


class ChatCompletionResponseStreamChunk(DetailedModel):
    """One event of a chat stream."""

    event: ChatCompletionResponseEvent


class BatchCompletionResponse(ProtocolModel):
    """The continuations, in the order of the request."""

    completion_message_batch: list[CompletionMessage]


class BatchChatCompletionResponse(ProtocolModel):
    """The answers, in the order of the request."""

    completion_message_batch: list[CompletionMessage]


class EmbeddingsResponse(DetailedModel):
    """One vector for each content, in the order of the request; ``(contents, dimensions)``."""

    embeddings: list[list[float]]
