"""The provider: a `StoringProvider` over a file, which searches vectors and words."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from workbench.paths import state_dir, typed_path
from workbench.protocol import MemoryBankType, QueryDocumentsResponse, VectorMemoryBankDef
from workbench.providers.memory.checking import embedded_query
from workbench.providers.memory.interface import MemoryCapabilities
from workbench.providers.memory.params import VectorParams
from workbench.providers.memory.sqlite.banks import BankStore
from workbench.providers.memory.sqlite.config import SqliteConfig
from workbench.providers.memory.sqlite.database import Database
from workbench.providers.memory.sqlite.searching import Search, run_search
from workbench.providers.memory.sqlite.vectors import Matrix, VectorCache
from workbench.providers.memory.storing import StoringProvider

if TYPE_CHECKING:
    from workbench.protocol import MemoryBankDef, Provider
    from workbench.providers.memory.params import QueryParams
    from workbench.providers.model_access import ModelAccess


class SqliteProvider(StoringProvider):
    """``inline::sqlite``: banks of all types in one file, which several processes may use at once.

    Vectors are searched exactly, unless there are very many of them. Blocking work runs in threads, and texts are
    embedded before the file is written.
    """

    Config = SqliteConfig
    config: SqliteConfig
    _store: BankStore
    capabilities = MemoryCapabilities(
        bank_types=frozenset(MemoryBankType), ttl=True, modes=frozenset({"vector", "keyword", "hybrid"}), filter=True
    )

    def __init__(self, provider: Provider, models: ModelAccess) -> None:
        super().__init__(provider, models)
        named = self.config.path
        path = typed_path(named, "path").absolute() if named else state_dir() / _file_name(self.provider_id)
        self._store = BankStore(Database(path), self.provider_id)
        self._cache = VectorCache(self.config.cache_mb * 2**20, self.config.index_above)

    async def search(self, bank: MemoryBankDef, params: QueryParams, text: str) -> QueryDocumentsResponse:
        vector = None
        if isinstance(bank, VectorMemoryBankDef):
            assert isinstance(params, VectorParams)
            if params.mode != "keyword":
                vector = await embedded_query(bank, text, self.models, self.capabilities.modes)
        return await self._in_thread(self._search, bank.identifier, params, text, vector)

    def close(self) -> None:
        super().close()
        self._cache.clear()

    def _search(self, bank_id: str, params: QueryParams, text: str, vector: Matrix | None) -> QueryDocumentsResponse:
        with self._store.database.reading() as connection:
            bank = self._store.find(connection, bank_id)
            return run_search(Search(connection, bank, params, self.clock()), self._cache, text, vector)


def _file_name(provider_id: str) -> str:
    return f"memory-{quote(provider_id, safe=' ')}.sqlite3"
