"""Memory banks as a kind of resource, and the router that finds the provider of a bank and delegates to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.errors import InvalidRequestError, MemoryBankNotFoundError
from workbench.protocol import (
    GraphMemoryBankDef,
    KeyValueMemoryBankDef,
    KeywordMemoryBankDef,
    MemoryBankDocument,
    VectorMemoryBankDef,
    memory_bank,
)
from workbench.providers.memory.interface import checked_ttl
from workbench.providers.requests import check_content, check_params
from workbench.stack.registry import Registry
from workbench.stack.resources import ResourceKind

if TYPE_CHECKING:
    from workbench.protocol import InterleavedTextMedia, MemoryBankDef, MemoryBankStore, QueryDocumentsResponse
    from workbench.providers.memory.interface import InsertProgress, MemoryProvider
    from workbench.stack.naming import Registration
    from workbench.stack.registrations import RegistrationStore


def _described(bank: MemoryBankDef) -> str:
    """Return what must not change while a bank has documents, in words."""
    if not isinstance(bank, VectorMemoryBankDef):
        return f"a {bank.type} bank"
    overlap = "" if bank.overlap_size_in_tokens is None else f", {bank.overlap_size_in_tokens} of them shared"
    return f"a vector bank with {bank.embedding_model} and chunks of {bank.chunk_size_in_tokens} tokens{overlap}"


MEMORY_BANK: ResourceKind[MemoryBankDef, MemoryProvider] = ResourceKind(
    name="memory_bank",
    api="memory",
    command="memory",
    definitions=(VectorMemoryBankDef, KeyValueMemoryBankDef, KeywordMemoryBankDef, GraphMemoryBankDef),
    parse=memory_bank,
    source=_described,
    not_found=MemoryBankNotFoundError,
    list=lambda provider: provider.list_memory_banks(),
    register=lambda provider, bank: provider.register_memory_bank(bank),
    unregister=lambda provider, identifier: provider.unregister_memory_bank(identifier),
    unregistering_deletes=True,
)


class MemoryBankRegistry(Registry["MemoryBankDef", "MemoryProvider"]):
    """Registry of memory banks, which satisfies ``MemoryBanks`` and ``MemoryBankUnregistration``."""

    def __init__(self, providers: dict[str, MemoryProvider], store: RegistrationStore | None = None) -> None:
        super().__init__(MEMORY_BANK, providers, store)
        self._default_provider = next(iter(providers), "")

    async def list_memory_banks(self) -> list[MemoryBankDef]:
        """Return every served bank."""
        await self.refresh()
        return self.definitions()

    async def get_memory_bank(self, identifier: str) -> MemoryBankDef | None:
        return self.get(identifier)

    async def register_memory_bank(self, memory_bank: MemoryBankDef) -> None:
        """Register a bank with its provider, the first one by default; `Registry.register` lists the errors."""
        if isinstance(memory_bank, MEMORY_BANK.definitions) and not memory_bank.provider_id:
            memory_bank = memory_bank.model_copy(update={"provider_id": self._default_provider})
        await self.register(memory_bank)

    async def unregister_memory_bank(self, identifier: str) -> None:
        """Delete a bank with its documents."""
        await self.unregister(identifier)


class MemoryRouter:
    """Implementation of ``Memory``, for banks by their plain or full names."""

    def __init__(self, registry: MemoryBankRegistry) -> None:
        self._registry = registry
        self.memory_bank_store: MemoryBankStore = self

    def get_memory_bank(self, bank_id: str) -> MemoryBankDef | None:
        return self._registry.get(bank_id)

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

        Raises:
            MemoryBankNotFoundError: no provider stores the bank; the message lists those that are served.
            InvalidRequestError: a document or the time to live is not allowed; nothing was inserted.
            StateError: the bank cannot be written; nothing was inserted.
        """
        found = self._find(bank_id)
        _check_items("documents", documents, MemoryBankDocument, "a MemoryBankDocument")
        checked_ttl(ttl_seconds)
        await found.provider.insert_documents(found.definition.identifier, documents, ttl_seconds, progress=progress)

    async def query_documents(
        self, bank_id: str, query: InterleavedTextMedia, params: dict[str, Any] | None = None
    ) -> QueryDocumentsResponse:
        """Return the chunks that match the query best, the best first.

        Raises:
            MemoryBankNotFoundError: no provider stores the bank; the message lists those that are served.
            InvalidRequestError: the query or a parameter is not allowed.
        """
        found = self._find(bank_id)
        check_content(query, "query")
        check_params(params)
        return await found.provider.query_documents(found.definition.identifier, query, params)

    async def list_documents(self, bank_id: str) -> list[str]:
        """Return the ids of the documents in a bank, in order of insertion; not part of the protocol."""
        found = self._find(bank_id)
        return await found.provider.list_documents(found.definition.identifier)

    async def delete_documents(self, bank_id: str, document_ids: list[str]) -> None:
        """Delete documents from a bank, all or none; not part of the protocol."""
        found = self._find(bank_id)
        _check_items("document_ids", document_ids, str, "the id of a document")
        await found.provider.delete_documents(found.definition.identifier, document_ids)

    def _find(self, bank_id: str) -> Registration[MemoryBankDef, MemoryProvider]:
        if not isinstance(bank_id, str):
            raise InvalidRequestError("bank_id", bank_id, "the name of a served memory bank")
        return self._registry.find(bank_id)


def _check_items(field: str, items: object, kind: type, allowed: str) -> None:
    """Raise `InvalidRequestError` unless the value is a list whose items are of that type."""
    if not isinstance(items, list):
        raise InvalidRequestError(field, items, f"a list; each item is {allowed}")
    for index, item in enumerate(items):
        if not isinstance(item, kind):
            raise InvalidRequestError(f"{field}[{index}]", item, allowed)
