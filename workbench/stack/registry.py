"""Which models are served, and by whom."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import warnings
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from workbench.errors import ConfigError, InvalidRequestError, ModelNotFoundError, StateError, WorkbenchError
from workbench.protocol import ModelDef, ModelDefWithProvider
from workbench.stack.keyed_lock import KeyedLock, run_uninterrupted
from workbench.stack.naming import Key, Registration, Served, served
from workbench.stack.registrations import RegistrationStore, StoredRegistration

if TYPE_CHECKING:
    from workbench.providers.interface import InferenceProvider

_MAX_IDENTIFIER_LENGTH = 256
_LISTING_TIMEOUT_S = 10.0


class Registry:
    """Satisfies ``Models`` and ``ModelUnregistration``: every model of every provider, in the order of registration.

    A name that two providers serve means the one that registered it first; ``provider_id/identifier`` names either.
    Safe from any thread and event loop. What is registered at run time is kept in the store, where there is one.
    """

    def __init__(self, providers: dict[str, InferenceProvider], store: RegistrationStore | None = None) -> None:
        self._providers = providers
        self._store = store
        self._models: dict[Key, ModelDefWithProvider] = {}
        self._served = Served()
        self._listed: set[Key] = set()
        """What providers serve by themselves, which needs no keeping."""
        self._lock = threading.Lock()
        self._turns = KeyedLock()
        self._silent: dict[str, str] = {}
        """Providers that could not be asked what they serve, and why."""
        self._asked_at: dict[str, float] = {}
        """When providers were asked last, on the monotonic clock."""
        self._restored: set[str] = set()
        """Providers that were asked for what was registered with them before."""
        self._refused: set[Key] = set()
        """What is kept, and was refused when its provider was asked for it again."""

    # ----------------------------------------------------------------------------------------------- reading

    def find(self, identifier: str) -> Registration:
        """The registration of a plain name or of ``provider_id/identifier``.

        Raises:
            ModelNotFoundError: nobody serves it; the message lists what is served.
        """
        found = self._served.by_name.get(identifier)
        if found is None:
            raise self._not_found(identifier)
        return found

    def is_listed(self, identifier: str) -> bool:
        """Whether its provider serves a model by itself, as from its config; every start brings it back.

        Raises:
            ModelNotFoundError: nobody serves it.
        """
        return self._key_of(identifier) in self._listed

    def registrations(self) -> list[Registration]:
        """Every model with its provider, in the order of registration."""
        return list(self._served.registrations)

    def models(self) -> list[ModelDefWithProvider]:
        """What `list_models` gives, for callers without an event loop."""
        return [known.model for known in self._served.registrations]

    async def list_models(self) -> list[ModelDefWithProvider]:
        """Every model served; a server's list is asked for again, and so is a provider that did not answer before."""
        live = [name for name, provider in self._providers.items() if provider.live_listing or name in self._silent]
        await self._ask_providers(live)
        return self.models()

    async def get_model(self, identifier: str) -> ModelDefWithProvider | None:
        found = self._served.by_name.get(identifier)
        return found.model if found else None

    # ---------------------------------------------------------------------------------------------- changing

    async def open(self) -> None:
        """Ask every provider what it serves, and for what was registered before.

        What a provider refuses, or that it cannot be asked at all, is a Python warning: the others serve on.
        """
        await self._ask_providers(list(self._providers))

    async def register_model(self, model: ModelDefWithProvider) -> None:
        """Ask the provider to serve one more model, and keep the registration for the time after a restart.

        Raises:
            InvalidRequestError: the name cannot be one, there is no such provider, it serves another model under that
                name already, or the metadata is no JSON.
            StateError: the registration could not be kept; it was taken back.
        """
        provider = self._checked(model)
        key = _key(model)
        async with self._turns.of(self._turn(key)):
            taken = self._models.get(key)
            if taken == model and key in self._listed:
                return
            if taken is not None and taken.llama_model != model.llama_model:
                allowed = f"a name that {model.provider_id} does not already use for {taken.llama_model}"
                raise InvalidRequestError("identifier", model.identifier, allowed)
            await run_uninterrupted(self._register(provider, model.model_copy(deep=True), is_new=taken is None))

    async def unregister_model(self, identifier: str) -> None:
        """Serve a model no longer: its provider unloads it, and a restart does not bring it back.

        A model that the run config names comes back with the next start, as the config says.

        Raises:
            ModelNotFoundError: nobody serves it.
        """
        key = self._key_of(identifier)
        async with self._turns.of(self._turn(key)):
            if key not in self._models and key not in self._refused:
                raise self._not_found(identifier)
            await run_uninterrupted(self._unregister(key))

    def add(self, model: ModelDef, provider_id: str) -> None:
        """Note a model that its provider serves by itself."""
        self._listed.add((provider_id, model.identifier))
        self._put(_with_provider(model, provider_id))

    # ---------------------------------------------------------------------------------------------- internal

    async def _register(self, provider: InferenceProvider, model: ModelDefWithProvider, *, is_new: bool) -> None:
        await provider.register_model(_without_provider(model))
        try:
            if self._store is not None:
                await asyncio.to_thread(self._store.put, _stored(model, provider.provider_type))
        except StateError:
            if is_new:
                await provider.unregister_model(model.identifier)
            raise
        self._put(model)

    async def _unregister(self, key: Key) -> None:
        provider_id, identifier = key
        if key in self._models:
            with suppress(ModelNotFoundError):  # a server may have forgotten it by itself
                await self._providers[provider_id].unregister_model(identifier)
            self._drop(key)
        if self._store is not None:
            await asyncio.to_thread(self._store.remove, provider_id, identifier)
        self._refused.discard(key)

    async def _ask_providers(self, provider_ids: list[str]) -> None:
        """Ask providers what they serve, all at once, and take it over in the order of the config.

        What they serve by themselves comes before what was registered with them, and so keeps its plain names.
        """
        began = time.monotonic()
        async with AsyncExitStack() as turns:
            for provider_id in provider_ids:
                await turns.enter_async_context(self._turns.of((provider_id, "")))
            # Whoever waited for its turn finds the answer that another one has just been given.
            asked = [provider_id for provider_id in provider_ids if self._asked_at.get(provider_id, 0.0) < began]
            answers = await asyncio.gather(*map(self._answer_of, asked))
            for provider_id, models in zip(asked, answers, strict=True):
                if models is not None:
                    self._take_over(provider_id, models)
        if new := [name for name in provider_ids if name not in self._silent and name not in self._restored]:
            self._restored.update(new)
            await self._restore(new)

    async def _answer_of(self, provider_id: str) -> list[ModelDef] | None:
        """What a provider lists; None where it cannot be asked, which is a warning the first time."""
        self._asked_at[provider_id] = time.monotonic()
        try:
            async with asyncio.timeout(_LISTING_TIMEOUT_S):
                models = await self._providers[provider_id].list_models()
        except ConfigError:
            raise
        except (WorkbenchError, TimeoutError) as error:
            why = str(error) or f"no answer within {_LISTING_TIMEOUT_S:g} s"
            if provider_id not in self._silent:
                _warn(f"provider {provider_id!r} cannot list its models: {why}")
            self._silent[provider_id] = why
            return None
        self._silent.pop(provider_id, None)
        return models

    def _take_over(self, provider_id: str, models: list[ModelDef]) -> None:
        """Serve what a provider lists now, and no longer what it listed before; what was registered stays."""
        now = {(provider_id, model.identifier): model for model in models}
        for key in [key for key in self._listed if key[0] == provider_id and key not in now]:
            self._drop(key)
        for key, model in now.items():
            if key not in self._models or key in self._listed:
                self.add(model, provider_id)

    async def _restore(self, provider_ids: list[str]) -> None:
        """Ask providers for the models that were registered with them before, in the order of that time."""
        try:
            rows = await asyncio.to_thread(self._store.rows) if self._store is not None else []
        except StateError as error:
            _warn(f"registered models could not be restored: {error}")
            return
        for row in rows:
            if row.provider_id in provider_ids and self._providers[row.provider_id].provider_type == row.provider_type:
                await self._restore_one(row)

    async def _restore_one(self, row: StoredRegistration) -> None:
        model = ModelDef(identifier=row.identifier, llama_model=row.llama_model, metadata=row.metadata)
        key = row.provider_id, row.identifier
        async with self._turns.of(self._turn(key)):
            try:
                if (listed := self._models.get(key)) and listed.llama_model != row.llama_model:
                    allowed = f"a name that {row.provider_id} does not already use for {listed.llama_model}"
                    raise InvalidRequestError("identifier", row.identifier, allowed)
                await self._providers[row.provider_id].register_model(model)
            except WorkbenchError as error:
                self._refused.add(key)
                _warn(
                    f"{row.identifier}, registered with provider {row.provider_id!r}, could not be restored: {error}. "
                    f"The next start tries again; `workbench models unregister {row.identifier}` removes it."
                )
            else:
                self._put(_with_provider(model, row.provider_id))

    def _turn(self, key: Key) -> Key:
        """Changes to one model wait for each other; where the list is a server's, also for its being asked for."""
        return (key[0], "") if self._providers[key[0]].live_listing else key

    def _checked(self, model: ModelDefWithProvider) -> InferenceProvider:
        """The provider that is meant, if all that can be seen before asking it is right."""
        if not isinstance(model, ModelDefWithProvider):
            raise InvalidRequestError("model", model, "a ModelDefWithProvider")
        name = model.identifier
        if not (name and name == name.strip() and name.isprintable() and len(name) <= _MAX_IDENTIFIER_LENGTH):
            allowed = f"a name of 1 to {_MAX_IDENTIFIER_LENGTH} printable characters, without spaces at its ends"
            raise InvalidRequestError("identifier", name, allowed)
        provider = self._providers.get(model.provider_id)
        if provider is None:
            allowed = f"one of the configured providers: {', '.join(self._providers)}"
            raise InvalidRequestError("provider_id", model.provider_id, allowed)
        try:
            json.dumps(model.metadata, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequestError("metadata", model.metadata, f"a mapping of JSON values ({error})") from None
        return provider

    def _key_of(self, identifier: str) -> Key:
        if not isinstance(identifier, str):
            raise InvalidRequestError("identifier", identifier, "the name of a served model")
        found = self._served.by_name.get(identifier)
        if found is not None:
            return _key(found.model)
        for key in list(self._refused):
            if identifier in (key[1], "/".join(key)):
                return key
        raise self._not_found(identifier)

    def _not_found(self, identifier: str) -> ModelNotFoundError:
        return ModelNotFoundError(identifier, [known.name for known in self._served.registrations], self._silent)

    def _put(self, model: ModelDefWithProvider) -> None:
        with self._lock:
            self._refused.discard(_key(model))
            self._models[_key(model)] = model
            self._served = served(self._models, self._providers)

    def _drop(self, key: Key) -> None:
        with self._lock:
            self._models.pop(key, None)
            self._listed.discard(key)
            self._served = served(self._models, self._providers)


def _key(model: ModelDefWithProvider) -> Key:
    return model.provider_id, model.identifier


def _without_provider(model: ModelDefWithProvider) -> ModelDef:
    return ModelDef(identifier=model.identifier, llama_model=model.llama_model, metadata=model.metadata)


def _with_provider(model: ModelDef, provider_id: str) -> ModelDefWithProvider:
    return ModelDefWithProvider(
        identifier=model.identifier, llama_model=model.llama_model, metadata=model.metadata, provider_id=provider_id
    )


def _stored(model: ModelDefWithProvider, provider_type: str) -> StoredRegistration:
    return StoredRegistration(model.provider_id, provider_type, model.identifier, model.llama_model, model.metadata)


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=2)
