"""The inference protocols: completion, chat, embeddings, and batches of the first two.

``completion`` and ``chat_completion`` are plain functions, because the flag ``stream`` selects the result::

    response = await inference.completion(model, content)
    async for chunk in inference.completion(model, content, stream=True): ...

The overloads are for type checkers, and take all options by keyword; the annotation at run time is the original
protocol's, which names the response and the chunk. An implementation may annotate its result as ``Any``.
``response_format``, ``retrieval``, ``shields`` and ``edits`` are additions, last in each signature.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Literal, Protocol, TypedDict, Unpack, overload, runtime_checkable

from workbench.protocol.content import InterleavedTextMedia
from workbench.protocol.edits import Edit
from workbench.protocol.logprobs import LogProbConfig
from workbench.protocol.messages import Message
from workbench.protocol.models import ModelStore
from workbench.protocol.response_format import ResponseFormat
from workbench.protocol.responses import (
    BatchChatCompletionResponse,
    BatchCompletionResponse,
    ChatCompletionResponse,
    ChatCompletionResponseStreamChunk,
    CompletionResponse,
    CompletionResponseStreamChunk,
    EmbeddingsResponse,
)
from workbench.protocol.retrieval import RetrievalConfig
from workbench.protocol.sampling import SamplingParams
from workbench.protocol.tools import ToolChoice, ToolDefinition, ToolPromptFormat
from workbench.protocol.webmethod import webmethod

# One shared default for the signatures: implementations read their parameters and never write to them.
_DEFAULT = SamplingParams()


class CompletionOptions(TypedDict, total=False):
    """Optional arguments of ``completion`` besides ``stream``."""

    sampling_params: SamplingParams | None
    logprobs: LogProbConfig | None
    response_format: ResponseFormat | None
    edits: list[Edit] | None


class ChatCompletionOptions(CompletionOptions, total=False):
    """Optional arguments of ``chat_completion`` besides ``stream``."""

    tools: list[ToolDefinition] | None
    tool_choice: ToolChoice | None
    tool_prompt_format: ToolPromptFormat | None
    retrieval: RetrievalConfig | None
    shields: list[str] | None


@runtime_checkable
class Inference(Protocol):
    """Completion, chat and embeddings with the models in ``model_store``.

    Every method raises ``ModelNotFoundError`` for a model that is not served and ``InvalidRequestError`` for an
    invalid parameter, before any compute; a stream raises at its first step at the latest.
    """

    model_store: ModelStore

    @overload
    def completion(
        self,
        model: str,
        content: InterleavedTextMedia,
        *,
        stream: Literal[False] | None = ...,
        **options: Unpack[CompletionOptions],
    ) -> Awaitable[CompletionResponse]: ...

    @overload
    def completion(
        self, model: str, content: InterleavedTextMedia, *, stream: Literal[True], **options: Unpack[CompletionOptions]
    ) -> AsyncIterator[CompletionResponseStreamChunk]: ...

    @overload
    def completion(
        self, model: str, content: InterleavedTextMedia, *, stream: bool | None, **options: Unpack[CompletionOptions]
    ) -> Awaitable[CompletionResponse] | AsyncIterator[CompletionResponseStreamChunk]: ...

    @webmethod(route="/inference/completion", method="POST")  # type: ignore[misc]
    def completion(
        self,
        model: str,
        content: InterleavedTextMedia,
        sampling_params: SamplingParams | None = _DEFAULT,
        stream: bool | None = False,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
        edits: list[Edit] | None = None,
    ) -> CompletionResponse | CompletionResponseStreamChunk:
        """Continue ``content`` without a chat template. The last chunk of a stream has the ``stop_reason``."""
        ...

    @overload
    def chat_completion(
        self,
        model: str,
        messages: list[Message],
        *,
        stream: Literal[False] | None = ...,
        **options: Unpack[ChatCompletionOptions],
    ) -> Awaitable[ChatCompletionResponse]: ...

    @overload
    def chat_completion(
        self, model: str, messages: list[Message], *, stream: Literal[True], **options: Unpack[ChatCompletionOptions]
    ) -> AsyncIterator[ChatCompletionResponseStreamChunk]: ...

    @overload
    def chat_completion(
        self, model: str, messages: list[Message], *, stream: bool | None, **options: Unpack[ChatCompletionOptions]
    ) -> Awaitable[ChatCompletionResponse] | AsyncIterator[ChatCompletionResponseStreamChunk]: ...

    @webmethod(route="/inference/chat_completion", method="POST")  # type: ignore[misc]
    def chat_completion(
        self,
        model: str,
        messages: list[Message],
        sampling_params: SamplingParams | None = _DEFAULT,
        tools: list[ToolDefinition] | None = None,
        tool_choice: ToolChoice | None = ToolChoice.auto,
        tool_prompt_format: ToolPromptFormat | None = ToolPromptFormat.json,
        stream: bool | None = False,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
        retrieval: RetrievalConfig | None = None,
        shields: list[str] | None = None,
        edits: list[Edit] | None = None,
    ) -> ChatCompletionResponse | ChatCompletionResponseStreamChunk:
        """Answer a conversation. A stream has one ``start``, any number of ``progress`` and one ``complete`` event.

        Each of the ``shields`` checks the prompt before any compute, and every sentence of the answer before it is
        sent. A violation of the level ``error`` raises ``ShieldViolationError``, also in the middle of a stream.
        """
        ...

    @webmethod(route="/inference/embeddings", method="POST")
    async def embeddings(self, model: str, contents: list[InterleavedTextMedia]) -> EmbeddingsResponse:
        """Return one vector for each content, in order."""
        ...


@runtime_checkable
class BatchInference(Protocol):
    """Batches of prompts with the same parameters; one invalid prompt rejects the whole batch before any compute."""

    @webmethod(route="/batch_inference/completion", method="POST")
    async def batch_completion(
        self,
        model: str,
        content_batch: list[InterleavedTextMedia],
        sampling_params: SamplingParams | None = _DEFAULT,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
    ) -> BatchCompletionResponse:
        """Continue several texts, in order, each as ``completion`` does."""
        ...

    @webmethod(route="/batch_inference/chat_completion", method="POST")
    async def batch_chat_completion(
        self,
        model: str,
        messages_batch: list[list[Message]],
        sampling_params: SamplingParams | None = _DEFAULT,
        tools: list[ToolDefinition] | None = None,
        tool_choice: ToolChoice | None = ToolChoice.auto,
        tool_prompt_format: ToolPromptFormat | None = ToolPromptFormat.json,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
    ) -> BatchChatCompletionResponse:
        """Answer several conversations, in order, each as ``chat_completion`` does."""
        ...
