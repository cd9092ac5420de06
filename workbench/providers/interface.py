"""The base class of every provider of inference.

A provider declares its ``Config`` and its ``capabilities`` and writes one generator, `InferenceProvider.generate`; all
methods of the protocol are made from it here: streams, whole responses, chats, batches. ``docs/writing-a-provider.md``
shows it step by step.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NoReturn, TypeAlias

from pydantic import Field

from workbench.errors import ConfigError, ModelNotFoundError, UnsupportedFieldError
from workbench.protocol import (
    ConfigModel,
    HealthInfo,
    ModelDef,
    ToolPromptFormat,
)
from workbench.providers.capabilities import Capabilities, lacking
from workbench.providers.emissions import emissions
from workbench.providers.protocol_methods import ProtocolMethods, gathered, whole_response
from workbench.providers.requests import Request
from workbench.providers.streams import Stream
from workbench.records import Embeddings, Emission, ModelCard

if TYPE_CHECKING:
    from workbench.protocol import (
        CompletionMessage,
        InterleavedTextMedia,
        Message,
        ModelStore,
        Provider,
        ToolDefinition,
    )
    from workbench.records import Prompt, Score

ModelName: TypeAlias = Annotated[str, Field(min_length=1)]
"""In a config; the empty one would be the current folder."""


class ProviderConfig(ConfigModel):
    """What a run config may say under ``config``; a provider with more to say derives from it."""

    models: list[ModelName] = Field(default_factory=list)
    """Models served from the start."""


class InferenceProvider(ProtocolMethods):
    """One configured instance; it answers requests for the models that it lists, under their plain names.

    Satisfies ``Inference`` and ``BatchInference``. Requests come from any event loop, several at a time. What the class
    does not declare in ``capabilities`` the router has refused before.

    Raises:
        ConfigError: the config is wrong; the message names the provider and the key.
    """

    Config: ClassVar[type[ConfigModel]] = ProviderConfig
    """What the provider's part of a run config is read into, as ``self.config``."""
    capabilities: Capabilities = Capabilities()
    """Of the class, or assigned in ``__init__`` where they depend on the config."""
    live_listing: ClassVar[bool] = False
    """Whether what is served changes without us, as on a server: `list_models` is then asked anew for every listing."""

    def __init__(self, provider: Provider) -> None:
        self.provider_id = provider.provider_id
        self.provider_type = provider.provider_type
        self.model_store: ModelStore = self
        try:
            self.config: Any = self.Config.model_validate(provider.config)
        except ConfigError as error:
            raise ConfigError(f"provider {provider.provider_id!r}: {error}") from None
        self._served: dict[str, ModelDef] = {}
        for name in getattr(self.config, "models", ()):
            model = self.definition(name)
            if (name := model.identifier) in self._served:
                raise ConfigError(f"provider {self.provider_id!r}: config.models names {name!r} more than once")
            self.serve(model)

    # ---------------------------------------------------------------------------------------- what a provider does

    def generate(self, request: Request) -> AsyncIterator[str | Emission]:
        """The answer to one request, piece by piece; the one method that a provider has to write.

        It is best an ``async def`` with ``yield``. Yield plain texts, each of which counts as a token and
        ``max_tokens`` of which are taken; or an `Emission` each, with what is known of its tokens, the last of which
        has a ``stop_reason``; in chats its ``delta`` may be a ``ToolCallDelta``. Ending without a stop reason is the
        end of the turn. A reader that leaves closes the generator where it stands: give work up in its ``finally``.

        A plain ``def`` that returns such a generator can refuse a request before anything of it is awaited.
        """
        self._lack("chat" if request.is_chat else "completion", request.model)

    async def generate_batch(self, requests: Sequence[Request]) -> list[AsyncIterator[str | Emission]]:
        """The answers to several requests under the same parameters; raise here what refuses them all."""
        return [self.generate(request) for request in requests]

    async def embed(self, model: str, contents: list[InterleavedTextMedia]) -> Embeddings:
        """One vector for each content, in their order, and the number of tokens read."""
        if type(self).embeddings is InferenceProvider.embeddings:
            self._lack("embeddings", model)
        warnings.warn("a provider should define embed instead of embeddings", DeprecationWarning, stacklevel=2)
        return Embeddings((await self.embeddings(model, contents)).embeddings)

    async def score(
        self, model: str, prompt: str | list[Message], continuations: list[str], alternatives: int = 0
    ) -> list[Score]:
        """How probable each continuation is after the prompt, a text or a conversation."""
        self._lack("score", model)

    async def render(
        self,
        model: str,
        prompt: str | list[Message],
        tools: list[ToolDefinition] | None = None,
        tool_prompt_format: ToolPromptFormat | None = None,
    ) -> Prompt:
        """What the model would be given for a text or a conversation, without generating."""
        self._lack("render", model)

    # ----------------------------------------------------------------------------------------- its models, its life

    def definition(self, name: str) -> ModelDef:
        """The model that an entry of ``config.models`` means."""
        return ModelDef(identifier=name, llama_model=name)

    def serve(self, model: ModelDef) -> None:
        """Take a model into the table of those that are served."""
        self._served[model.identifier] = model

    def get_model(self, identifier: str) -> ModelDef:
        """Raises `ModelNotFoundError` for a name that is not served."""
        try:
            return self._served[identifier]
        except KeyError:
            raise ModelNotFoundError(identifier, list(self._served)) from None

    async def list_models(self) -> list[ModelDef]:
        """Models that are served now: those of the config, and those that were registered."""
        return list(self._served.values())

    async def register_model(self, model: ModelDef) -> None:
        """Prepare to serve one more model, or raise what is wrong with it."""
        if not self.capabilities.register:
            lacking(self, "register", model.identifier)
        if (precision := model.metadata.get("precision")) is not None:
            allowed = f"left out: {self.provider_type} does not load the weights itself"
            raise UnsupportedFieldError("metadata.precision", precision, allowed)
        self.serve(model)

    async def unregister_model(self, identifier: str) -> None:
        """Serve the model no longer and give back what it held; its requests on their way may fail.

        Raises:
            ModelNotFoundError: it was not served.
        """
        self.get_model(identifier)
        self._served.pop(identifier, None)

    def card(self, identifier: str) -> ModelCard:
        """The facts of one served model, without loading it."""
        model = self.get_model(identifier)
        return ModelCard(identifier, self.provider_id, self.provider_type, source=model.llama_model)

    def kind(self, identifier: str) -> str:
        """``causal`` for a served model that generates, ``embedding`` for one that embeds; asked for often."""
        return self.card(identifier).kind

    def capabilities_of(self, identifier: str) -> Capabilities:
        """What requests may ask of one served model, as far as that is known before it is loaded."""
        self.get_model(identifier)
        return self.capabilities

    def load(self, identifier: str) -> None:
        """Make the model ready for its first request; blocks."""
        self.get_model(identifier)

    async def health(self) -> HealthInfo:
        """``OK``, or in a sentence why requests cannot be answered now; asking loads nothing."""
        return HealthInfo(status="OK")

    def close(self) -> None:
        """End threads and give memory back. What is in flight fails with `ClosedError`. Closing twice is harmless."""

    # ------------------------------------------------------------------------------------- the protocol, made of it

    def stream(self, request: Request) -> AsyncIterator[Emission]:
        """Return the emissions of a request, which may go beyond the protocol: see the last fields of `Request`."""
        self.get_model(request.model)
        return Stream(emissions(request, self.generate(request)))

    async def answer_batch(self, model: str, requests: Sequence[Request]) -> list[CompletionMessage]:
        """Return the answers to several requests of one model under the same parameters, in their order."""
        self.get_model(model)
        answers = zip(requests, await self.generate_batch(requests), strict=True)
        responses = await gathered([whole_response(request, emissions(request, pieces)) for request, pieces in answers])
        return [response.completion_message for response in responses]

    def _lack(self, ability: str, model: str) -> NoReturn:
        self.get_model(model)
        lacking(self, ability, model)
