"""The provider: checks requests, embeds, and lets its store work in threads."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.errors import (
    ClosedError,
    ConfigError,
    InvalidRequestError,
    MemoryBankNotFoundError,
    UnsupportedFieldError,
    WorkbenchError,
)
from workbench.protocol import HealthInfo, MemoryBankType, QueryDocumentsResponse, VectorMemoryBankDef
from workbench.providers.capabilities import display_name
from workbench.providers.memory.checking import check_chunks, check_ids, check_same, embedded_query
from workbench.providers.memory.documents import joined_text
from workbench.providers.memory.interface import MemoryCapabilities, MemoryProvider, checked_ttl
from workbench.providers.memory.params import VectorParams, checked_params
from workbench.providers.memory.preparing import Preparation, checked_documents
from workbench.providers.memory.qdrant.config import QdrantConfig

if TYPE_CHECKING:
    from workbench.protocol import ConfigModel, InterleavedTextMedia, MemoryBankDef, MemoryBankDocument, Provider
    from workbench.providers.memory.interface import InsertProgress
    from workbench.providers.memory.qdrant.store import StoredBank
    from workbench.providers.model_access import ModelAccess

Result = TypeVar("Result")


class QdrantProvider(MemoryProvider):
    """``remote::qdrant``: vector banks in a Qdrant server or its embedded store, which hold texts and vectors.

    Documents are cut and embedded here. Searches are exact.

    Raises:
        ConfigError: the client is not installed.
    """

    Config = QdrantConfig
    config: QdrantConfig
    capabilities = MemoryCapabilities(bank_types=frozenset({MemoryBankType.vector}), ttl=True, filter=True)
    live_listing = True  # others may change the store

    def __init__(self, provider: Provider, models: ModelAccess) -> None:
        super().__init__(provider, models)
        try:
            self.check_config(self.config, self.provider_type)
        except ConfigError as error:
            raise ConfigError(f"provider {self.provider_id!r}: config.{error}") from None
        if importlib.util.find_spec("qdrant_client") is None:
            install = "install it with: pip install 'inference-workbench[qdrant]'"
            raise ConfigError(
                f"provider {self.provider_id!r}: {self.provider_type} needs the package qdrant-client; {install}"
            )
        from workbench.providers.memory.qdrant.store import QdrantStore  # imports the client

        self._store = QdrantStore(self.config, self.provider_id)
        self._closed = False

    @classmethod
    def check_config(cls, config: ConfigModel, provider_type: str) -> None:  # noqa: ARG003
        """Raise `ConfigError` unless the config names either a server or a folder."""
        assert isinstance(config, QdrantConfig)
        if (config.url is None) == (config.path is None):
            raise ConfigError(f"url must be given, or else path; got {'neither' if config.url is None else 'both'}")

    # -------------------------------------------------------------------------------------------------------- banks

    def get_memory_bank(self, bank_id: str) -> MemoryBankDef | None:
        """Return the bank of that name, or None; asks the store, and blocks meanwhile."""
        try:
            return self._store.bank(bank_id).definition
        except MemoryBankNotFoundError:
            return None

    async def list_memory_banks(self) -> list[MemoryBankDef]:
        return [bank.definition for bank in await self._in_thread(self._store.banks)]

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
        """Return ``OK`` if the store answers."""
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
        checked = self._checked_params(bank, params)
        text = joined_text(query, "query")
        if not text.strip():
            raise InvalidRequestError("query", text, "a text that is not blank")
        assert isinstance(bank.definition, VectorMemoryBankDef)
        vector = await embedded_query(bank.definition, text, self.models, self.capabilities.modes)
        return await self._in_thread(self._store.search, bank_id, vector, checked, self.clock())

    async def list_documents(self, bank_id: str) -> list[str]:
        return await self._in_thread(self._store.document_ids, bank_id, self.clock())

    async def delete_documents(self, bank_id: str, document_ids: list[str]) -> None:
        check_ids(document_ids)
        await self._in_thread(self._store.delete, bank_id, document_ids, self.clock())

    def close(self) -> None:
        self._closed = True
        self._store.close()

    # ----------------------------------------------------------------------------------------------------- internal

    async def _in_thread(self, function: Callable[..., Result], *args: Any, **options: Any) -> Result:
        if self._closed:
            raise ClosedError(f"provider {self.provider_id} was closed; open a new workbench")
        return await asyncio.to_thread(function, *args, **options)

    def _checked_params(self, bank: StoredBank, params: dict[str, Any] | None) -> VectorParams:
        checked = checked_params(bank.definition.type, params)
        assert isinstance(checked, VectorParams)
        if checked.mode not in self.capabilities.modes:
            allowed = f"{' or '.join(sorted(self.capabilities.modes))}: {display_name(self)} searches in no other way"
            raise UnsupportedFieldError("params.mode", checked.mode, allowed)
        return checked
