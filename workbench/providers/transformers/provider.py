"""The provider: models by name, each loaded at its first request and served by an engine of its own."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import catalog
from workbench.engine.generation import GenerationRequest
from workbench.engine.loading import load
from workbench.engine.sampling import Sampling
from workbench.engine.scheduler import Engine
from workbench.errors import ClosedError, InvalidRequestError, ModelNotFoundError, UnsupportedFieldError
from workbench.prompts.encoding import PromptEncoder
from workbench.protocol import (
    BatchChatCompletionResponse,
    BatchCompletionResponse,
    ChatCompletionResponse,
    ChatCompletionResponseStreamChunk,
    CompletionResponse,
    CompletionResponseStreamChunk,
    EmbeddingsResponse,
    LogProbConfig,
    ModelDef,
    SamplingParams,
    effective_sampling,
    sampling_conflict,
    validate_sampling,
)
from workbench.providers.folding import chat_response, completion_response
from workbench.providers.transformers import cards, config
from workbench.providers.transformers.chunks import chat_chunks, completion_chunks

if TYPE_CHECKING:
    from workbench.protocol import InterleavedTextMedia, Message, ModelStore, Provider, ToolDefinition
    from workbench.records import ModelCard


class ServedModel:
    """A model that is ready: its engine and the encoder of its prompts."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.encoder = PromptEncoder(engine.model.tokenizer, engine.model.name)


class TransformersProvider:
    """``inline::transformers``."""

    model_store: ModelStore

    def __init__(self, provider: Provider) -> None:
        self.provider_id = provider.provider_id
        self.provider_type = provider.provider_type
        self.config = config.parse(provider)
        self.model_store = self
        self._models: dict[str, ModelDef] = {}
        self._served: dict[str, ServedModel] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._closed = False
        for source in self.config.models:
            self._add(ModelDef(identifier=identifier_of(source), llama_model=source))

    # ------------------------------------------------------------------------------------------------ models

    def get_model(self, identifier: str) -> ModelDef:
        try:
            return self._models[identifier]
        except KeyError:
            raise ModelNotFoundError(identifier, self._models) from None

    async def list_models(self) -> list[ModelDef]:
        return list(self._models.values())

    async def register_model(self, model: ModelDef) -> None:
        await asyncio.to_thread(cards.check_source, model.llama_model)
        self._add(model)

    def card(self, identifier: str) -> ModelCard:
        served = self._served.get(identifier)
        card = cards.card(self.get_model(identifier), self.provider_id, self.provider_type, self.config)
        if served is None:
            return card
        model = served.engine.model
        return replace(
            card,
            loaded=True,
            memory_bytes=model.memory_bytes,
            architecture=model.architecture,
            parameters=model.parameters,
        )

    def load(self, identifier: str) -> None:
        self._ready(identifier)

    def close(self) -> None:
        self._closed = True
        for served in self._served.values():
            served.engine.close()
        self._served.clear()

    # --------------------------------------------------------------------------------------------- inference

    def completion(
        self,
        model: str,
        content: InterleavedTextMedia,
        sampling_params: SamplingParams | None = None,
        stream: bool | None = False,
        logprobs: LogProbConfig | None = None,
        response_format: object | None = None,
    ) -> Any:
        chunks = self._chunks(model, sampling_params, logprobs, response_format, lambda to: to.encode_text(content))
        return chunks if stream else _completed(chunks, wants_logprobs=logprobs is not None)

    def chat_completion(
        self,
        model: str,
        messages: list[Message],
        sampling_params: SamplingParams | None = None,
        tools: list[ToolDefinition] | None = None,
        tool_choice: object | None = None,
        tool_prompt_format: object | None = None,
        stream: bool | None = False,
        logprobs: LogProbConfig | None = None,
        response_format: object | None = None,
    ) -> Any:
        if tools:
            raise UnsupportedFieldError("tools", f"{len(tools)} tools", "absent: this provider does not take tools yet")
        chunks = self._chunks(model, sampling_params, logprobs, response_format, lambda to: to.encode_chat(messages))
        events = chat_chunks(chunks)
        return events if stream else _chat_completed(events, wants_logprobs=logprobs is not None)

    async def batch_completion(
        self,
        model: str,
        content_batch: list[InterleavedTextMedia],
        sampling_params: SamplingParams | None = None,
        logprobs: LogProbConfig | None = None,
        response_format: object | None = None,
    ) -> BatchCompletionResponse:
        encode = [
            lambda to, index=index, content=content: to.encode_text(content, f"content_batch[{index}]")
            for index, content in enumerate(content_batch)
        ]
        responses = await self._batch(model, sampling_params, logprobs, response_format, encode)
        return BatchCompletionResponse(completion_message_batch=[response.completion_message for response in responses])

    async def batch_chat_completion(
        self,
        model: str,
        messages_batch: list[list[Message]],
        sampling_params: SamplingParams | None = None,
        tools: list[ToolDefinition] | None = None,
        tool_choice: object | None = None,
        tool_prompt_format: object | None = None,
        logprobs: LogProbConfig | None = None,
        response_format: object | None = None,
    ) -> BatchChatCompletionResponse:
        if tools:
            raise UnsupportedFieldError("tools", f"{len(tools)} tools", "absent: this provider does not take tools yet")
        encode = [
            lambda to, index=index, messages=messages: to.encode_chat(messages, f"messages_batch[{index}]")
            for index, messages in enumerate(messages_batch)
        ]
        responses = await self._batch(model, sampling_params, logprobs, response_format, encode)
        return BatchChatCompletionResponse(
            completion_message_batch=[response.completion_message for response in responses]
        )

    async def embeddings(self, model: str, contents: list[InterleavedTextMedia]) -> EmbeddingsResponse:
        raise NotImplementedError

    # ----------------------------------------------------------------------------------------------- parts

    def _chunks(
        self,
        model: str,
        sampling_params: SamplingParams | None,
        logprobs: LogProbConfig | None,
        response_format: object | None,
        encode: Encode,
    ) -> AsyncIterator[CompletionResponseStreamChunk]:
        """Check what can be checked at once; the rest happens when the stream is read."""
        self.get_model(model)
        params = sampling_params or SamplingParams()
        validate_sampling(params)
        if response_format is not None:
            raise UnsupportedFieldError(
                "response_format", response_format, "absent: this provider does not constrain its output yet"
            )
        notes = _warned(params)
        return self._run(model, params, logprobs, notes, encode)

    async def _run(
        self,
        model: str,
        params: SamplingParams,
        logprobs: LogProbConfig | None,
        notes: tuple[str, ...],
        encode: Encode,
    ) -> AsyncIterator[CompletionResponseStreamChunk]:
        asked_at = time.perf_counter()
        served = await self._ready_async(model)
        request = _request(encode(served.encoder), params, logprobs)
        async for chunk in completion_chunks(
            served.engine, request, wants_logprobs=logprobs is not None, asked_at=asked_at, notes=notes
        ):
            yield chunk

    async def _batch(
        self,
        model: str,
        params: SamplingParams | None,
        logprobs: LogProbConfig | None,
        response_format: object | None,
        encode: Sequence[Encode],
    ) -> list[CompletionResponse]:
        """All prompts are encoded and checked before the first is computed, so one bad item refuses the batch."""
        served = await self._ready_async(model)
        prompts = [one(served.encoder) for one in encode]
        for prompt in prompts:
            served.engine.check(prompt)
        streams = [
            self._chunks(model, params, logprobs, response_format, lambda _, prompt=prompt: prompt)
            for prompt in prompts
        ]
        return list(await asyncio.gather(*(_completed(stream, wants_logprobs=False) for stream in streams)))

    def _add(self, model: ModelDef) -> None:
        self._locks.setdefault(model.identifier, threading.Lock())
        self._models[model.identifier] = model

    async def _ready_async(self, identifier: str) -> ServedModel:
        return self._served.get(identifier) or await asyncio.to_thread(self._ready, identifier)

    def _ready(self, identifier: str) -> ServedModel:
        """The model's engine; loads it if need be, once however many ask."""
        model = self.get_model(identifier)
        with self._locks[identifier]:
            if self._closed:
                raise ClosedError(f"provider {self.provider_id} was closed; open a new workbench")
            if identifier not in self._served:
                loaded = load(catalog.resolve(model.llama_model), name=identifier, precision=self.config.precision)
                engine = Engine(
                    loaded,
                    prefix_cache_bytes=self.config.prefix_cache_mb * 2**20,
                    max_active=self.config.max_active,
                )
                self._served[identifier] = ServedModel(engine)
            return self._served[identifier]


Encode = Callable[[PromptEncoder], tuple[int, ...]]


def identifier_of(source: str) -> str:
    """The name under which a source is served: a folder's own name, else the source as it stands."""
    path = Path(source).expanduser()
    return path.name if path.is_dir() else source


def _request(prompt_ids: tuple[int, ...], params: SamplingParams, logprobs: LogProbConfig | None) -> GenerationRequest:
    effective = effective_sampling(params)
    return GenerationRequest(
        prompt_ids=prompt_ids,
        sampling=Sampling(
            temperature=effective.temperature,
            top_k=effective.top_k,
            top_p=effective.top_p,
            repetition_penalty=1.0 if params.repetition_penalty is None else params.repetition_penalty,
            seed=params.seed,
        ),
        max_tokens=params.max_tokens or 0,
        stop_strings=tuple(params.stop or ()),
        alternatives=(logprobs.top_k or 0) if logprobs else 0,
        prompt_logprobs=bool(logprobs and logprobs.prompt),
    )


def _warned(params: SamplingParams) -> tuple[str, ...]:
    conflict = sampling_conflict(params)
    if conflict is None:
        return ()
    warnings.warn(conflict, UserWarning, stacklevel=5)
    return (conflict,)


async def _completed(
    chunks: AsyncIterator[CompletionResponseStreamChunk], *, wants_logprobs: bool
) -> CompletionResponse:
    return completion_response([chunk async for chunk in chunks], wants_logprobs=wants_logprobs)


async def _chat_completed(
    chunks: AsyncIterator[ChatCompletionResponseStreamChunk], *, wants_logprobs: bool
) -> ChatCompletionResponse:
    return chat_response([chunk async for chunk in chunks], wants_logprobs=wants_logprobs)
