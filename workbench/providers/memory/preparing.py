"""Documents of a request on their way into a bank: checked, read as text, cut into chunks and embedded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import InvalidRequestError
from workbench.prompts.texts import plain_json
from workbench.protocol import MemoryBankDocument, VectorMemoryBankDef
from workbench.providers.memory.chunking import Chunker
from workbench.providers.memory.documents import document_text

if TYPE_CHECKING:
    from workbench.protocol import MemoryBankDef
    from workbench.providers.memory.config import DocumentConfig
    from workbench.providers.memory.interface import InsertProgress
    from workbench.providers.model_access import ModelAccess
    from workbench.records import TokenSpans

MAX_ID_LENGTH = 1024
_MAX_METADATA_BYTES = 100_000
_EMBEDDED_AT_ONCE = 64
"""Chunks of one call of the embedding model; other requests get their turn between two."""

Checked = tuple[str, MemoryBankDocument, dict[str, Any]]
"""Path of a document in the request, the document, and a copy of its metadata."""


@dataclass(frozen=True, slots=True)
class NewChunk:
    """Chunk to store, with the bytes of its float32 vector in a vector bank."""

    content: str
    token_count: int
    vector: bytes | None = None


@dataclass(frozen=True, slots=True)
class NewDocument:
    """Document to store."""

    document_id: str
    metadata: dict[str, Any]
    chunks: list[NewChunk]


class Preparation:
    """Preparation of the documents of one request.

    Args:
        models: served models, of which a vector bank has one.
        progress: callback for the number of chunks that are ready, and of all chunks.
    """

    def __init__(
        self, bank: MemoryBankDef, models: ModelAccess, config: DocumentConfig, progress: InsertProgress | None = None
    ) -> None:
        self._bank = bank
        self._models = models
        self._config = config
        self._report: InsertProgress = progress or (lambda _ready, _all: None)
        self._sources = config.sources
        self.dimensions: int | None = None
        """Length of the vectors, once some are made."""

    async def prepare(self, documents: Sequence[Checked]) -> list[NewDocument]:
        """Return the documents with their chunks and vectors; raise for the first one that is not allowed."""
        prepared = []
        text_bytes = 0
        for field, document, metadata in documents:
            text = await asyncio.to_thread(
                document_text, document, field, self._sources, self._config.max_document_bytes
            )
            text_bytes += len(text.encode())
            if text_bytes > self._config.max_insert_bytes:
                allowed = f"documents with at most {self._config.max_insert_bytes / 10**6:g} MB of text in one call"
                raise InvalidRequestError("documents", f"{text_bytes / 10**6:.1f} MB up to {field}", allowed)
            chunks = await self._chunks(text, f"{field}.content")
            prepared.append(NewDocument(document.document_id, metadata, chunks))
        if isinstance(self._bank, VectorMemoryBankDef):
            return await self._embedded(prepared, self._bank.embedding_model)
        self._report(len(prepared), len(prepared))
        return prepared

    async def _chunks(self, text: str, field: str) -> list[NewChunk]:
        if self._bank.type in {"vector", "keyword"} and not text.strip():
            raise InvalidRequestError(field, text, "a text that is not blank")
        if not isinstance(self._bank, VectorMemoryBankDef):
            return [NewChunk(text, len(text.split()))]
        chunker = Chunker(self._bank.chunk_size_in_tokens, default_overlap(self._bank), self._spans_of)
        found = await chunker.chunks(text, field)
        return [NewChunk(text[chunk.start : chunk.end], chunk.token_count) for chunk in found]

    async def _spans_of(self, text: str) -> TokenSpans:
        assert isinstance(self._bank, VectorMemoryBankDef)
        return await self._models.token_spans(self._bank.embedding_model, text)

    async def _embedded(self, documents: list[NewDocument], model: str) -> list[NewDocument]:
        texts = [chunk.content for document in documents for chunk in document.chunks]
        vectors: list[bytes] = []
        self._report(0, len(texts))
        for start in range(0, len(texts), _EMBEDDED_AT_ONCE):
            found = await self._models.embed(model, list(texts[start : start + _EMBEDDED_AT_ONCE]))
            matrix = np.asarray(found.vectors, dtype="<f4")
            self.dimensions = matrix.shape[1]
            vectors += [vector.tobytes() for vector in matrix]
            self._report(len(vectors), len(texts))
        remaining = iter(vectors)
        return [
            NewDocument(
                document.document_id,
                document.metadata,
                [NewChunk(chunk.content, chunk.token_count, next(remaining)) for chunk in document.chunks],
            )
            for document in documents
        ]


def default_overlap(bank: VectorMemoryBankDef) -> int:
    """Return the overlap of a bank's chunks, a quarter of their size if it has none of its own."""
    overlap = bank.overlap_size_in_tokens
    return bank.chunk_size_in_tokens // 4 if overlap is None else overlap


def checked_documents(documents: object, bank: MemoryBankDef) -> list[Checked]:
    """Return the documents of a request, the last one of each id; raise `InvalidRequestError` for the first bad one."""
    if not isinstance(documents, list):
        raise InvalidRequestError("documents", documents, "a list of documents")
    checked: dict[str, Checked] = {}
    for index, document in enumerate(documents):
        field = f"documents[{index}]"
        if not isinstance(document, MemoryBankDocument):
            raise InvalidRequestError(field, document, "a MemoryBankDocument")
        _check_id(document.document_id, f"{field}.document_id")
        metadata = _checked_metadata(document.metadata, f"{field}.metadata")
        if bank.type == "graph":
            _check_links(metadata.get("links", []), f"{field}.metadata.links")
        checked.pop(document.document_id, None)
        checked[document.document_id] = field, document, metadata
    return list(checked.values())


def _check_id(document_id: str, field: str) -> None:
    if not (0 < len(document_id) <= MAX_ID_LENGTH and document_id.isprintable()):
        raise InvalidRequestError(field, document_id, f"1 to {MAX_ID_LENGTH:,} printable characters")


def _checked_metadata(metadata: dict[str, Any], field: str) -> dict[str, Any]:
    copied: dict[str, Any] = plain_json(metadata, field)
    if (size := len(str(copied))) > _MAX_METADATA_BYTES:
        raise InvalidRequestError(field, f"{size:,} characters", f"at most {_MAX_METADATA_BYTES:,} characters")
    return copied


def _check_links(links: object, field: str) -> None:
    if not isinstance(links, list):
        raise InvalidRequestError(field, links, "a list of document ids")
    for index, link in enumerate(links):
        if not isinstance(link, str):
            raise InvalidRequestError(f"{field}[{index}]", link, "a document id")
