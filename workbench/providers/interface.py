"""Base class of all inference providers.

A provider declares its ``Config`` and ``capabilities`` and implements one generator, `InferenceProvider.generate`. The
base class implements the protocol with it: streams, whole responses, chats, batches. ``docs/writing-a-provider.md``
explains it step by step.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, NoReturn, TypeAlias

from pydantic import Field

from workbench.errors import ConfigError, ModelNotFoundError, UnsupportedFieldError
from workbench.protocol import ConfigModel, ModelDef, ToolPromptFormat
from workbench.providers.capabilities import Capabilities, display_name, raise_unsupported
from workbench.providers.configured import ConfiguredProvider
from workbench.providers.emissions import emissions
from workbench.providers.protocol_methods import ProtocolMethods, gathered, whole_response
from workbench.providers.requests import PromptInput, Request, Tools
from workbench.providers.streams import Stream
from workbench.records import Embeddings, Emission, LensFit, ModelCard

if TYPE_CHECKING:
    from workbench.insides import ModelPoints
    from workbench.protocol import CompletionMessage, InterleavedTextMedia, ModelStore, Provider
    from workbench.records import Prompt, Score, TokenSpans

ModelName: TypeAlias = Annotated[str, Field(min_length=1)]
"""Name of a model in a config; an empty one would mean the current folder."""


class ProviderConfig(ConfigModel):
    """Settings under ``config`` in a run config; a provider with more settings derives from it."""

    models: list[ModelName] = Field(default_factory=list)
    """Models served from the start."""


class InferenceProvider(ConfiguredProvider, ProtocolMethods):
    """Configured provider, which answers requests for the models that it lists under their plain names.

    Satisfies ``Inference`` and ``BatchInference``. Requests come from any event loop, several at a time; the router
    refuses those that need more than the declared ``capabilities``.

    Raises:
        ConfigError: the config is wrong; the message names the provider and the key.
    """

    Config: ClassVar[type[ConfigModel]] = ProviderConfig
    capabilities: Capabilities = Capabilities()
    """Supported request fields and values; assigned in ``__init__`` if they depend on the config."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        self.model_store: ModelStore = self
        self._served: dict[str, ModelDef] = {}
        for name in getattr(self.config, "models", ()):
            model = self.definition(name)
            if (name := model.identifier) in self._served:
                raise ConfigError(f"provider {self.provider_id!r}: config.models names {name!r} more than once")
            self.serve(model)

    # --------------------------------------------------------------------------------------- implemented by providers

    def generate(self, request: Request) -> AsyncIterator[str | Emission]:
        """Yield the answer to one request; the only method that a provider must implement, best as an ``async def``.

        Yield texts, each of which counts as one token; the base class stops after ``max_tokens`` of them. Or yield
        emissions with the records of their tokens; the last one has a ``stop_reason``, and in chats a ``delta`` may be
        a ``ToolCallDelta``. Ending without a stop reason means the end of the turn. The generator is closed as soon
        as its reader stops: cancel work in a ``finally``.

        A plain ``def`` that returns such a generator can refuse a request before anything is awaited.
        """
        self._refuse("chat" if request.is_chat else "completion", request.model)

    async def generate_batch(self, requests: Sequence[Request]) -> list[AsyncIterator[str | Emission]]:
        """Return the answers to several requests under the same parameters; an error raised here refuses them all."""
        return [self.generate(request) for request in requests]

    async def embed(self, model: str, contents: list[InterleavedTextMedia]) -> Embeddings:
        """Return one vector for each content, in order, and the number of tokens read."""
        if type(self).embeddings is InferenceProvider.embeddings:
            self._refuse("embeddings", model)
        warnings.warn("a provider should define embed instead of embeddings", DeprecationWarning, stacklevel=2)
        return Embeddings((await self.embeddings(model, contents)).embeddings)

    async def token_spans(self, model: str, text: str) -> TokenSpans:
        """Return where the tokens of a text are, as a sentence model reads it."""
        self._refuse("token_spans", model)

    async def score(
        self, model: str, prompt: PromptInput, continuations: list[str], alternatives: int = 0
    ) -> list[Score]:
        """Return how probable each continuation is after the prompt, a text or a conversation."""
        self._refuse("score", model)

    async def render(
        self, model: str, prompt: PromptInput, tools: Tools = None, tool_prompt_format: ToolPromptFormat | None = None
    ) -> Prompt:
        """Return the prompt that the model gets for a text or a conversation, without generating."""
        self._refuse("render", model)

    # ------------------------------------------------------------------------------------------- models and lifecycle

    def definition(self, name: str) -> ModelDef:
        """Return the definition of the model that an entry of ``config.models`` names."""
        return ModelDef(identifier=name, llama_model=name)

    def serve(self, model: ModelDef) -> None:
        """Add a model to those that are served."""
        self._served[model.identifier] = model

    def get_model(self, identifier: str) -> ModelDef:
        """Return the definition of a served model; raise `ModelNotFoundError` for any other name."""
        try:
            return self._served[identifier]
        except KeyError:
            raise ModelNotFoundError(identifier, list(self._served)) from None

    async def list_models(self) -> list[ModelDef]:
        """Return the models that are served: those of the config and those that were registered."""
        return list(self._served.values())

    async def register_model(self, model: ModelDef) -> None:
        """Prepare to serve one more model; raise if it cannot be served."""
        if not self.capabilities.register:
            raise_unsupported(self, "register", model.identifier)
        for key in ("precision", "device"):
            if (given := model.metadata.get(key)) is not None:
                allowed = f"left out: {self.provider_type} does not load the weights itself"
                raise UnsupportedFieldError(f"metadata.{key}", given, allowed)
        self.serve(model)

    async def unregister_model(self, identifier: str) -> None:
        """Stop serving a model and free its memory; its running requests may fail.

        Raises:
            ModelNotFoundError: the model is not served.
        """
        self.get_model(identifier)
        self._served.pop(identifier, None)

    def card(self, identifier: str) -> ModelCard:
        """Return the card of a served model, without loading it."""
        model = self.get_model(identifier)
        return ModelCard(identifier, self.provider_id, self.provider_type, source=model.llama_model)

    def kind(self, identifier: str) -> str:
        """Return ``causal`` for a served model that generates, ``embedding`` for one that embeds; called often."""
        return self.card(identifier).kind

    def capabilities_of(self, identifier: str) -> Capabilities:
        """Return the capabilities of a served model, as far as they are known before it is loaded."""
        self.get_model(identifier)
        return self.capabilities

    def devices(self) -> list[str]:
        """Return the devices that a model can be registered for here, the preferred one first; empty for none."""
        return []

    def points(self, identifier: str) -> ModelPoints:
        """Return the points at which a model's numbers can be read and changed; load it if necessary. Blocks."""
        self.get_model(identifier)
        raise UnsupportedFieldError(
            "model", identifier, f"one that is computed in this process: {display_name(self)} does not look into models"
        )

    def fit_lens(
        self,
        identifier: str,
        texts: Sequence[str],
        seconds: float | None = None,
        progress: Callable[[LensFit], None] | None = None,
    ) -> LensFit:
        """Fit the Jacobian lens of a model to texts, which its runs then use. Blocks."""
        self._refuse("edits", identifier)

    def load(self, identifier: str) -> None:
        """Load a model before its first request; blocks."""
        self.get_model(identifier)

    # ----------------------------------------------------------------------------------------- the protocol's methods

    def stream(self, request: Request) -> AsyncIterator[Emission]:
        """Return the emissions of a request, which may go beyond the protocol: see the last fields of `Request`."""
        self.get_model(request.model)
        if request.retrieval is not None:
            raise UnsupportedFieldError("retrieval", request.retrieval.bank_id, "absent: only a stack has memory banks")
        _refuse_shields(request)
        return Stream(emissions(request, self.generate(request)))

    async def answer_batch(self, model: str, requests: Sequence[Request]) -> list[CompletionMessage]:
        """Return the answers to several requests of one model under the same parameters, in their order."""
        self.get_model(model)
        for request in requests:
            _refuse_shields(request)
        answers = zip(requests, await self.generate_batch(requests), strict=True)
        responses = await gathered([whole_response(request, emissions(request, answer)) for request, answer in answers])
        return [response.completion_message for response in responses]

    def _refuse(self, ability: str, model: str) -> NoReturn:
        self.get_model(model)
        raise_unsupported(self, ability, model)


def _refuse_shields(request: Request) -> None:
    """Raise `UnsupportedFieldError` if a request has shields, which an answer of a provider alone would not pass."""
    if request.shields:
        allowed = "absent: a provider runs no shields; send the request to the stack's inference, one request at a time"
        raise UnsupportedFieldError("shields", list(request.shields), allowed)
