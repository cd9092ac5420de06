"""Inference API in front of all providers, which finds the provider of a model and delegates to it.

A field that the provider does not declare in its capabilities is refused by name, before the provider is called.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequestError, ModelNotFoundError, ShieldNotFoundError, UnsupportedFieldError
from workbench.protocol import CompletionMessage, ModelDef, ToolPromptFormat
from workbench.providers.capabilities import refuse_method, refuse_undeclared
from workbench.providers.protocol_methods import ProtocolMethods
from workbench.providers.requests import PromptInput, Request, Tools
from workbench.providers.streams import Stream
from workbench.records import Attribution, Embeddings, Emission, Prompt, Score, TokenRecord, TokenSpans
from workbench.stack.guarding import Guard, guarded
from workbench.stack.retrieval import answered, attribution, with_chunks

if TYPE_CHECKING:
    from workbench.insides import ModelPoints
    from workbench.protocol import InterleavedTextMedia, Memory
    from workbench.providers.capabilities import Capabilities
    from workbench.providers.trace.recording import Recorder
    from workbench.stack.models import ModelRegistration, ModelRegistry
    from workbench.stack.shields import SafetyRouter


class Router(ProtocolMethods):
    """Implementation of ``Inference`` and ``BatchInference``, for models by their plain or full names."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self.model_store = self
        self.memory: Memory | None = None
        """Banks for requests with retrieval."""
        self.safety: SafetyRouter | None = None
        """Router of the shields that requests may name; None if none are served."""
        self.recorder: Recorder | None = None
        """Recorder of every call while it is open."""

    def get_model(self, identifier: str) -> ModelDef:
        return self._registry.find(identifier).definition

    def default_model(self, kind: str) -> str:
        """Return the name of the first served model of a kind, ``causal`` or ``embedding``; not part of the protocol.

        Raises:
            ModelNotFoundError: no served model is of that kind.
        """
        for known in self._registry.registrations():
            with suppress(ModelNotFoundError):  # unregistered meanwhile
                if known.provider.kind(known.definition.identifier) == kind:
                    return known.name
        raise ModelNotFoundError(f"(any {kind} model)", [model.identifier for model in self._registry.definitions()])

    def capabilities_of(self, model: str) -> Capabilities:
        """Return the capabilities of a model, as far as they are known before it is loaded."""
        found = self._registry.find(model)
        return found.provider.capabilities_of(found.definition.identifier)

    def points(self, model: str) -> ModelPoints:
        """Return the points at which a model's numbers can be read and changed; load it if necessary. Blocks.

        Not part of the protocol.
        """
        found = self._registry.find(model)
        return found.provider.points(found.definition.identifier)

    def stream(self, request: Request) -> AsyncIterator[Emission]:
        """Return the emissions of a request, as far as its shields pass them; not part of the protocol."""
        if request.retrieval is None:
            return self._stream(request)
        if request.retrieval.attribution:
            refuse_method(self._find(request.model).provider, "branch", request.model)
        self._guard(request)  # unknown shields are refused before the bank is queried
        return Stream(answered(self._stream, request, self._memory()))

    def _stream(self, request: Request) -> AsyncIterator[Emission]:
        found = self._find(request.model)
        refuse_undeclared(found.provider, request)
        guard = self._guard(request)
        unguarded = replace(request, model=found.definition.identifier, shields=())
        if guard is None:
            return found.provider.stream(unguarded)
        return Stream(guarded(guard, partial(found.provider.stream, unguarded)))

    async def with_chunks(self, request: Request) -> Request:
        """Return a request with the chunks that it retrieves in its prompt; not part of the protocol."""
        self._guard(request)
        return await with_chunks(request, self._memory())

    async def attribution(self, request: Request, tokens: Sequence[TokenRecord]) -> Attribution:
        """Return what each chunk of a request did to the tokens of its answer; not part of the protocol."""
        refuse_method(self._find(request.model).provider, "branch", request.model)
        return await attribution(self._stream, request, tokens)

    def _memory(self) -> Memory:
        if self.memory is None:
            raise UnsupportedFieldError("retrieval", "a bank", "absent: this router has no memory")
        return self.memory

    async def embed(self, model: str, contents: list[InterleavedTextMedia]) -> Embeddings:
        """Return one vector for each content, in order, and the number of tokens read."""
        found = self._find(model)
        refuse_method(found.provider, "embeddings", model)
        return await found.provider.embed(found.definition.identifier, contents)

    async def token_spans(self, model: str, text: str) -> TokenSpans:
        """Return where the tokens of a text are, as a sentence model reads it; not part of the protocol."""
        found = self._find(model)
        refuse_method(found.provider, "token_spans", model)
        return await found.provider.token_spans(found.definition.identifier, text)

    async def answer_batch(self, model: str, requests: Sequence[Request]) -> list[CompletionMessage]:
        """Return the answers to several requests of one model under the same parameters, in their order."""
        found = self._find(model)
        refuse_method(found.provider, "batch", model)
        for request in requests:
            refuse_undeclared(found.provider, request)
        name = found.definition.identifier
        return await found.provider.answer_batch(name, [replace(request, model=name) for request in requests])

    async def score(
        self, model: str, prompt: PromptInput, continuations: list[str], alternatives: int = 0
    ) -> list[Score]:
        """Return how probable each continuation is after the prompt; not part of the protocol."""
        found = self._find(model)
        refuse_method(found.provider, "score", model)
        return await found.provider.score(found.definition.identifier, prompt, continuations, alternatives)

    async def render(
        self, model: str, prompt: PromptInput, tools: Tools = None, tool_prompt_format: ToolPromptFormat | None = None
    ) -> Prompt:
        """Return the prompt that the model gets, without generating; not part of the protocol."""
        found = self._find(model)
        refuse_method(found.provider, "render", model)
        return await found.provider.render(found.definition.identifier, prompt, tools, tool_prompt_format)

    def _guard(self, request: Request) -> Guard | None:
        """Return the guard of a request, or None if it names no shields; raise `ShieldNotFoundError` for others."""
        if not request.shields:
            return None
        if self.safety is None:
            raise ShieldNotFoundError(request.shields[0], ())
        for name in request.shields:
            self.safety.get_shield(name)
        return Guard(self.safety, request.shields, request.messages)

    def _find(self, model: str) -> ModelRegistration:
        if not isinstance(model, str):
            raise InvalidRequestError("model", model, "the name of a served model")
        found = self._registry.find(model)
        if self.recorder is None or not self.recorder.is_open:
            return found
        return replace(found, provider=self.recorder.around(found.provider, found.definition.identifier, found.name))
