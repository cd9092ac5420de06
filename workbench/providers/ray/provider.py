"""Provider that has the definitions of its models in this process, and computes in the actors of a pool."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from workbench.errors import ConfigError, GenerationError, InvalidRequestError
from workbench.protocol import MAX_SEED, HealthInfo, ModelDef, Provider, SamplingStrategy, effective_strategy
from workbench.providers import provider_class
from workbench.providers.interface import InferenceProvider
from workbench.providers.ray.config import RayConfig
from workbench.providers.ray.pool import ActorLostError, Pool
from workbench.providers.ray.wire import emission_from_wire, request_to_json
from workbench.providers.requests import PromptInput, Request, Tools, check_list, check_tools, texts_of
from workbench.providers.streams import closed_after
from workbench.providers.wire import Json, from_wire
from workbench.records import Embeddings, Emission, ModelCard, Prompt, Score, TokenSpans, Usage

if TYPE_CHECKING:
    from workbench.protocol import InterleavedTextMedia, ToolPromptFormat


class RayProvider(InferenceProvider):
    """``inline::ray``: a pool of engines on a Ray cluster, with the capabilities of its engine.

    Nothing is started before the first request.
    """

    Config = RayConfig
    config: RayConfig

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        if importlib.util.find_spec("ray") is None:
            install = "install it with: pip install 'inference-workbench[ray]'"
            raise ConfigError(f"provider {self.provider_id!r}: {self.provider_type} needs the package 'ray'; {install}")
        if self.config.engine_type == self.provider_type:
            raise ConfigError(f"provider {self.provider_id!r}: engine_type must not be {self.provider_type} itself")
        spec = Provider(provider_id=self.provider_id, provider_type=self.config.engine_type, config=self.config.engine)
        self._engine = provider_class(spec.provider_type, self.provider_id)(spec)
        """Provider of the engine's type in this process, which defines models and checks requests; it loads nothing."""
        # Answer prefixes and pauses refer to objects of one process.
        self.capabilities = replace(self._engine.capabilities, branch=False, pause=False)
        self._pool = Pool(spec, self.config)
        self._loaded: dict[str, ModelCard] = {}

    # ------------------------------------------------------------------------------------------------- answering

    def generate(self, request: Request) -> AsyncIterator[str | Emission]:
        self._engine.generate(request)  # for its checks: nothing is computed before it is read
        return self._emissions(self._repeatable(request))

    async def generate_batch(self, requests: Sequence[Request]) -> list[AsyncIterator[str | Emission]]:
        """Check all requests in one actor before the first is computed, and then spread them over the pool."""
        if not requests:
            return []
        streams = [self.generate(request) for request in requests]
        await self._call("check", requests[0].model, [request_to_json(request) for request in requests])
        return streams

    async def embed(self, model: str, contents: list[InterleavedTextMedia]) -> Embeddings:
        self.get_model(model)
        texts = texts_of(contents)
        share = -(-len(texts) // self.config.actors)
        parts = [texts[start : start + share] for start in range(0, len(texts), share)]
        answers = await asyncio.gather(*(self._call("embed", model, part) for part in parts))
        usage = Usage(prompt_tokens=sum(read for _, read in answers))
        return Embeddings([vector for vectors, _ in answers for vector in vectors], usage)

    async def token_spans(self, model: str, text: str) -> TokenSpans:
        self.get_model(model)
        return from_wire(TokenSpans, await self._call("token_spans", model, text))

    async def score(
        self, model: str, prompt: PromptInput, continuations: list[str], alternatives: int = 0
    ) -> list[Score]:
        self.get_model(model)
        check_list("continuations", continuations)
        scores = await self._call("score", model, [_prompt(prompt), continuations, alternatives])
        return [from_wire(Score, score) for score in scores]

    async def render(
        self, model: str, prompt: PromptInput, tools: Tools = None, tool_prompt_format: ToolPromptFormat | None = None
    ) -> Prompt:
        self.get_model(model)
        check_tools(tools, None, tool_prompt_format)
        arguments = [_prompt(prompt), to_jsonable_python(tools or []), tool_prompt_format]
        return from_wire(Prompt, await self._call("render", model, arguments))

    async def _emissions(self, request: Request) -> AsyncIterator[str | Emission]:
        """Yield the answer; after the loss of an actor another one must repeat it, and then continues it."""
        model, wire_request = self.get_model(request.model), request_to_json(request)
        emitted: list[str] = []
        for attempt in range(self.config.retries + 1):
            answer = self._pool.stream(model, wire_request)
            position = 0
            try:
                async with closed_after(answer):
                    async for wire in answer:
                        content = _without_times(wire)
                        if position < len(emitted):
                            _check_same(emitted[position], content)
                        else:
                            emitted.append(content)
                            yield emission_from_wire(wire)
                        position += 1
            except ActorLostError as error:
                await self._pool.lost(attempt, error)
            else:
                return

    def _repeatable(self, request: Request) -> Request:
        """Return the request with a seed if tokens are drawn, so that another actor can repeat the answer."""
        params = request.sampling_params
        if params.seed is not None or effective_strategy(params) == SamplingStrategy.greedy:
            return request
        if not self.capabilities.seed:
            return request
        seed = random.SystemRandom().randint(0, MAX_SEED)
        return replace(request, sampling_params=params.model_copy(update={"seed": seed}))

    async def _call(self, method: str, model: str, arguments: Json) -> Json:
        return await self._pool.call(self.get_model(model), method, arguments)

    # -------------------------------------------------------------------------------------------- models and life

    def get_model(self, identifier: str) -> ModelDef:
        return self._engine.get_model(identifier)

    async def list_models(self) -> list[ModelDef]:
        return await self._engine.list_models()

    async def register_model(self, model: ModelDef) -> None:
        await self._engine.register_model(model)
        self._loaded.pop(model.identifier, None)  # its precision may differ from before

    async def unregister_model(self, identifier: str) -> None:
        await self._engine.unregister_model(identifier)
        self._loaded.pop(identifier, None)
        await self._pool.forget(identifier)

    def card(self, identifier: str) -> ModelCard:
        """Return the card from this process, or after `load` that of an actor."""
        card = self._loaded.get(identifier) or self._engine.card(identifier)
        return replace(card, provider_id=self.provider_id, provider_type=self.provider_type)

    def load(self, identifier: str) -> None:
        """Load a model in every actor of the pool; blocks."""
        model = self.get_model(identifier)
        self._pool.start()
        self._loaded[identifier] = from_wire(ModelCard, self._pool.load(model))

    async def health(self) -> HealthInfo:
        """Return whether all actors answer; before the first request, when none is started, the status is ``OK``."""
        if not self._pool.actors:
            return HealthInfo(status="OK")
        alive = await self._pool.alive()
        missing = f"{alive} of {self.config.actors} actors answer"
        return HealthInfo(status="OK" if alive == self.config.actors else missing)

    def close(self) -> None:
        self._pool.close()
        self._engine.close()


def _without_times(wire: Json) -> str:
    """Return the fields of an emission that must be equal from any actor."""
    return json.dumps(wire[:2])


def _check_same(expected: str, actual: str) -> None:
    if expected != actual:
        message = "an actor died, and the one that replaced it gave a different answer"
        raise GenerationError(f"{message}, so the engine is not deterministic; send the request again")


def _prompt(prompt: Any) -> Json:
    if not isinstance(prompt, str | list):
        raise InvalidRequestError("prompt", prompt, "a text, or a list of messages")
    return to_jsonable_python(prompt, fallback=repr)
