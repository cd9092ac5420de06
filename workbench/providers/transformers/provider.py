"""The provider: looks up a request's model, and converts the engine's events to emissions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from workbench import catalog
from workbench.engine.compilation import on_compilation
from workbench.engine.constraints import Constraint
from workbench.engine.devices import choose, present_devices
from workbench.errors import ConfigError, InvalidRequestError
from workbench.prompts.control_tokens import EncodedPrompt
from workbench.prompts.texts import valid_unicode
from workbench.protocol import ModelDef, SamplingStrategy, ToolPromptFormat
from workbench.protocol.sampling import is_count
from workbench.providers.capabilities import Capabilities
from workbench.providers.interface import InferenceProvider
from workbench.providers.requests import PromptInput, Request, Tools, check_list, check_tools, texts_of
from workbench.providers.streams import closed_after
from workbench.providers.tool_calls import with_tool_calls
from workbench.providers.transformers import cards
from workbench.providers.transformers.config import AdaptedModel, TransformersConfig
from workbench.providers.transformers.emissions import engine_emissions
from workbench.providers.transformers.lenses import fit
from workbench.providers.transformers.rendering import rendered
from workbench.providers.transformers.request_preparation import PreparedRequest, prepare
from workbench.providers.transformers.scoring import scored
from workbench.providers.transformers.served import SENTENCE_MODEL, CausalModel, ServedModels
from workbench.providers.transformers.tool_use import checked_tools
from workbench.records import Embeddings, Emission, LensFit, RunProgress, Score, TokenSpans, Usage
from workbench.sampling_stages import SAMPLING_STAGES

if TYPE_CHECKING:
    from workbench.insides import ModelPoints
    from workbench.protocol import InterleavedTextMedia, Provider
    from workbench.records import ModelCard, Prompt

_MAX_IMAGE_BYTES = 2**30
"""Maximum size of a batch's preprocessed images, which all are in memory before the first is computed."""


class TransformersProvider(InferenceProvider):
    """``inline::transformers``: models in Hugging Face layout, computed in this process by the engine."""

    Config = TransformersConfig
    config: TransformersConfig
    capabilities = Capabilities(
        embeddings=True,
        images=True,
        strategies=frozenset(SamplingStrategy),
        **{stage.field: True for stage in SAMPLING_STAGES if stage.is_ability},
        seed=True,
        stop=True,
        logprobs=True,
        prompt_logprobs=True,
        tools=True,
        required_tool_choice=True,
        tool_prompt_formats=frozenset(ToolPromptFormat),
        response_formats=frozenset({"json_schema", "regex", "grammar"}),
        edits=True,
        token_spans=True,
        score=True,
        render=True,
        register=True,
        branch=True,
        pause=True,
    )

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        if self.config.device != "auto":
            self._check_device()
        self._models = ServedModels(self.provider_id, self.config, self.get_model)

    def definition(self, source: str | AdaptedModel) -> ModelDef:
        if isinstance(source, AdaptedModel):
            name = source.name or catalog.served_name(source.source, "models")
            return ModelDef(identifier=name, llama_model=source.source)
        return ModelDef(identifier=catalog.served_name(source, "models"), llama_model=source)

    async def register_model(self, model: ModelDef) -> None:
        await asyncio.to_thread(cards.check_source, model, self.config)
        before = self._served.get(model.identifier)
        self.serve(model)
        if before is not None and self._weights_of(before) != self._weights_of(model):
            await asyncio.to_thread(self._models.unload, model.identifier)  # the next request loads it again

    def _weights_of(self, model: ModelDef) -> tuple[str, str]:
        """Return what decides how a model's weights are held: their precision and their device."""
        return self.config.precision_of(model), self.config.device_of(model)

    def _check_device(self) -> None:
        """Raise `ConfigError` unless the device of the config is there."""
        try:
            choose(self.config.device, "config.device")
        except InvalidRequestError as error:
            raise ConfigError(f"provider {self.provider_id!r}: {error}") from None

    async def unregister_model(self, identifier: str) -> None:
        await super().unregister_model(identifier)
        await asyncio.to_thread(self._models.unload, identifier)

    def card(self, identifier: str) -> ModelCard:
        model, loaded = self.get_model(identifier), self._models.loaded(identifier)
        choice = loaded.choice if loaded else None
        card = cards.card(model, self.provider_id, self.provider_type, self.config, choice)
        return loaded.measured(card) if loaded else card

    def kind(self, identifier: str) -> str:
        return cards.kind(self.get_model(identifier))

    def capabilities_of(self, identifier: str) -> Capabilities:
        self.get_model(identifier)
        loaded = self._models.loaded(identifier)
        switched_off = loaded.switched_off if loaded else self.card(identifier).switched_off
        return replace(self.capabilities, embeddings="embeddings" not in switched_off)

    def devices(self) -> list[str]:
        return list(present_devices())

    def points(self, identifier: str) -> ModelPoints:
        return self._models.causal(identifier).engine.model.decoder.points

    def fit_lens(
        self,
        identifier: str,
        texts: Sequence[str],
        seconds: float | None = None,
        progress: Callable[[LensFit], None] | None = None,
    ) -> LensFit:
        served = self._models.causal(identifier)
        token_ids = [served.encoder.encode_text(text, f"texts[{index}]") for index, text in enumerate(texts)]
        served.engine.lens = lens = fit(served.engine.model, token_ids, seconds=seconds, progress=progress)
        return LensFit(lens.facts.texts, len(texts), lens.facts.seconds)

    def load(self, identifier: str) -> None:
        self._models.ready(identifier)

    def close(self) -> None:
        self._models.close()

    def generate(self, request: Request) -> AsyncIterator[Emission]:
        return self._emissions(prepare(request))

    async def generate_batch(self, requests: Sequence[Request]) -> list[AsyncIterator[str | Emission]]:
        """Encode and check all prompts before the first is computed, so that one bad item refuses the batch."""
        if not requests:
            return []
        batch = [prepare(request) for request in requests]
        served = await self._ready(requests[0].model)
        prompts = await asyncio.to_thread(_encode_batch, (one.prompt(served.encoder) for one in batch), requests)
        for request, prompt in zip(requests, prompts, strict=True):
            served.engine.check(prompt.token_ids, request.field)
        constraint = await asyncio.to_thread(batch[0].constraint, served)
        requested_at = time.perf_counter()
        return [_answer_emissions(served, *one, constraint, requested_at) for one in zip(batch, prompts, strict=True)]

    async def embed(self, model: str, contents: list[InterleavedTextMedia]) -> Embeddings:
        """Return one vector per content, in order.

        A sentence model pools as its folder specifies and truncates longer texts at its limit; the empty text has a
        vector too. A causal model returns the mean of its last hidden states, after the final norm, scaled to unit
        length; it refuses an empty text, and one that does not fit its context.
        """
        self.get_model(model)
        texts = texts_of(contents)
        vectors, token_count = await asyncio.to_thread(self._models.embed, model, texts)
        return Embeddings(vectors, Usage(prompt_tokens=token_count))

    async def token_spans(self, model: str, text: str) -> TokenSpans:
        """Return where the tokens of a text are; a causal model is refused, before it is loaded."""
        if self._models.loaded(model) is None and self.kind(model) != "embedding":
            raise InvalidRequestError("model", model, SENTENCE_MODEL)
        if not isinstance(text, str):
            raise InvalidRequestError("text", text, "a text")
        valid_unicode(text, "text")
        return await asyncio.to_thread(self._models.token_spans, model, text)

    async def score(
        self, model: str, prompt: PromptInput, continuations: list[str], alternatives: int = 0
    ) -> list[Score]:
        self.get_model(model)
        if not isinstance(prompt, str | list):
            raise InvalidRequestError("prompt", prompt, "a text, or a list of messages")
        check_list("continuations", continuations)
        if not is_count(alternatives):
            raise InvalidRequestError("logprobs.top_k", alternatives, "a whole number, 0 or above")
        served = await self._ready(model)
        return await asyncio.to_thread(scored, served, prompt, continuations, alternatives)

    async def render(
        self, model: str, prompt: PromptInput, tools: Tools = None, tool_prompt_format: ToolPromptFormat | None = None
    ) -> Prompt:
        self.get_model(model)
        if not isinstance(prompt, str | list):
            raise InvalidRequestError("prompt", prompt, "a text, or a list of messages")
        check_tools(tools, None, tool_prompt_format)
        use = checked_tools(tools, None, tool_prompt_format)
        served = await self._ready(model)
        return await asyncio.to_thread(rendered, served, prompt, use)

    async def _emissions(self, prepared: PreparedRequest) -> AsyncIterator[Emission]:
        requested_at = time.perf_counter()
        with self._loading_reported(prepared.request):
            served = await self._ready(prepared.request.model)
        prompt = await asyncio.to_thread(prepared.prompt, served.encoder)  # in a thread, because images take long
        served.engine.check(prompt.token_ids, prepared.request.field)
        constraint = await asyncio.to_thread(prepared.constraint, served)
        emissions = _answer_emissions(served, prepared, prompt, constraint, requested_at)
        async with closed_after(emissions):
            async for emission in emissions:
                yield emission

    @contextmanager
    def _loading_reported(self, request: Request) -> Iterator[None]:
        """Report to the run that its model is loaded in the block, and compiled for if it is the first of all."""
        control = request.control
        if control is None or self._models.loaded(request.model) is not None:
            yield
            return
        control.report(RunProgress("loading", total=self.card(request.model).predicted_memory_bytes))
        loop = asyncio.get_running_loop()

        def report_compilation() -> None:
            loop.call_soon_threadsafe(control.report, RunProgress("compiling"))

        with on_compilation(report_compilation):
            yield

    async def _ready(self, identifier: str) -> CausalModel:
        loaded = self._models.loaded(identifier)
        if isinstance(loaded, CausalModel):
            return loaded
        return await asyncio.to_thread(self._models.causal, identifier)


def _answer_emissions(
    served: CausalModel,
    prepared: PreparedRequest,
    prompt: EncodedPrompt,
    constraint: Constraint | None,
    requested_at: float,
) -> AsyncIterator[Emission]:
    """Return the emissions of an answer; computation starts when the first is read."""
    emissions = engine_emissions(
        served.engine,
        prepared.engine_request(served, prompt, constraint),
        source=prepared.request,
        requested_at=requested_at,
        notes=prepared.notes(served),
        late_note=prepared.late_note,
    )
    parser = prepared.use.parser(served.encoder, prompt) if prepared.request.is_chat else None
    return emissions if parser is None else with_tool_calls(emissions, parser, must_call=prepared.use.must_call)


def _encode_batch(prompts: Iterator[EncodedPrompt], requests: Sequence[Request]) -> list[EncodedPrompt]:
    """Return all prompts of a batch; raise `InvalidRequestError` if their images exceed the limit."""
    encoded: list[EncodedPrompt] = []
    image_bytes = 0
    for prompt in prompts:
        image_bytes += sum(placed.image.nbytes for placed in prompt.images)
        if image_bytes > _MAX_IMAGE_BYTES:
            allowed = f"a batch with at most {_MAX_IMAGE_BYTES // 2**20} MiB of preprocessed images"
            raise InvalidRequestError(requests[len(encoded)].field, f"{image_bytes / 2**20:.0f} MiB so far", allowed)
        encoded.append(prompt)
    return encoded
