"""The provider: checks requests, embeds, and lets its store and searches run in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from workbench.errors import ClosedError, InvalidRequestError, MemoryBankNotFoundError, WorkbenchError
from workbench.paths import state_dir, typed_path
from workbench.protocol import HealthInfo, MemoryBankType, QueryDocumentsResponse, VectorMemoryBankDef
from workbench.providers.memory.checking import check_chunks, check_ids, check_same, embedded_query
from workbench.providers.memory.documents import joined_text
from workbench.providers.memory.interface import MemoryCapabilities, MemoryProvider, checked_ttl
from workbench.providers.memory.params import VectorParams, checked_params
from workbench.providers.memory.preparing import Preparation, checked_documents
from workbench.providers.memory.sqlite.banks import BankStore
from workbench.providers.memory.sqlite.config import SqliteConfig
from workbench.providers.memory.sqlite.database import Database
from workbench.providers.memory.sqlite.searching import Search, run_search
from workbench.providers.memory.sqlite.vectors import Matrix, VectorCache

if TYPE_CHECKING:
    from workbench.protocol import InterleavedTextMedia, MemoryBankDef, MemoryBankDocument, Provider
    from workbench.providers.memory.interface import InsertProgress
    from workbench.providers.memory.params import QueryParams
    from workbench.providers.model_access import ModelAccess

Result = TypeVar("Result")


class SqliteProvider(MemoryProvider):
    """``inline::sqlite``: banks of all types in one file, which several processes may use at once.

    Vectors are searched exactly, unless there are very many of them. Blocking work runs in threads, and texts are
    embedded before the file is written.
    """

    Config = SqliteConfig
    config: SqliteConfig
    capabilities = MemoryCapabilities(
        bank_types=frozenset(MemoryBankType), ttl=True, modes=frozenset({"vector", "keyword", "hybrid"}), filter=True
    )
    live_listing = True  # other processes may change the file

    def __init__(self, provider: Provider, models: ModelAccess) -> None:
        super().__init__(provider, models)
        named = self.config.path
        path = typed_path(named, "path").absolute() if named else state_dir() / _file_name(self.provider_id)
        self._store = BankStore(Database(path), self.provider_id)
        self._cache = VectorCache(self.config.cache_mb * 2**20, self.config.index_above)
        self._closed = False

    # -------------------------------------------------------------------------------------------------------- banks

    def get_memory_bank(self, bank_id: str) -> MemoryBankDef | None:
        """Return the bank of that name, or None; reads the file."""
        try:
            return self._store.bank(bank_id).definition
        except MemoryBankNotFoundError:
            return None

    async def list_memory_banks(self) -> list[MemoryBankDef]:
        return await self._in_thread(self._store.banks)

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
        """Return ``OK`` if the file can be read or does not exist yet."""
        try:
            await self._in_thread(self._store.banks)
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
        bank = await self._in_thread(self._store.bank, bank_id)
        checked = checked_params(bank.definition.type, params)
        text = joined_text(query, "query")
        if not text.strip():
            raise InvalidRequestError("query", text, "a text that is not blank")
        vector = None
        if isinstance(bank.definition, VectorMemoryBankDef):
            assert isinstance(checked, VectorParams)
            if checked.mode != "keyword":
                vector = await embedded_query(bank.definition, text, self.models, self.capabilities.modes)
        return await self._in_thread(self._search, bank_id, checked, text, vector)

    async def list_documents(self, bank_id: str) -> list[str]:
        return await self._in_thread(self._store.document_ids, bank_id, self.clock())

    async def delete_documents(self, bank_id: str, document_ids: list[str]) -> None:
        check_ids(document_ids)
        await self._in_thread(self._store.delete, bank_id, document_ids, self.clock())

    def close(self) -> None:
        self._closed = True
        self._cache.clear()

    # ----------------------------------------------------------------------------------------------------- internal

    async def _in_thread(self, function: Callable[..., Result], *args: Any, **options: Any) -> Result:
        if self._closed:
            raise ClosedError(f"provider {self.provider_id} was closed; open a new workbench")
        return await asyncio.to_thread(function, *args, **options)

    def _search(self, bank_id: str, params: QueryParams, text: str, vector: Matrix | None) -> QueryDocumentsResponse:
        with self._store.database.reading() as connection:
            bank = self._store.find(connection, bank_id)
            return run_search(Search(connection, bank, params, self.clock()), self._cache, text, vector)


def _file_name(provider_id: str) -> str:
    return f"memory-{quote(provider_id, safe=' ')}.sqlite3"
