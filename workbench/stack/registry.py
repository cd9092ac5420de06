"""Registry of the resources of one kind: which are served, and by which provider."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import warnings
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Generic

from workbench.errors import ConfigError, InvalidRequestError, ResourceNotFoundError, StateError, WorkbenchError
from workbench.stack.keyed_lock import KeyedLock, run_uninterrupted
from workbench.stack.naming import Key, Registration, Served, key_of, served
from workbench.stack.registrations import RegistrationStore, StoredRegistration
from workbench.stack.resources import D, P, ResourceKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

_MAX_IDENTIFIER_LENGTH = 256
_LISTING_TIMEOUT_S = 10.0


class Registry(Generic[D, P]):
    """Every resource of one kind, of all providers, in the order of registration.

    A name that two providers serve means the one that registered it first; ``provider_id/identifier`` names either.
    Safe from any thread and event loop. Run-time registrations are saved in the store, if there is one.
    """

    def __init__(
        self, kind: ResourceKind[D, P], providers: dict[str, P], store: RegistrationStore | None = None
    ) -> None:
        self._kind = kind
        self._providers = providers
        self._store = store
        self._definitions: dict[Key, D] = {}
        self._served: Served[D, P] = Served()
        self._listed: set[Key] = set()
        """Resources that providers serve by themselves, which are not stored."""
        self._lock = threading.Lock()
        self._key_locks = KeyedLock()
        self._unreachable: dict[str, str] = {}
        """Providers that failed to list their resources, with the reason."""
        self._queried_at: dict[str, float] = {}
        """Time of the last listing of each provider, on the monotonic clock."""
        self._restored: set[str] = set()
        """Providers whose stored registrations were restored."""
        self._refused: set[Key] = set()
        """Stored registrations that their provider refused to restore."""

    # ----------------------------------------------------------------------------------------------- reading

    def find(self, identifier: str) -> Registration[D, P]:
        """Return the registration of a plain name or of ``provider_id/identifier``.

        Raises:
            ResourceNotFoundError: no provider serves it; the message lists what is served.
        """
        found = self._served.by_name.get(identifier)
        if found is None:
            raise self._not_found(identifier)
        return found

    def is_listed(self, identifier: str) -> bool:
        """Return whether the provider serves the resource by itself, as from its config; every start restores it.

        Raises:
            ResourceNotFoundError: no provider serves it.
        """
        return self._key_of(identifier) in self._listed

    def registrations(self) -> list[Registration[D, P]]:
        """Return every resource with its provider, in the order of registration."""
        return list(self._served.registrations)

    def definitions(self) -> list[D]:
        """Return every definition, in the order of registration."""
        return [known.definition for known in self._served.registrations]

    def get(self, identifier: str) -> D | None:
        found = self._served.by_name.get(identifier)
        return found.definition if found else None

    # ---------------------------------------------------------------------------------------------- changing

    async def open(self) -> None:
        """List what every provider serves, and restore what was registered before.

        A refused registration, or a provider that cannot be listed, is a Python warning: the others are served.
        """
        await self._refresh(list(self._providers))

    async def refresh(self) -> None:
        """List again the providers whose resources change on a server, and those that could not be listed."""
        providers = self._providers.items()
        await self._refresh([name for name, one in providers if one.live_listing or name in self._unreachable])

    async def register(self, definition: D) -> None:
        """Let a provider serve one more resource, and store the registration for the time after a restart.

        Raises:
            InvalidRequestError: the identifier is not allowed or in use for another source, there is no such provider,
                or a field is not JSON.
            StateError: the registration could not be stored; it was undone, unless that would delete data.
        """
        provider = self._checked(definition)
        key = key_of(definition)
        async with self._key_locks.of(self._lock_key(key)):
            known = self._definitions.get(key)
            if known == definition and key in self._listed:
                return
            self._check_source(definition)
            await run_uninterrupted(self._register(provider, definition.model_copy(deep=True), is_new=known is None))

    async def unregister(self, identifier: str) -> None:
        """Stop serving a resource: its provider drops it, and a restart does not restore it.

        A resource that the run config names is served again after the next start.

        Raises:
            ResourceNotFoundError: no provider serves it.
        """
        key = self._key_of(identifier)
        async with self._key_locks.of(self._lock_key(key)):
            if key not in self._definitions and key not in self._refused:
                raise self._not_found(identifier)
            await run_uninterrupted(self._unregister(key))

    def add(self, definition: BaseModel, provider_id: str) -> None:
        """Add a resource that its provider serves by itself."""
        added = self._kind.parse({**dict(definition), "provider_id": provider_id})
        self._listed.add(key_of(added))
        self._put(added)

    # ---------------------------------------------------------------------------------------------- internal

    async def _register(self, provider: P, definition: D, *, is_new: bool) -> None:
        await self._kind.register(provider, definition)
        try:
            if self._store is not None:
                await asyncio.to_thread(self._store.put, self._stored(definition, provider.provider_type))
        except StateError:
            if is_new and not self._kind.unregistering_deletes:
                await self._kind.unregister(provider, definition.identifier)
            raise
        self._put(definition)

    async def _unregister(self, key: Key) -> None:
        provider_id, identifier = key
        if key in self._definitions:
            with suppress(self._kind.not_found):  # a server may have dropped it by itself
                await self._kind.unregister(self._providers[provider_id], identifier)
            self._drop(key)
        if self._store is not None:
            await asyncio.to_thread(self._store.remove, self._kind.name, provider_id, identifier)
        self._refused.discard(key)

    async def _refresh(self, provider_ids: list[str]) -> None:
        """List providers, all at once, and register what they serve in the order of the config.

        What providers serve by themselves precedes what was registered with them, and so keeps its plain names.
        """
        began = time.monotonic()
        async with AsyncExitStack() as locks:
            for provider_id in provider_ids:
                await locks.enter_async_context(self._key_locks.of((provider_id, "")))
            # A caller that waited for the lock uses the listing that was made meanwhile.
            queried = [provider_id for provider_id in provider_ids if self._queried_at.get(provider_id, 0.0) < began]
            listings = await asyncio.gather(*map(self._listing_of, queried))
            for provider_id, listing in zip(queried, listings, strict=True):
                if listing is not None:
                    self._replace_listed(provider_id, listing)
        if new := [name for name in provider_ids if name not in self._unreachable and name not in self._restored]:
            self._restored.update(new)
            await self._restore(new)

    async def _listing_of(self, provider_id: str) -> Sequence[BaseModel] | None:
        """Return what a provider lists; None if that fails, with a warning the first time."""
        self._queried_at[provider_id] = time.monotonic()
        try:
            async with asyncio.timeout(_LISTING_TIMEOUT_S):
                listing = await self._kind.list(self._providers[provider_id])
        except ConfigError:
            raise
        except (WorkbenchError, TimeoutError) as error:
            why = str(error) or f"no answer within {_LISTING_TIMEOUT_S:g} s"
            if provider_id not in self._unreachable:
                _warn(f"provider {provider_id!r} cannot list its {self._kind.label}s: {why}")
            self._unreachable[provider_id] = why
            return None
        self._unreachable.pop(provider_id, None)
        return listing

    def _replace_listed(self, provider_id: str, listing: Sequence[Any]) -> None:
        """Serve what a provider lists, and no longer what it listed before; registered resources stay."""
        current = {(provider_id, definition.identifier): definition for definition in listing}
        for key in [key for key in self._listed if key[0] == provider_id and key not in current]:
            self._drop(key)
        for key, definition in current.items():
            if key not in self._definitions or key in self._listed:
                self.add(definition, provider_id)

    async def _restore(self, provider_ids: list[str]) -> None:
        """Register the stored resources with these providers again, in their original order."""
        try:
            rows = await asyncio.to_thread(self._store.rows, self._kind.name) if self._store is not None else []
        except StateError as error:
            _warn(f"registered {self._kind.label}s could not be restored: {error}")
            return
        for row in rows:
            if row.provider_id in provider_ids and self._providers[row.provider_id].provider_type == row.provider_type:
                await self._restore_one(row)

    async def _restore_one(self, row: StoredRegistration) -> None:
        key = row.provider_id, row.identifier
        async with self._key_locks.of(self._lock_key(key)):
            try:
                definition = self._kind.parse(
                    {**row.definition, "identifier": row.identifier, "provider_id": row.provider_id}
                )
                self._check_source(definition)
                await self._kind.register(self._providers[row.provider_id], definition)
            except WorkbenchError as error:
                self._refused.add(key)
                _warn(
                    f"{row.identifier}, registered with provider {row.provider_id!r}, could not be restored: {error}. "
                    f"The next start tries again; `workbench {self._kind.command} unregister {row.identifier}` "
                    "removes it."
                )
            else:
                self._put(definition)

    def _lock_key(self, key: Key) -> Key:
        """Return the key that serializes changes to a resource: its provider's, if the list is a server's."""
        return (key[0], "") if self._providers[key[0]].live_listing else key

    def _checked(self, definition: D) -> P:
        """Return the provider of a definition; raise `InvalidRequestError` for what can be refused without it."""
        if not isinstance(definition, self._kind.definitions):
            types = " or ".join(type_.__name__ for type_ in self._kind.definitions)
            raise InvalidRequestError(self._kind.name, definition, f"a {types}")
        name = definition.identifier
        if not (name and name == name.strip() and name.isprintable() and len(name) <= _MAX_IDENTIFIER_LENGTH):
            allowed = f"a name of 1 to {_MAX_IDENTIFIER_LENGTH} printable characters, without spaces at its ends"
            raise InvalidRequestError("identifier", name, allowed)
        provider = self._providers.get(definition.provider_id)
        if provider is None:
            allowed = f"one of the configured {self._kind.api} providers: {', '.join(self._providers) or 'none'}"
            raise InvalidRequestError("provider_id", definition.provider_id, allowed)
        for field, value in definition:
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                raise InvalidRequestError(field, value, f"a mapping of JSON values ({error})") from None
        return provider

    def _check_source(self, definition: D) -> None:
        """Raise `InvalidRequestError` if the identifier is in use for another source."""
        known = self._definitions.get(key_of(definition))
        if known is not None and (source := self._kind.source(known)) != self._kind.source(definition):
            allowed = f"a name that {definition.provider_id} does not already use for {source}"
            raise InvalidRequestError("identifier", definition.identifier, allowed)

    def _key_of(self, identifier: str) -> Key:
        if not isinstance(identifier, str):
            raise InvalidRequestError("identifier", identifier, f"the name of a served {self._kind.label}")
        found = self._served.by_name.get(identifier)
        if found is not None:
            return key_of(found.definition)
        for key in list(self._refused):
            if identifier in (key[1], "/".join(key)):
                return key
        raise self._not_found(identifier)

    def _not_found(self, identifier: str) -> ResourceNotFoundError:
        names = [known.name for known in self._served.registrations]
        return self._kind.not_found(identifier, names, self._unreachable)

    def _stored(self, definition: D, provider_type: str) -> StoredRegistration:
        fields = {name: value for name, value in definition if name not in ("identifier", "provider_id")}
        return StoredRegistration(self._kind.name, definition.provider_id, provider_type, definition.identifier, fields)

    def _put(self, definition: D) -> None:
        key = key_of(definition)
        with self._lock:
            self._refused.discard(key)
            self._definitions[key] = definition
            self._served = served(self._definitions, self._providers)

    def _drop(self, key: Key) -> None:
        with self._lock:
            self._definitions.pop(key, None)
            self._listed.discard(key)
            self._served = served(self._definitions, self._providers)


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=2)
