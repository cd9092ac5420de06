"""Base class of the memory providers that embed here: it checks requests and lets a store work in threads."""

from __future__ import annotations

import asyncio
import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from workbench.errors import (
    ClosedError,
    InvalidRequestError,
    MemoryBankNotFoundError,
    UnsupportedFieldError,
    WorkbenchError,
)
from workbench.protocol import HealthInfo, VectorMemoryBankDef
from workbench.providers.capabilities import display_name
from workbench.providers.memory.checking import check_chunks, check_ids, check_same
from workbench.providers.memory.documents import joined_text
from workbench.providers.memory.interface import MemoryProvider, checked_ttl
from workbench.providers.memory.params import VectorParams, checked_params
from workbench.providers.memory.preparing import NewDocument, Preparation, checked_documents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.protocol import InterleavedTextMedia, MemoryBankDef, MemoryBankDocument, QueryDocumentsResponse
    from workbench.providers.memory.config import DocumentConfig
    from workbench.providers.memory.interface import InsertProgress
    from workbench.providers.memory.params import QueryParams

Result = TypeVar("Result")


class StoredBank(Protocol):
    """A bank as its store knows it."""

    @property
    def definition(self) -> MemoryBankDef: ...


class Store(Protocol):
    """Banks and documents of one provider; every method blocks, and may be called from any thread."""

    def definitions(self) -> list[MemoryBankDef]:
        """Return the definitions of all banks."""
        ...

    def bank(self, identifier: str) -> StoredBank:
        """Return a bank; raise `MemoryBankNotFoundError` if it is not stored."""
        ...

    def create(self, definition: MemoryBankDef) -> None:
        """Store an empty bank, unless the same bank is stored already; raise `InvalidRequestError` for another one."""
        ...

    def drop(self, identifier: str) -> None:
        """Delete a bank with its documents."""
        ...

    def insert(
        self,
        stored: Any,
        documents: Sequence[NewDocument],
        *,
        now: float,
        expires_at: float | None,
        dimensions: int | None,
        cancelled: threading.Event,
    ) -> None:
        """Store documents in place of those of the same ids, all or none; nothing if ``cancelled`` is set meanwhile.

        Args:
            stored: the bank, as `bank` returned it.
        """
        ...

    def delete(self, identifier: str, document_ids: Sequence[str], now: float) -> None:
        """Delete documents, all or none; raise `InvalidRequestError` for an id that is not in the bank."""
        ...

    def document_ids(self, identifier: str, now: float) -> list[str]:
        """Return the ids of the documents that have not expired, in order of insertion."""
        ...


class StoringProvider(MemoryProvider):
    """A memory provider that cuts and embeds documents here, and keeps them in a `Store`; it implements `search`."""

    config: DocumentConfig
    live_listing = True  # others may change the store
    _store: Store
    _closed = False

    @abstractmethod
    async def search(self, bank: MemoryBankDef, params: QueryParams, text: str) -> QueryDocumentsResponse:
        """Return the chunks that match a text best, the best first."""

    # -------------------------------------------------------------------------------------------------------- banks

    def get_memory_bank(self, bank_id: str) -> MemoryBankDef | None:
        """Return the bank of that name, or None; asks the store, and blocks meanwhile."""
        try:
            return self._store.bank(bank_id).definition
        except MemoryBankNotFoundError:
            return None

    async def list_memory_banks(self) -> list[MemoryBankDef]:
        return await self._in_thread(self._store.definitions)

    async def register_memory_bank(self, memory_bank: MemoryBankDef) -> None:
        """Store an empty bank; a bank of the same definition is left as it is, and loads no model."""
        self.check_type(memory_bank)
        known = await self._in_thread(self.get_memory_bank, memory_bank.identifier)
        if known is not None:
            check_same(known, memory_bank)
            return
        if isinstance(memory_bank, VectorMemoryBankDef):
            await check_chunks(memory_bank, self.models)
        await self._in_thread(self._store.create, memory_bank)

    async def unregister_memory_bank(self, identifier: str) -> None:
        await self._in_thread(self._store.drop, identifier)

    async def health(self) -> HealthInfo:
        """Return ``OK`` if the store answers; a store that does not exist yet does."""
        try:
            await self._in_thread(self._store.definitions)
        except WorkbenchError as error:
            return HealthInfo(status=str(error))
        return HealthInfo(status="OK")

    # ---------------------------------------------------------------------------------------------------- documents

    async def insert_documents(
        self,
        bank_id: str,
        documents: list[MemoryBankDocument],
        ttl_seconds: int | None = None,
        *,
        progress: InsertProgress | None = None,
    ) -> None:
        """Insert documents, all or none; one of the same id is replaced, and an empty list does nothing.

        Cancelling leaves nothing, unless the documents were stored already.
        """
        bank = await self._in_thread(self._store.bank, bank_id)
        lifetime_s = checked_ttl(ttl_seconds)
        checked = await self._in_thread(checked_documents, documents, bank.definition)
        if not checked:
            return
        preparation = Preparation(bank.definition, self.models, self.config, progress)
        prepared = await preparation.prepare(checked)
        now, cancelled = self.clock(), threading.Event()
        try:
            await self._in_thread(
                self._store.insert,
                bank,
                prepared,
                now=now,
                expires_at=None if lifetime_s is None else now + lifetime_s,
                dimensions=preparation.dimensions,
                cancelled=cancelled,
            )
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def query_documents(
        self, bank_id: str, query: InterleavedTextMedia, params: dict[str, Any] | None = None
    ) -> QueryDocumentsResponse:
        bank = (await self._in_thread(self._store.bank, bank_id)).definition
        checked = self._checked_params(bank, params)
        text = joined_text(query, "query")
        if not text.strip():
            raise InvalidRequestError("query", text, "a text that is not blank")
        return await self.search(bank, checked, text)

    async def list_documents(self, bank_id: str) -> list[str]:
        return await self._in_thread(self._store.document_ids, bank_id, self.clock())

    async def delete_documents(self, bank_id: str, document_ids: list[str]) -> None:
        check_ids(document_ids)
        await self._in_thread(self._store.delete, bank_id, document_ids, self.clock())

    def close(self) -> None:
        self._closed = True

    async def _in_thread(self, function: Callable[..., Result], *args: Any, **options: Any) -> Result:
        if self._closed:
            raise ClosedError(f"provider {self.provider_id} was closed; open a new workbench")
        return await asyncio.to_thread(function, *args, **options)

    def _checked_params(self, bank: MemoryBankDef, params: dict[str, Any] | None) -> QueryParams:
        checked = checked_params(bank.type, params)
        if isinstance(checked, VectorParams) and checked.mode not in self.capabilities.modes:
            allowed = f"{' or '.join(sorted(self.capabilities.modes))}: {display_name(self)} searches in no other way"
            raise UnsupportedFieldError("params.mode", checked.mode, allowed)
        return checked
