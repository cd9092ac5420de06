"""The provider: checks a request, finds its model, and turns the engine's events into the protocol's chunks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.engine.generation import GenerationRequest
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
    sampling_conflict,
    validate_sampling,
)
from workbench.protocol.sampling import is_count
from workbench.providers.chat_events import chat_chunks
from workbench.providers.folding import chat_response, completion_response
from workbench.providers.transformers import cards, config
from workbench.providers.transformers.chunks import completion_chunks
from workbench.providers.transformers.rendering import rendered
from workbench.providers.transformers.response_formats import AskedGrammar, asked_grammar
from workbench.providers.transformers.sampling import engine_sampling
from workbench.providers.transformers.served import CausalModel, ServedModels
from workbench.providers.transformers.tokens import token_record
from workbench.providers.transformers.tool_use import checked_tools
from workbench.records import Score

if TYPE_CHECKING:
    from workbench.engine.constraints import Constraint
    from workbench.engine.logprobs import TokenStats
    from workbench.protocol import InterleavedTextMedia, Message, ModelStore, Provider, ToolDefinition
    from workbench.records import ModelCard, Prompt

Encode = Callable[[PromptEncoder], EncodedPrompt]
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
        asked = self._check(model, sampling_params, response_format=response_format, logprobs=logprobs)
        chunks = self._chunks(model, sampling_params, logprobs, lambda encoder: encoder.text_prompt(content), asked)
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
        asked = self._check(model, sampling_params, tools, tool_choice, tool_prompt_format, response_format, logprobs)
        chunks = self._chunks(model, sampling_params, logprobs, lambda encoder: encoder.chat_prompt(messages), asked)
        events = chat_chunks(chunks)
        return events if stream else _chat_completed(events, wants_logprobs=logprobs is not None)

    async def batch_completion(
        self,
        model: str,
        content_batch: list[InterleavedTextMedia],
        sampling_params: SamplingParams | None = None,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
    ) -> BatchCompletionResponse:
        asked = self._check(model, sampling_params, response_format=response_format, logprobs=logprobs)
        _refuse_in_batch(logprobs)

        def encode(encoder: PromptEncoder) -> Iterator[EncodedPrompt]:
            return (encoder.text_prompt(one, f"content_batch[{index}]") for index, one in enumerate(content_batch))

        responses = await self._batch(model, sampling_params, encode, "content_batch", asked)
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
        asked = self._check(model, sampling_params, tools, tool_choice, tool_prompt_format, response_format, logprobs)
        _refuse_in_batch(logprobs)

        def encode(encoder: PromptEncoder) -> Iterator[EncodedPrompt]:
            for index, one in enumerate(messages_batch):
                yield encoder.chat_prompt(one, field=f"messages_batch[{index}]")

        responses = await self._batch(model, sampling_params, encode, "messages_batch", asked)
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
        scored = await asyncio.to_thread(_scored, served, prompt, continuations, alternatives)
        vocabulary = served.engine.model.vocabulary
        return [
            Score(text, tuple(token_record(vocabulary, stat, index, 0.0) for index, stat in enumerate(stats)))
            for text, stats in zip(continuations, scored, strict=True)
        ]

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

    def _check(
        self,
        model: str,
        params: SamplingParams | None,
        tools: list[ToolDefinition] | None = None,
        tool_choice: ToolChoice | None = None,
        tool_prompt_format: ToolPromptFormat | None = None,
        response_format: ResponseFormat | None = None,
        logprobs: LogProbConfig | None = None,
    ) -> AskedGrammar | None:
        """Refuse what is wrong or not to be had, before anything is loaded or computed; the grammar that is asked."""
        self.get_model(model)
        if params is not None:
            validate_sampling(params)
        if logprobs is not None:
            _check_logprobs(logprobs)
        if response_format is not None and tools:
            allowed = "absent where there are tools: an answer in that format could be no call of one"
            raise UnsupportedFieldError("response_format", response_format, allowed)
        if tools:
            raise UnsupportedFieldError("tools", f"{len(tools)} tools", "absent: this provider takes no tools yet")
        if tool_choice == ToolChoice.required:
            raise UnsupportedFieldError("tool_choice", tool_choice, "auto: this provider takes no tools yet")
        if tool_prompt_format not in (None, ToolPromptFormat.json):
            raise UnsupportedFieldError("tool_prompt_format", tool_prompt_format, "json: no tools are taken yet")
        return asked_grammar(response_format)

    async def _chunks(
        self,
        model: str,
        params: SamplingParams | None,
        logprobs: LogProbConfig | None,
        encode: Encode,
        asked: AskedGrammar | None,
    ) -> AsyncIterator[CompletionResponseStreamChunk]:
        asked_at = time.perf_counter()
        served = await self._ready(model)
        prompt = await asyncio.to_thread(encode, served.encoder)
        request = _request(prompt, params or SamplingParams(), logprobs, await _compiled(served, asked))
        chunks = completion_chunks(
            served.engine,
            request,
            wants_logprobs=logprobs is not None,
            asked_at=asked_at,
            notes=_notes(params),
        )
        async for chunk in chunks:
            yield chunk

    async def _batch(
        self,
        model: str,
        params: SamplingParams | None,
        encode: Callable[[PromptEncoder], Iterator[EncodedPrompt]],
        field: str,
        asked: AskedGrammar | None,
    ) -> list[CompletionResponse]:
        """All prompts are encoded and checked before the first is computed, so one bad item refuses the batch."""
        served = await self._ready(model)
        prompts = await asyncio.to_thread(_held_together, encode(served.encoder), field)
        for index, prompt in enumerate(prompts):
            served.engine.check(prompt.token_ids, f"{field}[{index}]")
        constraint = await _compiled(served, asked)
        return await _gathered(
            [
                _completed(
                    completion_chunks(
                        served.engine,
                        _request(prompt, params or SamplingParams(), None, constraint),
                        wants_logprobs=False,
                        asked_at=time.perf_counter(),
                    ),
                    wants_logprobs=False,
                )
                for prompt in prompts
            ]
        )

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


def _check_logprobs(logprobs: LogProbConfig) -> None:
    """Its own check once more, because fields can be assigned after construction."""
    if not isinstance(logprobs, LogProbConfig):
        raise InvalidRequestError("logprobs", logprobs, "a LogProbConfig")
    if logprobs.top_k is not None and not is_count(logprobs.top_k):
        raise InvalidRequestError("logprobs.top_k", logprobs.top_k, "a whole number, 0 or above")


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


def _scored(
    served: CausalModel, prompt: str | list[Message], continuations: list[str], alternatives: int
) -> list[list[TokenStats]]:
    encoder = served.encoder
    if isinstance(prompt, str):
        before, read = prompt, encoder.text_prompt(prompt, "prompt")
    else:
        before, read = None, encoder.chat_prompt(prompt, field="prompt")
    token_ids = [
        encoder.encode_continuation(before, read.token_ids, continuation, f"continuations[{index}]")
        for index, continuation in enumerate(continuations)
    ]
    return served.engine.score(read.token_ids, token_ids, alternatives, read.images)


async def _compiled(served: CausalModel, asked: AskedGrammar | None) -> Constraint | None:
    """The grammar for this model; it may take a while, which must not hold up the event loop."""
    if asked is None:
        return None
    return await asyncio.to_thread(served.grammars.compile, asked.grammar, asked.field)


def _request(
    prompt: EncodedPrompt, params: SamplingParams, logprobs: LogProbConfig | None, constraint: Constraint | None
) -> GenerationRequest:
    return GenerationRequest(
        prompt_ids=prompt.token_ids,
        images=prompt.images,
        sampling=engine_sampling(params),
        max_tokens=params.max_tokens or 0,
        stop_strings=tuple(params.stop or ()),
        alternatives=(logprobs.top_k or 0) if logprobs else 0,
        prompt_logprobs=bool(logprobs and logprobs.prompt),
        constraint=constraint,
    )


def _notes(params: SamplingParams | None) -> tuple[str, ...]:
    conflict = sampling_conflict(params) if params else None
    return (conflict,) if conflict else ()


async def _completed(
    chunks: AsyncIterator[CompletionResponseStreamChunk], *, wants_logprobs: bool
) -> CompletionResponse:
    return completion_response([chunk async for chunk in chunks], wants_logprobs=wants_logprobs)


async def _chat_completed(
    chunks: AsyncIterator[ChatCompletionResponseStreamChunk], *, wants_logprobs: bool
) -> ChatCompletionResponse:
    return chat_response([chunk async for chunk in chunks], wants_logprobs=wants_logprobs)


async def _gathered(responses: Sequence[Any]) -> list[CompletionResponse]:
    """All responses in order; the first failure cancels the others, so that none computes for nobody."""
    tasks = [asyncio.ensure_future(response) for response in responses]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
