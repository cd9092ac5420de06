"""Memory banks, which hold documents, and the protocols that fill, query, list, find and register them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol, TypeAlias, runtime_checkable

from pydantic import Field, TypeAdapter, ValidationError

from workbench.protocol.base import ProtocolModel
from workbench.protocol.content import URL, InterleavedTextMedia
from workbench.protocol.refusal import invalid_request
from workbench.protocol.webmethod import webmethod


class MemoryBankType(StrEnum):
    """Kinds of memory banks, by how a query finds documents in them."""

    vector = "vector"
    keyvalue = "keyvalue"
    keyword = "keyword"
    graph = "graph"


class CommonDef(ProtocolModel):
    """Fields of every definition of a memory bank."""

    identifier: str
    provider_id: str = ""
    """Provider that stores the bank; empty for the first one of the run config."""


class VectorMemoryBankDef(CommonDef):
    """Bank that finds the chunks of documents whose embeddings are most similar to the query's."""

    type: Literal["vector"] = "vector"
    embedding_model: str
    """Sentence model that computes the embeddings, by its name in requests."""
    chunk_size_in_tokens: int
    """Maximum length of a chunk, in tokens of ``embedding_model``."""
    overlap_size_in_tokens: int | None = None
    """Tokens that a chunk shares with the one before; None for a quarter of the chunk size."""


class KeyValueMemoryBankDef(CommonDef):
    """Bank that finds whole documents by their ids."""

    type: Literal["keyvalue"] = "keyvalue"


class KeywordMemoryBankDef(CommonDef):
    """Bank that finds the documents that contain the words of the query."""

    type: Literal["keyword"] = "keyword"


class GraphMemoryBankDef(CommonDef):
    """Bank that finds documents by their words, and the documents that these link to."""

    type: Literal["graph"] = "graph"


MemoryBankDef: TypeAlias = Annotated[
    VectorMemoryBankDef | KeyValueMemoryBankDef | KeywordMemoryBankDef | GraphMemoryBankDef, Field(discriminator="type")
]
"""Definition of a memory bank of any type."""

_MEMORY_BANK: TypeAdapter[MemoryBankDef] = TypeAdapter(MemoryBankDef)


def memory_bank(fields: object) -> MemoryBankDef:
    """Return the definition that ``fields`` describe; raise `InvalidRequestError` if they describe none."""
    try:
        return _MEMORY_BANK.validate_python(fields)
    except ValidationError as error:
        raise invalid_request(error, fields) from None


class MemoryBankDocument(ProtocolModel):
    """Document to insert in a bank."""

    document_id: str
    """Name of the document; a document of the same name in the bank is replaced."""
    content: InterleavedTextMedia | URL
    mime_type: str | None = None
    """Media type of the content; None to derive it from the URL, or ``text/plain``."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Values to filter by; ``links`` are the edges of a document in a graph bank."""


class Chunk(ProtocolModel):
    """Part of a document.

    ``metadata`` is an addition to the protocol; it is omitted from JSON if it is empty.
    """

    content: InterleavedTextMedia
    token_count: int
    """Length of the content in tokens of the bank's embedding model; in words for a bank without one."""
    document_id: str
    metadata: dict[str, Any] = Field(default_factory=dict, exclude_if=lambda metadata: not metadata)
    """Metadata of the document."""


class QueryDocumentsResponse(ProtocolModel):
    """Chunks that a query found, the best first."""

    chunks: list[Chunk]
    scores: list[float]
    """One for each chunk, above 0; higher is better. The meaning depends on the type of bank and the mode."""


class MemoryBankStore(Protocol):
    """Lookup of the banks that a provider stores; its attribute ``memory_bank_store``."""

    def get_memory_bank(self, bank_id: str) -> MemoryBankDef | None:
        """Return the bank of that name, or None."""
        ...


@runtime_checkable
class Memory(Protocol):
    """Documents in the banks of ``memory_bank_store``."""

    memory_bank_store: MemoryBankStore

    @webmethod(route="/memory/insert")
    async def insert_documents(
        self, bank_id: str, documents: list[MemoryBankDocument], ttl_seconds: int | None = None
    ) -> None:
        """Insert documents, all or none; ``ttl_seconds`` after that, they are no longer found."""
        ...

    @webmethod(route="/memory/query")
    async def query_documents(
        self, bank_id: str, query: InterleavedTextMedia, params: dict[str, Any] | None = None
    ) -> QueryDocumentsResponse:
        """Return the chunks that match the query best, the best first; ``params`` depend on the type of bank."""
        ...


@runtime_checkable
class MemoryBanks(Protocol):
    """Memory banks of all providers, as clients see them."""

    @webmethod(route="/memory_banks/list", method="GET")
    async def list_memory_banks(self) -> list[MemoryBankDef]:
        """Return every served bank in order of registration."""
        ...

    @webmethod(route="/memory_banks/get", method="GET")
    async def get_memory_bank(self, identifier: str) -> MemoryBankDef | None:
        """Return the bank by its name or ``provider_id/identifier``; None if it is not served."""
        ...

    @webmethod(route="/memory_banks/register")
    async def register_memory_bank(self, memory_bank: MemoryBankDef) -> None:
        """Register a bank with a provider, which creates it empty if it has none of that name."""
        ...


@runtime_checkable
class MemoryBankUnregistration(Protocol):
    """Unregistration of memory banks, which the original protocol lacks."""

    @webmethod(route="/memory_banks/unregister")
    async def unregister_memory_bank(self, identifier: str) -> None:
        """Delete a bank with its documents, or raise ``MemoryBankNotFoundError``."""
        ...


@runtime_checkable
class MemoryBanksProtocolPrivate(Protocol):
    """Provider side of ``MemoryBanks``, which has no routes."""

    async def list_memory_banks(self) -> list[MemoryBankDef]:
        """Return the banks that this provider stores."""
        ...

    async def register_memory_bank(self, memory_bank: MemoryBankDef) -> None:
        """Store one more bank, or raise an error that says why it cannot be stored."""
        ...
