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
    """Type of a chat event: a stream has one ``start``, any number of ``progress`` and one ``complete``."""

    start = "start"
    complete = "complete"
    progress = "progress"


class ToolCallParseStatus(StrEnum):
    """Parse status of a tool call; after ``failure`` the raw text stays in the content."""

    started = "started"
    in_progress = "in_progress"
    failure = "failure"
    success = "success"


class ToolCallDelta(ProtocolModel):
    """Text of a tool call in progress, or the parsed call if the status is ``success``."""

    content: str | ToolCall
    parse_status: ToolCallParseStatus


class ChatCompletionResponseEvent(ProtocolModel):
    """Event of a chat stream; ``logprobs`` cover its own tokens, and the last event has the ``stop_reason``."""

    event_type: ChatCompletionResponseEventType
    delta: str | ToolCallDelta
    logprobs: list[TokenLogProbs] | None = None
    stop_reason: StopReason | None = None


class CompletionResponse(DetailedModel):
    """Complete continuation, with one ``logprobs`` entry per generated token if requested."""

    completion_message: CompletionMessage
    logprobs: list[TokenLogProbs] | None = None


class CompletionResponseStreamChunk(DetailedModel):
    """Chunk of a streamed continuation, in whole characters; only the last one has a ``stop_reason``."""

    delta: str
    stop_reason: StopReason | None = None
    logprobs: list[TokenLogProbs] | None = None


class ChatCompletionResponse(DetailedModel):
    """Complete answer, with one ``logprobs`` entry per generated token if requested."""

    completion_message: CompletionMessage
    logprobs: list[TokenLogProbs] | None = None


class ChatCompletionResponseStreamChunk(DetailedModel):
    """Chunk of a chat stream, with one event."""

    event: ChatCompletionResponseEvent


class BatchCompletionResponse(ProtocolModel):
    """Continuations in the order of the request."""

    completion_message_batch: list[CompletionMessage]


class BatchChatCompletionResponse(ProtocolModel):
    """Answers in the order of the request."""

    completion_message_batch: list[CompletionMessage]


class EmbeddingsResponse(DetailedModel):
    """Embeddings, one vector per content in the order of the request, shape ``(contents, dimensions)``."""

    embeddings: list[list[float]]
