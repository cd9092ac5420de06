"""The protocol's methods, for a class that answers a `Request`: a provider, or the router in front of all of them.

They convert emissions to the protocol's chunks and responses, for callers in this process.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.protocol import (
    BatchChatCompletionResponse,
    BatchCompletionResponse,
    ChatCompletionRequest,
    CompletionRequest,
    EmbeddingsResponse,
    SamplingParams,
    ToolChoice,
    ToolPromptFormat,
)
from workbench.providers.chunks import protocol_chunks
from workbench.providers.folding import response
from workbench.providers.requests import Request
from workbench.providers.streams import Stream

if TYPE_CHECKING:
    from workbench.protocol import (
        CompletionMessage,
        InterleavedTextMedia,
        LogProbConfig,
        Message,
        ModelDef,
        ResponseFormat,
        ToolDefinition,
    )
    from workbench.records import Embeddings, Emission

Response = TypeVar("Response")

_DEFAULT = SamplingParams()


class ProtocolMethods(ABC):
    """Mixin that implements the protocol's methods with `stream`, `answer_batch` and `embed`."""

    @abstractmethod
    def get_model(self, identifier: str) -> ModelDef:
        """Return the definition of a served model; raise `ModelNotFoundError` for any other name."""

    @abstractmethod
    def stream(self, request: Request) -> AsyncIterator[Emission]:
        """Return the emissions of one request, which may go beyond the protocol: see the last fields of `Request`."""

    @abstractmethod
    async def answer_batch(self, model: str, requests: Sequence[Request]) -> list[CompletionMessage]:
        """Return the answers to several requests of one model under the same parameters, in their order."""

    @abstractmethod
    async def embed(self, model: str, contents: list[InterleavedTextMedia]) -> Embeddings:
        """Return one vector for each content, in order, and the number of tokens read."""

    def completion(
        self,
        model: str,
        content: InterleavedTextMedia,
        sampling_params: SamplingParams | None = _DEFAULT,
        stream: bool | None = False,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
    ) -> Any:
        body = CompletionRequest.model_construct(
            model=model,
            content=content,
            sampling_params=sampling_params,
            logprobs=logprobs,
            response_format=response_format,
        )
        return self._respond(body, stream=bool(stream))

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
    ) -> Any:
        body = ChatCompletionRequest.model_construct(
            model=model,
            messages=messages,
            sampling_params=sampling_params,
            tools=tools,
            tool_choice=tool_choice,
            tool_prompt_format=tool_prompt_format,
            logprobs=logprobs,
            response_format=response_format,
        )
        return self._respond(body, stream=bool(stream))

    async def batch_completion(
        self,
        model: str,
        content_batch: list[InterleavedTextMedia],
        sampling_params: SamplingParams | None = _DEFAULT,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
    ) -> BatchCompletionResponse:
        self.get_model(model)
        _check_batch("content_batch", content_batch, logprobs)
        shared: dict[str, Any] = {"sampling_params": sampling_params, "response_format": response_format}
        requests = [
            Request.from_body(
                CompletionRequest.model_construct(model=model, content=content, **shared),
                field=f"content_batch[{index}]",
            )
            for index, content in enumerate(content_batch)
        ]
        return BatchCompletionResponse(completion_message_batch=await self.answer_batch(model, requests))

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
        self.get_model(model)
        _check_batch("messages_batch", messages_batch, logprobs)
        shared: dict[str, Any] = {
            "sampling_params": sampling_params,
            "tools": tools,
            "tool_choice": tool_choice,
            "tool_prompt_format": tool_prompt_format,
            "response_format": response_format,
        }
        requests = [
            Request.from_body(
                ChatCompletionRequest.model_construct(model=model, messages=messages, **shared),
                field=f"messages_batch[{index}]",
            )
            for index, messages in enumerate(messages_batch)
        ]
        return BatchChatCompletionResponse(completion_message_batch=await self.answer_batch(model, requests))

    async def embeddings(self, model: str, contents: list[InterleavedTextMedia]) -> EmbeddingsResponse:
        return EmbeddingsResponse(embeddings=(await self.embed(model, contents)).vectors)

    def begin(self, body: CompletionRequest | ChatCompletionRequest) -> tuple[Request, AsyncIterator[Emission]]:
        """Return the request of a body, after the checks that need no model, and its emissions."""
        self.get_model(body.model)
        request = Request.from_body(body)
        return request, self.stream(request)

    def _respond(self, body: CompletionRequest | ChatCompletionRequest, *, stream: bool) -> Any:
        request, emissions = self.begin(body)
        return Stream(protocol_chunks(request, emissions)) if stream else whole_response(request, emissions)


async def whole_response(request: Request, emissions: AsyncIterator[Emission]) -> Any:
    """Return the protocol's response to a request."""
    return response(request, [emission async for emission in emissions])


async def gathered(responses: Sequence[Awaitable[Response]]) -> list[Response]:
    """Return all responses in order; the first failure cancels the others."""
    tasks = [asyncio.ensure_future(response) for response in responses]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _check_batch(field: str, batch: object, logprobs: LogProbConfig | None) -> None:
    if not isinstance(batch, list | tuple):
        raise InvalidRequestError(field, batch, "a list")
    if logprobs is not None:
        allowed = "absent: batch responses have no logprobs; send the requests one by one"
        raise UnsupportedFieldError("logprobs", logprobs, allowed)
