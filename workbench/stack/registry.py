"""Which models are served, and by whom."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import ConfigError, InvalidRequestError, ModelNotFoundError
from workbench.protocol import ModelDef, ModelDefWithProvider

if TYPE_CHECKING:
    from workbench.providers.interface import InferenceProvider


@dataclass(frozen=True, slots=True)
class Registration:
    """A model and the provider instance that serves it."""

    model: ModelDefWithProvider
    provider: InferenceProvider
    name: str
    """The shortest name that means this registration: the plain one, where no earlier provider has it."""


class Registry:
    """Satisfies ``Models``: every model of every provider, in the order of registration.

    A name that two providers serve means the one that registered it first; ``provider_id/identifier`` names either.
    """

    def __init__(self, providers: dict[str, InferenceProvider]) -> None:
        self._providers = providers
        self._registrations: list[Registration] = []
        self._lock = threading.Lock()

    def add(self, model: ModelDef, provider_id: str) -> None:
        """Note a model that its provider serves already."""
        with_provider = ModelDefWithProvider(
            identifier=model.identifier, llama_model=model.llama_model, metadata=model.metadata, provider_id=provider_id
        )
        with self._lock:
            others = [known for known in self._registrations if not _same(known.model, with_provider)]
            taken = any(known.model.identifier == model.identifier for known in others)
            name = f"{provider_id}/{model.identifier}" if taken else model.identifier
            self._registrations = [*others, Registration(with_provider, self._providers[provider_id], name)]

    def find(self, identifier: str) -> Registration:
        """The registration of a plain name or of ``provider_id/identifier``.

        Raises:
            ModelNotFoundError: nobody serves it; the message lists what is served.
        """
        registrations = self._registrations
        for known in registrations:
            if known.model.identifier == identifier:
                return known
        for known in registrations:
            if f"{known.model.provider_id}/{known.model.identifier}" == identifier:
                return known
        raise ModelNotFoundError(identifier, [known.model.identifier for known in registrations])

    async def list_models(self) -> list[ModelDefWithProvider]:
        return self.models()

    def registrations(self) -> list[Registration]:
        """Every model with its provider, in the order of registration."""
        return list(self._registrations)

    def models(self) -> list[ModelDefWithProvider]:
        """What `list_models` gives, for callers without an event loop."""
        return [known.model for known in self._registrations]

    async def get_model(self, identifier: str) -> ModelDefWithProvider | None:
        try:
            return self.find(identifier).model
        except ModelNotFoundError:
            return None

    async def register_model(self, model: ModelDefWithProvider) -> None:
        """Ask the provider to serve one more model.

        Raises:
            InvalidRequestError: the name is blank, there is no such provider, or it serves another model under that
                name already.
        """
        if not model.identifier.strip():
            raise InvalidRequestError("identifier", model.identifier, "a name of at least one visible character")
        provider = self._providers.get(model.provider_id)
        if provider is None:
            allowed = f"one of the configured providers: {', '.join(self._providers)}"
            raise InvalidRequestError("provider_id", model.provider_id, allowed)
        taken = next((known.model for known in self._registrations if _same(known.model, model)), None)
        if taken is not None and taken.llama_model != model.llama_model:
            raise InvalidRequestError(
                "identifier", model.identifier, f"a name that {model.provider_id} does not use for {taken.llama_model}"
            )
        await provider.register_model(
            ModelDef(identifier=model.identifier, llama_model=model.llama_model, metadata=model.metadata)
        )
        if taken is None:
            self.add(model, model.provider_id)


def _same(a: ModelDefWithProvider, b: ModelDefWithProvider) -> bool:
    return (a.provider_id, a.identifier) == (b.provider_id, b.identifier)


def check_unique(provider_ids: list[str]) -> None:
    """Raise `ConfigError` where two provider instances have one id."""
    twice = sorted({provider_id for provider_id in provider_ids if provider_ids.count(provider_id) > 1})
    if twice:
        raise ConfigError(f"providers.inference: provider_id must be unique; used more than once: {', '.join(twice)}")
