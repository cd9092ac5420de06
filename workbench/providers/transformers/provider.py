"""The provider: checks a request, finds its model, and turns the engine's events into the protocol's chunks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from workbench.errors import ConfigError, InvalidRequestError, UnsupportedFieldError
from workbench.prompts.control_tokens import EncodedPrompt
from workbench.prompts.encoding import PromptEncoder
from workbench.prompts.texts import plain_text
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
    ResponseFormat,
    SamplingParams,
    ToolChoice,
    ToolPromptFormat,
)
from workbench.protocol.sampling import is_count
from workbench.providers.chat_events import chat_chunks
from workbench.providers.folding import chat_response, completion_response
from workbench.providers.transformers import cards, config
from workbench.providers.transformers.asking import Asked, checked
from workbench.providers.transformers.chunks import completion_chunks
from workbench.providers.transformers.rendering import rendered
from workbench.providers.transformers.scoring import scored
from workbench.providers.transformers.served import CausalModel, ServedModels
from workbench.providers.transformers.tool_use import checked_tools
from workbench.records import Score

if TYPE_CHECKING:
    from workbench.protocol import InterleavedTextMedia, Message, ModelStore, Provider, ToolDefinition
    from workbench.records import ModelCard, Prompt

Response = TypeVar("Response")
Chunks: TypeAlias = AsyncIterator[CompletionResponseStreamChunk]
Encode: TypeAlias = Callable[[PromptEncoder], EncodedPrompt]
"""Makes a prompt, once the model's encoder is there; on a thread beside the event loop, for images take their time."""

_MAX_IMAGE_BYTES = 2**30
"""Of the images of a batch, as the model reads them, all of which are there before the first is computed."""


class TransformersProvider:
    """``inline::transformers``."""

    def __init__(self, provider: Provider) -> None:
        self.provider_id = provider.provider_id
        self.provider_type = provider.provider_type
        self.config = config.parse(provider)
        self.model_store: ModelStore = self
        self._models = ServedModels(provider.provider_id, self.config)
        for source in self.config.models:
            identifier = identifier_of(source)
            if any(known.identifier == identifier for known in self._models.definitions()):
                raise ConfigError(f"provider {self.provider_id!r}: config.models names {identifier!r} more than once")
            self._models.add(ModelDef(identifier=identifier, llama_model=source))

    def get_model(self, identifier: str) -> ModelDef:
        return self._models.definition(identifier)

    async def list_models(self) -> list[ModelDef]:
        return self._models.definitions()

    async def register_model(self, model: ModelDef) -> None:
        await asyncio.to_thread(cards.check_source, model.llama_model)
        self._models.add(model)

    async def unregister_model(self, identifier: str) -> None:
        """Serve the model no longer; what it was computing fails with `ClosedError`, and its memory is given back."""
        await asyncio.to_thread(self._models.remove, identifier)

    def card(self, identifier: str) -> ModelCard:
        card = cards.card(self.get_model(identifier), self.provider_id, self.provider_type, self.config)
        loaded = self._models.loaded(identifier)
        return loaded.measured(card) if loaded else card

    def load(self, identifier: str) -> None:
        self._models.ready(identifier)

    def close(self) -> None:
        self._models.close()

    def completion(
        self,
        model: str,
        content: InterleavedTextMedia,
        sampling_params: SamplingParams | None = None,
        stream: bool | None = False,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
    ) -> Any:
        self.get_model(model)
        asked = checked(sampling_params, logprobs, response_format)
        chunks = self._chunks(model, asked, lambda encoder: encoder.text_prompt(content))
        return chunks if stream else _completed(chunks, wants_logprobs=logprobs is not None)

    def chat_completion(
        self,
        model: str,
        messages: list[Message],
        sampling_params: SamplingParams | None = None,
        tools: list[ToolDefinition] | None = None,
        tool_choice: ToolChoice | None = ToolChoice.auto,
        tool_prompt_format: ToolPromptFormat | None = ToolPromptFormat.json,
        stream: bool | None = False,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
    ) -> Any:
        self.get_model(model)
        use = checked_tools(tools, tool_choice, tool_prompt_format)
        events = self._chat_chunks(model, checked(sampling_params, logprobs, response_format, use), messages)
        return events if stream else _chat_completed(events, wants_logprobs=logprobs is not None)

    async def batch_completion(
        self,
        model: str,
        content_batch: list[InterleavedTextMedia],
        sampling_params: SamplingParams | None = None,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
    ) -> BatchCompletionResponse:
        self.get_model(model)
        asked = checked(sampling_params, logprobs, response_format)
        _refuse_in_batch(logprobs)

        def encode(encoder: PromptEncoder) -> Iterator[EncodedPrompt]:
            return (encoder.text_prompt(one, f"content_batch[{index}]") for index, one in enumerate(content_batch))

        responses = await self._batch(model, asked, encode, "content_batch", lambda _, __, chunks: _completed(chunks))
        return BatchCompletionResponse(completion_message_batch=[response.completion_message for response in responses])

    async def batch_chat_completion(
        self,
        model: str,
        messages_batch: list[list[Message]],
        sampling_params: SamplingParams | None = None,
        tools: list[ToolDefinition] | None = None,
        tool_choice: ToolChoice | None = ToolChoice.auto,
        tool_prompt_format: ToolPromptFormat | None = ToolPromptFormat.json,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
    ) -> BatchChatCompletionResponse:
        self.get_model(model)
        use = checked_tools(tools, tool_choice, tool_prompt_format)
        asked = checked(sampling_params, logprobs, response_format, use)
        _refuse_in_batch(logprobs)

        def encode(encoder: PromptEncoder) -> Iterator[EncodedPrompt]:
            for index, one in enumerate(messages_batch):
                yield use.prompt(encoder, one, f"messages_batch[{index}]")

        def fold(served: CausalModel, prompt: EncodedPrompt, chunks: Chunks) -> Awaitable[ChatCompletionResponse]:
            return _chat_completed(chat_chunks(chunks, use.parser(served.encoder, prompt), must_call=use.must_call))

        responses = await self._batch(model, asked, encode, "messages_batch", fold)
        return BatchChatCompletionResponse(
            completion_message_batch=[response.completion_message for response in responses]
        )

    async def embeddings(self, model: str, contents: list[InterleavedTextMedia]) -> EmbeddingsResponse:
        """One vector per content, in order.

        A sentence model pools as its folder says and cuts longer texts off at its limit; the empty text has a vector
        too. A causal model gives the mean of its last hidden states, after the final norm, at unit length; it refuses
        an empty text, and one that does not fit its context.
        """
        self.get_model(model)
        _check_list("contents", contents)
        texts = [plain_text(content, f"contents[{index}]") for index, content in enumerate(contents)]
        return EmbeddingsResponse(embeddings=await asyncio.to_thread(self._models.embed, model, texts))

    async def score(
        self, model: str, prompt: str | list[Message], continuations: list[str], alternatives: int = 0
    ) -> list[Score]:
        """How probable each continuation is after the prompt, a text or a conversation."""
        self.get_model(model)
        if not isinstance(prompt, str | list):
            raise InvalidRequestError("prompt", prompt, "a text, or a list of messages")
        _check_list("continuations", continuations)
        if not is_count(alternatives):
            raise InvalidRequestError("logprobs.top_k", alternatives, "a whole number, 0 or above")
        served = await self._ready(model)
        return await asyncio.to_thread(scored, served, prompt, continuations, alternatives)

    async def render(
        self,
        model: str,
        prompt: str | list[Message],
        tools: list[ToolDefinition] | None = None,
        tool_prompt_format: ToolPromptFormat | None = None,
    ) -> Prompt:
        """What the model would be given for a text or a conversation, without generating."""
        self.get_model(model)
        if not isinstance(prompt, str | list):
            raise InvalidRequestError("prompt", prompt, "a text, or a list of messages")
        use = checked_tools(tools, None, tool_prompt_format)
        served = await self._ready(model)
        return await asyncio.to_thread(rendered, served, prompt, use)

    async def _chat_chunks(
        self, model: str, asked: Asked, messages: list[Message]
    ) -> AsyncIterator[ChatCompletionResponseStreamChunk]:
        use = asked.use
        served, prompt, chunks = await self._started(
            model, asked, lambda encoder: use.prompt(encoder, messages, "messages")
        )
        async for event in chat_chunks(chunks, use.parser(served.encoder, prompt), must_call=use.must_call):
            yield event

    async def _chunks(self, model: str, asked: Asked, encode: Encode) -> Chunks:
        _, _, chunks = await self._started(model, asked, encode)
        async for chunk in chunks:
            yield chunk

    async def _started(self, model: str, asked: Asked, encode: Encode) -> tuple[CausalModel, EncodedPrompt, Chunks]:
        """The model, the prompt, and the stream that begins to compute when it is first read."""
        asked_at = time.perf_counter()
        served = await self._ready(model)
        prompt = await asyncio.to_thread(encode, served.encoder)
        constraint = await asyncio.to_thread(asked.constraint, served)
        chunks = completion_chunks(
            served.engine,
            asked.request(prompt, constraint),
            wants_logprobs=asked.logprobs is not None,
            asked_at=asked_at,
            notes=asked.notes(served),
        )
        return served, prompt, chunks

    async def _batch(
        self,
        model: str,
        asked: Asked,
        encode: Callable[[PromptEncoder], Iterator[EncodedPrompt]],
        field: str,
        fold: Callable[[CausalModel, EncodedPrompt, Chunks], Awaitable[Response]],
    ) -> list[Response]:
        """All prompts are encoded and checked before the first is computed, so one bad item refuses the batch."""
        served = await self._ready(model)
        prompts = await asyncio.to_thread(_held_together, encode(served.encoder), field)
        for index, prompt in enumerate(prompts):
            served.engine.check(prompt.token_ids, f"{field}[{index}]")
        constraint = await asyncio.to_thread(asked.constraint, served)
        asked_at = time.perf_counter()
        requests = [asked.request(prompt, constraint) for prompt in prompts]
        streams = [
            completion_chunks(served.engine, request, wants_logprobs=False, asked_at=asked_at) for request in requests
        ]
        return await _gathered([fold(served, *one) for one in zip(prompts, streams, strict=True)])

    async def _ready(self, identifier: str) -> CausalModel:
        loaded = self._models.loaded(identifier)
        if isinstance(loaded, CausalModel):
            return loaded
        return await asyncio.to_thread(self._models.causal, identifier)


def identifier_of(source: str) -> str:
    """The name under which a source is served: a folder's own name, else the source as it stands."""
    path = Path(source).expanduser()
    return path.resolve().name if path.is_dir() else source


def _check_list(field: str, value: object) -> None:
    if not isinstance(value, list) or not value:
        raise InvalidRequestError(field, value, "a list with at least one text")


def _refuse_in_batch(logprobs: LogProbConfig | None) -> None:
    if logprobs is not None:
        allowed = "absent: a batch's response has no place for them; ask one by one"
        raise UnsupportedFieldError("logprobs", logprobs, allowed)


def _held_together(prompts: Iterator[EncodedPrompt], field: str) -> list[EncodedPrompt]:
    """All prompts of a batch, whose images are held until each is computed."""
    made: list[EncodedPrompt] = []
    held = 0
    for prompt in prompts:
        held += sum(placed.image.nbytes for placed in prompt.images)
        if held > _MAX_IMAGE_BYTES:
            allowed = f"a batch whose images take up at most {_MAX_IMAGE_BYTES // 2**20} MiB as the model reads them"
            raise InvalidRequestError(f"{field}[{len(made)}]", f"{held / 2**20:.0f} MiB up to here", allowed)
        made.append(prompt)
    return made


async def _completed(chunks: Chunks, *, wants_logprobs: bool = False) -> CompletionResponse:
    return completion_response([chunk async for chunk in chunks], wants_logprobs=wants_logprobs)


async def _chat_completed(
    chunks: AsyncIterator[ChatCompletionResponseStreamChunk], *, wants_logprobs: bool = False
) -> ChatCompletionResponse:
    return chat_response([chunk async for chunk in chunks], wants_logprobs=wants_logprobs)


async def _gathered(responses: Sequence[Awaitable[Response]]) -> list[Response]:
    """All responses in order; the first failure cancels the others, so that none computes for nobody."""
    tasks = [asyncio.ensure_future(response) for response in responses]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
