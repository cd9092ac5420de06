"""Answers of a model, whole and as the chunks of a stream."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from workbench.protocol.base import ProtocolModel
from workbench.protocol.logprobs import TokenLogProbs
from workbench.protocol.messages import CompletionMessage, StopReason
from workbench.protocol.retrieval import RetrievedChunks
from workbench.protocol.tools import ToolCall


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
    retrieval: RetrievedChunks | None = Field(default=None, exclude_if=lambda found: found is None)
    """Chunks in the prompt, in the first event after ``start`` and, if there is attribution, in the last."""


class CompletionResponse(ProtocolModel):
    """Complete continuation, with one ``logprobs`` entry per generated token if requested."""

    completion_message: CompletionMessage
    logprobs: list[TokenLogProbs] | None = None


class CompletionResponseStreamChunk(ProtocolModel):
    """Chunk of a streamed continuation, in whole characters; only the last one has a ``stop_reason``."""

    delta: str
    stop_reason: StopReason | None = None
    logprobs: list[TokenLogProbs] | None = None


class ChatCompletionResponse(ProtocolModel):
    """Complete answer, with one ``logprobs`` entry per generated token if requested."""

    completion_message: CompletionMessage
    logprobs: list[TokenLogProbs] | None = None
    retrieval: RetrievedChunks | None = Field(default=None, exclude_if=lambda found: found is None)
    """Chunks in the prompt, if retrieval was requested."""


class ChatCompletionResponseStreamChunk(ProtocolModel):
    """Chunk of a chat stream, with one event."""

    event: ChatCompletionResponseEvent


class BatchCompletionResponse(ProtocolModel):
    """Continuations in the order of the request."""

    completion_message_batch: list[CompletionMessage]


class BatchChatCompletionResponse(ProtocolModel):
    """Answers in the order of the request."""

    completion_message_batch: list[CompletionMessage]


class EmbeddingsResponse(ProtocolModel):
    """Embeddings, one vector per content in the order of the request, shape ``(contents, dimensions)``."""

    embeddings: list[list[float]]
