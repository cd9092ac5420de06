"""The inference API in front of all providers: it finds who serves the model and hands the call on.

What the provider does not declare among its capabilities is refused here, by name and before the provider is called.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workbench.errors import InvalidRequestError
from workbench.protocol import (
    BatchChatCompletionResponse,
    BatchCompletionResponse,
    EmbeddingsResponse,
    LogProbConfig,
    Message,
    ModelDef,
    ResponseFormat,
    SamplingParams,
    ToolChoice,
    ToolDefinition,
    ToolPromptFormat,
)
from workbench.providers.capabilities import refuse_method, refuse_undeclared
from workbench.providers.requests import Request, chat_request, completion_request
from workbench.records import Prompt, Score

if TYPE_CHECKING:
    from workbench.protocol import InterleavedTextMedia
    from workbench.providers.trace.recording import Recorder
    from workbench.stack.naming import Registration
    from workbench.stack.registry import Registry

_DEFAULT = SamplingParams()


class Router:
    """Satisfies ``Inference`` and ``BatchInference``; models are asked for by plain or by full name."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.model_store = self
        self.recorder: Recorder | None = None
        """Writes down every call while it is open."""

    def get_model(self, identifier: str) -> ModelDef:
        return self._registry.find(identifier).model

    def completion(
        self,
        model: str,
        content: InterleavedTextMedia,
        sampling_params: SamplingParams | None = _DEFAULT,
        stream: bool | None = False,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
    ) -> Any:
        found = self._find(model)
        refuse_undeclared(
            found.provider, completion_request(model, content, sampling_params, logprobs, response_format)
        )
        provider: Any = found.provider  # what comes back depends on `stream`, here as there
        return provider.completion(found.model.identifier, content, sampling_params, stream, logprobs, response_format)

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
        found = self._find(model)
        request = chat_request(
            model, messages, sampling_params, tools, tool_choice, tool_prompt_format, logprobs, response_format
        )
        refuse_undeclared(found.provider, request)
        provider: Any = found.provider
        return provider.chat_completion(
            found.model.identifier,
            messages,
            sampling_params,
            tools,
            tool_choice,
            tool_prompt_format,
            stream,
            logprobs,
            response_format,
        )

    def stream(self, request: Request) -> AsyncIterator[Any]:
        """The chunks of a request, which may go beyond the protocol; not a part of it."""
        found = self._find(request.model)
        refuse_undeclared(found.provider, request)
        return found.provider.stream(replace(request, model=found.model.identifier))

    async def embeddings(self, model: str, contents: list[InterleavedTextMedia]) -> EmbeddingsResponse:
        found = self._find(model)
        refuse_method(found.provider, "embeddings", model)
        return await found.provider.embeddings(found.model.identifier, contents)

    async def batch_completion(
        self,
        model: str,
        content_batch: list[InterleavedTextMedia],
        sampling_params: SamplingParams | None = _DEFAULT,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
    ) -> BatchCompletionResponse:
        found = self._find(model)
        refuse_method(found.provider, "batch", model)
        for index, content in enumerate(_items("content_batch", content_batch)):
            field = f"content_batch[{index}]"
            request = completion_request(model, content, sampling_params, logprobs, response_format, field=field)
            refuse_undeclared(found.provider, request)
        return await found.provider.batch_completion(
            found.model.identifier, content_batch, sampling_params, logprobs, response_format
        )

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
        found = self._find(model)
        refuse_method(found.provider, "batch", model)
        for index, messages in enumerate(_items("messages_batch", messages_batch)):
            request = chat_request(
                model,
                messages,
                sampling_params,
                tools,
                tool_choice,
                tool_prompt_format,
                logprobs,
                response_format,
                field=f"messages_batch[{index}]",
            )
            refuse_undeclared(found.provider, request)
        return await found.provider.batch_chat_completion(
            found.model.identifier,
            messages_batch,
            sampling_params,
            tools,
            tool_choice,
            tool_prompt_format,
            logprobs,
            response_format,
        )

    async def score(
        self, model: str, prompt: str | list[Message], continuations: list[str], alternatives: int = 0
    ) -> list[Score]:
        """How probable each continuation is after the prompt; not a part of the protocol."""
        found = self._find(model)
        refuse_method(found.provider, "score", model)
        return await found.provider.score(found.model.identifier, prompt, continuations, alternatives)

    async def render(
        self,
        model: str,
        prompt: str | list[Message],
        tools: list[ToolDefinition] | None = None,
        tool_prompt_format: ToolPromptFormat | None = None,
    ) -> Prompt:
        """What the model would be given, without generating; not a part of the protocol."""
        found = self._find(model)
        refuse_method(found.provider, "render", model)
        return await found.provider.render(found.model.identifier, prompt, tools, tool_prompt_format)

    def _find(self, model: str) -> Registration:
        if not isinstance(model, str):
            raise InvalidRequestError("model", model, "the name of a served model")
        found = self._registry.find(model)
        if self.recorder is None or not self.recorder.is_open:
            return found
        return replace(found, provider=self.recorder.around(found.provider, found.model.identifier, found.name))


def _items(field: str, batch: object) -> list[Any]:
    if not isinstance(batch, list | tuple):
        raise InvalidRequestError(field, batch, "a list")
    return list(batch)
