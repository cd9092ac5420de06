"""Recording of a provider's calls by another provider in front of it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from workbench.errors import ModelNotFoundError, WorkbenchError
from workbench.protocol import ModelDef, Provider
from workbench.providers.interface import InferenceProvider
from workbench.providers.requests import PromptInput, Request, Tools
from workbench.providers.streams import closed_after
from workbench.providers.trace.calls import (
    Method,
    RecordedCall,
    batch_json,
    message_emissions,
    plain_json,
    request_json,
)
from workbench.providers.trace.file import RecordedModel, TraceWriter
from workbench.providers.trace.inspections import RecordingInspector
from workbench.providers.wire import Json, error_to_wire, to_wire
from workbench.records import Embeddings, Emission

if TYPE_CHECKING:
    from workbench.insides import ModelPoints
    from workbench.protocol import InterleavedTextMedia, ToolPromptFormat
    from workbench.records import KeptPosition, LensFit, ModelCard, Prompt, Score, TokenSpans

Result = TypeVar("Result")


class Recorder:
    """Writer of calls to a trace, until it is closed.

    Raises:
        InvalidRequestError: ``path`` cannot be written, or exists and ``overwrite`` is false.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self._writer = TraceWriter(path, overwrite=overwrite)
        self.path = self._writer.path
        self.is_open = True
        self._began_at = time.perf_counter()
        self._cards: dict[str, ModelCard] = {}
        self._in_progress: list[RecordedCall] = []
        self._vocabularies: set[str] = set()
        self._points: set[str] = set()
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def around(self, provider: InferenceProvider, identifier: str, name: str) -> InferenceProvider:
        """Return a provider that records the calls of one of the provider's models.

        Args:
            identifier: name of the model at its provider.
            name: name of the model in the trace.
        """
        if name not in self._cards:
            self.note(provider, identifier, name)
        return RecordedProvider(provider, self, lambda _: name)

    def note(self, provider: InferenceProvider, identifier: str, name: str) -> None:
        """Write the card of a model if it has changed; that of a loaded model is final."""
        if name in self._cards and self._cards[name].loaded:
            return
        card = provider.card(identifier)
        if self._cards.get(name) != card:
            self._cards[name] = card
            definition = provider.get_model(identifier).model_copy(update={"identifier": name})
            self._writer.model(RecordedModel(definition, card, provider.capabilities))

    def begin(self, method: Method, model: str, request: Json) -> RecordedCall:
        at_s = time.perf_counter() - self._began_at
        call = RecordedCall(method, model, request, next(self._numbers), at_s=at_s)
        with self._lock:
            self._in_progress.append(call)
        return call

    def end(self, call: RecordedCall) -> None:
        with self._lock:
            if call not in self._in_progress:
                return
            self._in_progress.remove(call)
        call.elapsed_s = time.perf_counter() - self._began_at - call.at_s
        self._writer.call(call)

    def look(self, number: int, position: int, kept: KeptPosition) -> None:
        """Write the inspection of a position of call ``number``."""
        self._writer.look(number, position, kept)

    def inside(self, number: int, answer: Json) -> None:
        """Write what was read inside the model about call ``number``."""
        self._writer.inside(number, answer)

    def points(self, model: str, points: ModelPoints) -> None:
        """Write the points of a model, once per model."""
        if self._is_first(self._points, model):
            self._writer.points(model, points)

    def vocabulary(self, model: str, texts: Callable[[], Sequence[str]]) -> None:
        """Write the texts of a model's tokens, once per model."""
        if self._is_first(self._vocabularies, model):
            self._writer.vocabulary(model, texts())

    def _is_first(self, known: set[str], model: str) -> bool:
        with self._lock:
            is_first = model not in known
            known.add(model)
            return is_first

    def close(self) -> None:
        """Write calls in progress up to their last emission. Closing twice is harmless."""
        self.is_open = False
        for call in list(self._in_progress):
            self.end(call)
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Recorder to {self.path}, {'open' if self.is_open else 'closed'}>"


class RecordedProvider(InferenceProvider):
    """Provider that passes calls on to another one, whole responses as streams, and records them.

    Args:
        name: maps a model's identifier to its name in the trace.
    """

    def __init__(self, inner: InferenceProvider, recorder: Recorder, name: Callable[[str], str]) -> None:
        super().__init__(Provider(provider_id=inner.provider_id, provider_type=inner.provider_type, config={}))
        self.capabilities = inner.capabilities
        self._inner = inner
        self._recorder = recorder
        self._name = name

    def get_model(self, identifier: str) -> ModelDef:
        return self._inner.get_model(identifier)

    def points(self, identifier: str) -> ModelPoints:
        points = self._inner.points(identifier)
        self._recorder.points(self._name(identifier), points)
        return points

    def fit_lens(
        self,
        identifier: str,
        texts: Sequence[str],
        seconds: float | None = None,
        progress: Callable[[LensFit], None] | None = None,
    ) -> LensFit:
        return self._inner.fit_lens(identifier, texts, seconds, progress)

    def generate(self, request: Request) -> AsyncIterator[Emission]:
        call = self._recorder.begin(
            "chat_completion" if request.is_chat else "completion", self._name(request.model), request_json(request)
        )
        try:
            emissions = self._inner.stream(request)
        except WorkbenchError as error:
            call.end, call.error, call.refused = "failed", error_to_wire(error), True
            self._recorder.end(call)
            raise
        return self._recorded(request.model, call, emissions)

    async def _recorded(
        self, model: str, call: RecordedCall, emissions: AsyncIterator[Emission]
    ) -> AsyncIterator[Emission]:
        began_at = time.perf_counter()
        inspections = _InspectionRecorder(self._recorder, call)
        try:
            async with closed_after(emissions):
                async for emission in emissions:
                    call.emissions.append((time.perf_counter() - began_at, emission))
                    if emission.stop_reason is not None:
                        call.end = "finished"
                    yield inspections.recorded(emission)
        except Exception as error:
            call.end, call.error = "failed", error_to_wire(error)
            raise
        finally:
            self._ended(model, call)

    async def generate_batch(self, requests: Sequence[Request]) -> list[AsyncIterator[str | Emission]]:
        """Pass a batch on as a batch, and record it as one call."""
        if not requests:
            return []
        one = requests[0]
        answers = await self._awaited(
            one.model,
            "batch_chat_completion" if one.is_chat else "batch_completion",
            batch_json(requests),
            self._inner.answer_batch(one.model, requests),
            lambda messages: {"completion_message_batch": [message.model_dump(mode="json") for message in messages]},
        )
        return [message_emissions(message) for message in answers]

    async def embed(self, model: str, contents: list[InterleavedTextMedia]) -> Embeddings:
        answer = self._inner.embed(model, contents)
        return await self._awaited(model, "embeddings", {"contents": contents}, answer, lambda it: it.vectors)

    async def token_spans(self, model: str, text: str) -> TokenSpans:
        return await self._awaited(model, "token_spans", {"text": text}, self._inner.token_spans(model, text), to_wire)

    async def score(
        self, model: str, prompt: PromptInput, continuations: list[str], alternatives: int = 0
    ) -> list[Score]:
        request = {"prompt": prompt, "continuations": continuations, "alternatives": alternatives}
        answer = self._inner.score(model, prompt, continuations, alternatives)
        return await self._awaited(model, "score", request, answer, to_wire)

    async def render(
        self, model: str, prompt: PromptInput, tools: Tools = None, tool_prompt_format: ToolPromptFormat | None = None
    ) -> Prompt:
        request = {"prompt": prompt, "tools": tools or [], "tool_prompt_format": tool_prompt_format}
        answer = self._inner.render(model, prompt, tools, tool_prompt_format)
        return await self._awaited(model, "render", request, answer, to_wire)

    async def _awaited(
        self, model: str, method: Method, request: Json, answer: Awaitable[Result], as_json: Callable[[Result], Json]
    ) -> Result:
        call = self._recorder.begin(method, self._name(model), plain_json(request))
        try:
            result = await answer
        except Exception as error:
            call.end, call.error = "failed", error_to_wire(error)
            raise
        else:
            call.end, call.result = "finished", as_json(result)
            return result
        finally:
            self._ended(model, call)

    def _ended(self, model: str, call: RecordedCall) -> None:
        self._recorder.end(call)
        with suppress(ModelNotFoundError):  # unregistered meanwhile
            self._recorder.note(self._inner, model, self._name(model))  # the card of a loaded model is complete


class _InspectionRecorder:
    """Wrapper of a call's emissions that records their inspections."""

    def __init__(self, recorder: Recorder, call: RecordedCall) -> None:
        self._recorder = recorder
        self._call = call
        self._inspector: RecordingInspector | None = None

    def recorded(self, emission: Emission) -> Emission:
        """Return the emission with an inspector that records in front of its own."""
        if emission.inspector is None:
            return emission
        if self._inspector is None:
            inner, call = emission.inspector, self._call
            self._inspector = RecordingInspector(inner, self._recorder, call.model, call.number)
        return replace(emission, inspector=self._inspector)
