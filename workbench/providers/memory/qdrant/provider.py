"""The provider: a `StoringProvider` over a Qdrant server or its embedded store."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from workbench.errors import ConfigError
from workbench.protocol import MemoryBankType, QueryDocumentsResponse, VectorMemoryBankDef
from workbench.providers.memory.checking import embedded_query
from workbench.providers.memory.interface import MemoryCapabilities
from workbench.providers.memory.params import VectorParams
from workbench.providers.memory.qdrant.config import QdrantConfig
from workbench.providers.memory.storing import StoringProvider

if TYPE_CHECKING:
    from workbench.protocol import ConfigModel, MemoryBankDef, Provider
    from workbench.providers.memory.params import QueryParams
    from workbench.providers.memory.qdrant.store import QdrantStore
    from workbench.providers.model_access import ModelAccess


class QdrantProvider(StoringProvider):
    """``remote::qdrant``: vector banks in a Qdrant server or its embedded store, which hold texts and vectors.

    Documents are cut and embedded here. Searches are exact.

    Raises:
        ConfigError: the client is not installed.
    """

    Config = QdrantConfig
    config: QdrantConfig
    _store: QdrantStore
    capabilities = MemoryCapabilities(bank_types=frozenset({MemoryBankType.vector}), ttl=True, filter=True)

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

    @classmethod
    def check_config(cls, config: ConfigModel, provider_type: str) -> None:  # noqa: ARG003
        """Raise `ConfigError` unless the config names either a server or a folder."""
        assert isinstance(config, QdrantConfig)
        if (config.url is None) == (config.path is None):
            raise ConfigError(f"url must be given, or else path; got {'neither' if config.url is None else 'both'}")

    async def search(self, bank: MemoryBankDef, params: QueryParams, text: str) -> QueryDocumentsResponse:
        assert isinstance(bank, VectorMemoryBankDef)
        assert isinstance(params, VectorParams)
        vector = await embedded_query(bank, text, self.models, self.capabilities.modes)
        return await self._in_thread(self._store.search, bank.identifier, vector, params, self.clock())

    def close(self) -> None:
        super().close()
        self._store.close()
