"""Provider that replays a recording, at its speed or without delay, and needs no model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import fields, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workbench.errors import ClosedError, ConfigError, GenerationError, NotRecordedError
from workbench.protocol import CompletionMessage, ConfigModel, ModelDef
from workbench.providers.capabilities import Capabilities, raise_unsupported
from workbench.providers.interface import InferenceProvider
from workbench.providers.pausing import pausable
from workbench.providers.requests import PromptInput, Request, Tools, check_list
from workbench.providers.streams import Stream
from workbench.providers.trace.calls import (
    Method,
    RecordedCall,
    batch_json,
    message_emissions,
    plain_json,
    request_json,
)
from workbench.providers.trace.file import RecordedModel, read_trace
from workbench.providers.trace.playing import Playlist
from workbench.providers.wire import Json, error_from_wire, from_wire
from workbench.records import Embeddings, Emission, Inspector, ModelCard, Prompt, Score, TokenSpans

if TYPE_CHECKING:
    from workbench.insides import ModelPoints
    from workbench.protocol import InterleavedTextMedia, Provider, ToolPromptFormat

_LEFT_WAIT_S = 30.0
"""Time that a replayed call waits for its reader to stop, as the reader of the recording did."""


class TraceConfig(ConfigModel):
    """The ``config`` of an ``inline::trace`` provider in a run config."""

    path: str = Field(min_length=1)
    """Trace file written by `Workbench.record`."""
    timing: Literal["kept", "skipped"] = "kept"
    """``kept`` replays tokens at their recorded speed, ``skipped`` without delay."""


class TraceProvider(InferenceProvider):
    """``inline::trace``: replays a recording; serves its models under their names and answers the recorded requests.

    Any other request raises a `NotRecordedError` that shows the difference to the nearest recorded one.
    """

    Config = TraceConfig
    config: TraceConfig

    def __init__(self, provider: Provider, playlist: Playlist | None = None) -> None:
        super().__init__(provider)
        try:
            self._playlist = playlist or Playlist(read_trace(self.config.path))
        except ConfigError as error:
            raise ConfigError(f"provider {self.provider_id!r}: {error}") from None
        self._recorded = self._playlist.models
        self._closed = False
        self.capabilities = _union(self._recorded.values(), register=bool(self._playlist.registered))
        for model in self._recorded.values():
            if model.definition.identifier not in self._playlist.registered:
                self.serve(model.definition)

    def stream(self, request: Request) -> AsyncIterator[Emission]:
        return Stream(pausable(super().stream(request), request))

    def generate(self, request: Request) -> AsyncIterator[Emission]:
        method: Method = "chat_completion" if request.is_chat else "completion"
        call = self._take(method, request.model, request_json(request))
        if call.refused:
            raise error_from_wire(call.error)
        return self._played(call, self._playlist.inspector(call))

    async def generate_batch(self, requests: Sequence[Request]) -> list[AsyncIterator[str | Emission]]:
        """Return the recorded answers; a batch that was not recorded is replayed as single requests."""
        if not requests:
            return []
        is_chat, model, request = requests[0].is_chat, requests[0].model, batch_json(requests)
        method: Method = "batch_chat_completion" if is_chat else "batch_completion"
        if not self._playlist.holds(method, model, request):
            return await super().generate_batch(requests)
        result = await self._result(method, model, request)
        messages = map(CompletionMessage.model_validate, result["completion_message_batch"])
        return [message_emissions(message) for message in messages]

    async def embed(self, model: str, contents: list[InterleavedTextMedia]) -> Embeddings:
        self.get_model(model)
        check_list("contents", contents)
        return Embeddings(await self._result("embeddings", model, {"contents": contents}))

    async def token_spans(self, model: str, text: str) -> TokenSpans:
        self.get_model(model)
        return from_wire(TokenSpans, await self._result("token_spans", model, {"text": text}))

    async def score(
        self, model: str, prompt: PromptInput, continuations: list[str], alternatives: int = 0
    ) -> list[Score]:
        self.get_model(model)
        request = {"prompt": prompt, "continuations": continuations, "alternatives": alternatives}
        return [from_wire(Score, score) for score in await self._result("score", model, request)]

    async def render(
        self, model: str, prompt: PromptInput, tools: Tools = None, tool_prompt_format: ToolPromptFormat | None = None
    ) -> Prompt:
        self.get_model(model)
        request = {"prompt": prompt, "tools": tools or [], "tool_prompt_format": tool_prompt_format}
        return from_wire(Prompt, await self._result("render", model, request))

    async def register_model(self, model: ModelDef) -> None:
        """Register a model that was registered during the recording, or raise the recorded error."""
        if not self._playlist.holds("register_model", model.identifier, {}):
            raise_unsupported(self, "register", model.identifier)
        await self._result("register_model", model.identifier, {})
        self.serve(self._recorded[model.identifier].definition)

    def card(self, identifier: str) -> ModelCard:
        """Return the card as of the end of the recording, with the id and type of this provider."""
        self.get_model(identifier)
        return replace(
            self._recorded[identifier].card,
            identifier=identifier,
            provider_id=self.provider_id,
            provider_type=self.provider_type,
        )

    def points(self, identifier: str) -> ModelPoints:
        """Return the points of a model that was looked into during the recording."""
        self.get_model(identifier)
        if identifier not in self._playlist.points:
            raise NotRecordedError("model", identifier, "one that was looked into during the recording")
        return self._playlist.points[identifier]

    def close(self) -> None:
        self._closed = True

    def _take(self, method: Method, model: str, request: Json) -> RecordedCall:
        self._check_open()
        return self._playlist.take(method, model, request)

    async def _result(self, method: Method, model: str, request: object) -> Any:
        call = self._take(method, model, plain_json(request))
        await self._until(time.perf_counter() + call.elapsed_s)
        if call.error is not None:
            raise error_from_wire(call.error)
        if call.end == "left":
            await self._wait_for_stop(call)
        return call.result

    async def _played(self, call: RecordedCall, inspector: Inspector | None) -> AsyncIterator[Emission]:
        began_at = time.perf_counter()
        for elapsed_s, emission in call.emissions:
            await self._until(began_at + elapsed_s)
            yield emission if inspector is None else replace(emission, inspector=inspector)
        await self._until(began_at + call.elapsed_s)
        if call.error is not None:
            raise error_from_wire(call.error)
        if call.end == "left":
            await self._wait_for_stop(call)

    async def _until(self, moment_s: float) -> None:
        """Wait for a time of the recording; if its timing is skipped, only let other tasks run."""
        await asyncio.sleep(max(0.0, moment_s - time.perf_counter()) if self.config.timing == "kept" else 0)
        self._check_open()

    async def _wait_for_stop(self, call: RecordedCall) -> None:
        """Wait for the reader to stop, as during the recording; raise `GenerationError` if it reads on."""
        await asyncio.sleep(_LEFT_WAIT_S)
        message = f"the recording of this {call.method} ends here, because the run was stopped"
        raise GenerationError(f"{message}; record it to its end, or stop the run here too")

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"provider {self.provider_id} was closed; open a new workbench")


def _union(models: Iterable[RecordedModel], *, register: bool) -> Capabilities:
    """Return the union of the models' capabilities, and pausing, which needs no model."""
    return replace(reduce(_either, (model.capabilities for model in models), _NONE), register=register, pause=True)


def _either(one: Capabilities, other: Capabilities) -> Capabilities:
    values = {field.name: (getattr(one, field.name), getattr(other, field.name)) for field in fields(Capabilities)}
    bounds = values.pop("max_top_k")
    bound = None if None in bounds else max(bounds)
    return Capabilities(max_top_k=bound, **{name: a | b for name, (a, b) in values.items()})


_NONE = Capabilities(
    completion=False, chat=False, batch=False, max_top_k=0, strategies=frozenset(), tool_prompt_formats=frozenset()
)
