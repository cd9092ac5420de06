"""Base class of all memory providers, and the abilities that they declare."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.protocol import MemoryBankType
from workbench.providers.capabilities import display_name
from workbench.providers.configured import ConfiguredProvider

if TYPE_CHECKING:
    from workbench.protocol import (
        InterleavedTextMedia,
        MemoryBankDef,
        MemoryBankDocument,
        MemoryBankStore,
        Provider,
        QueryDocumentsResponse,
    )
    from workbench.providers.model_access import ModelAccess


_MAX_TTL_S = 100 * 365 * 24 * 3600
InsertProgress: TypeAlias = Callable[[int, int], None]
"""Callback for the progress of an insertion: the number of chunks that are ready, and of all chunks of the call.

It is called on any thread, and must be quick.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCapabilities:
    """Banks and parameters that a memory provider supports; any others are refused by the name of the field."""

    bank_types: frozenset[MemoryBankType] = frozenset({MemoryBankType.vector})
    ttl: bool = False
    """Whether documents can expire."""
    modes: frozenset[str] = frozenset({"vector"})
    """Modes of searching a vector bank, among ``vector``, ``keyword`` and ``hybrid``."""
    filter: bool = False
    """Whether queries can be restricted by ``params.filter``."""


class MemoryProvider(ConfiguredProvider):
    """Configured provider, which stores the banks that it lists under their plain names. Satisfies ``Memory``.

    Requests come from any event loop, several at a time; none may block it.

    Args:
        models: served models that it may embed with.

    Raises:
        ConfigError: the config is wrong; the message names the provider and the key.
    """

    capabilities: MemoryCapabilities = MemoryCapabilities()

    def __init__(self, provider: Provider, models: ModelAccess) -> None:
        super().__init__(provider)
        self.models = models
        self.memory_bank_store: MemoryBankStore = self
        self.clock: Callable[[], float] = time.time
        """Clock that documents expire by, in seconds since 1970."""

    # --------------------------------------------------------------------------------------- implemented by providers

    def get_memory_bank(self, bank_id: str) -> MemoryBankDef | None:
        """Return the bank of that name, or None."""
        raise NotImplementedError

    async def list_memory_banks(self) -> list[MemoryBankDef]:
        """Return the banks that are stored."""
        raise NotImplementedError

    async def register_memory_bank(self, memory_bank: MemoryBankDef) -> None:
        """Store one more bank, empty unless it is stored already; raise `InvalidRequestError` if it cannot be."""
        raise NotImplementedError

    async def unregister_memory_bank(self, identifier: str) -> None:
        """Delete a bank with its documents; raise `MemoryBankNotFoundError` if it is not stored."""
        raise NotImplementedError

    async def insert_documents(
        self,
        bank_id: str,
        documents: list[MemoryBankDocument],
        ttl_seconds: int | None = None,
        *,
        progress: InsertProgress | None = None,
    ) -> None:
        """Insert documents, all or none; one of the same id is replaced.

        Args:
            progress: callback for how far it is; not part of the protocol.
        """
        raise NotImplementedError

    async def query_documents(
        self, bank_id: str, query: InterleavedTextMedia, params: dict[str, Any] | None = None
    ) -> QueryDocumentsResponse:
        """Return the chunks that match the query best, the best first."""
        raise NotImplementedError

    async def list_documents(self, bank_id: str) -> list[str]:
        """Return the ids of the documents in a bank, in order of insertion; not part of the protocol."""
        raise NotImplementedError

    async def delete_documents(self, bank_id: str, document_ids: list[str]) -> None:
        """Delete documents from a bank, all or none; not part of the protocol."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------- shared checks

    def check_type(self, memory_bank: MemoryBankDef) -> None:
        """Raise `UnsupportedFieldError` for a type of bank that this provider does not store."""
        if memory_bank.type not in self.capabilities.bank_types:
            types = " or ".join(sorted(self.capabilities.bank_types))
            allowed = f"{types}: {display_name(self)} stores no others"
            raise UnsupportedFieldError("memory_bank.type", memory_bank.type, allowed)


def checked_ttl(ttl_seconds: object) -> int | None:
    """Return a time to live; raise `InvalidRequestError` unless it is None or from one second to a hundred years."""
    if ttl_seconds is None:
        return None
    if not isinstance(ttl_seconds, int) or isinstance(ttl_seconds, bool) or not 1 <= ttl_seconds <= _MAX_TTL_S:
        allowed = f"a whole number of seconds from 1 to {_MAX_TTL_S:,}, or absent"
        raise InvalidRequestError("ttl_seconds", ttl_seconds, allowed)
    return ttl_seconds
