"""Bodies of the inference requests; their fields are the parameters of the methods in ``inference``.

``response_format``, ``edits``, ``retrieval`` and ``shields`` are additions; they are omitted from JSON if they are not
set.
"""

from __future__ import annotations

from pydantic import Field

from workbench.protocol.base import ProtocolModel
from workbench.protocol.content import InterleavedTextMedia
from workbench.protocol.edits import Edit
from workbench.protocol.logprobs import LogProbConfig
from workbench.protocol.messages import Message
from workbench.protocol.response_format import ResponseFormat
from workbench.protocol.retrieval import RetrievalConfig
from workbench.protocol.sampling import SamplingParams
from workbench.protocol.tools import ToolChoice, ToolDefinition, ToolPromptFormat


def _is_none(value: object) -> bool:
    return value is None


class CompletionRequest(ProtocolModel):
    """Request to continue a text, without a chat template."""

    model: str
    content: InterleavedTextMedia
    sampling_params: SamplingParams | None = Field(default_factory=SamplingParams)
    stream: bool | None = Field(default=False, strict=True)
    logprobs: LogProbConfig | None = None
    response_format: ResponseFormat | None = Field(default=None, exclude_if=_is_none)
    edits: list[Edit] | None = Field(default=None, exclude_if=_is_none)
    """Changes of the numbers inside the model, in this order; None for none."""


class ChatCompletionRequest(ProtocolModel):
    """Request to answer a conversation, rendered with the model's chat template."""

    model: str
    messages: list[Message]
    sampling_params: SamplingParams | None = Field(default_factory=SamplingParams)
    tools: list[ToolDefinition] | None = Field(default_factory=list)
    tool_choice: ToolChoice | None = ToolChoice.auto
    tool_prompt_format: ToolPromptFormat | None = ToolPromptFormat.json
    stream: bool | None = Field(default=False, strict=True)
    logprobs: LogProbConfig | None = None
    response_format: ResponseFormat | None = Field(default=None, exclude_if=_is_none)
    retrieval: RetrievalConfig | None = Field(default=None, exclude_if=_is_none)
    shields: list[str] | None = Field(default=None, exclude_if=_is_none)
    """Names of shields that check the prompt and, sentence by sentence, the answer; None for none."""
    edits: list[Edit] | None = Field(default=None, exclude_if=_is_none)
    """Changes of the numbers inside the model, in this order; None for none."""


class BatchCompletionRequest(ProtocolModel):
    """Request to continue several texts with the same parameters."""

    model: str
    content_batch: list[InterleavedTextMedia]
    sampling_params: SamplingParams | None = Field(default_factory=SamplingParams)
    logprobs: LogProbConfig | None = None
    response_format: ResponseFormat | None = Field(default=None, exclude_if=_is_none)


class BatchChatCompletionRequest(ProtocolModel):
    """Request to answer several conversations with the same parameters."""

    model: str
    messages_batch: list[list[Message]]
    sampling_params: SamplingParams | None = Field(default_factory=SamplingParams)
    tools: list[ToolDefinition] | None = Field(default_factory=list)
    tool_choice: ToolChoice | None = ToolChoice.auto
    tool_prompt_format: ToolPromptFormat | None = ToolPromptFormat.json
    logprobs: LogProbConfig | None = None
    response_format: ResponseFormat | None = Field(default=None, exclude_if=_is_none)
