"""Banks and documents in Qdrant: a collection for the chunks of each bank, and one for the definitions of all."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import QdrantClient, models

from workbench.errors import ClosedError, InvalidRequestError, MemoryBankNotFoundError, WorkbenchError
from workbench.protocol import Chunk, QueryDocumentsResponse, memory_bank
from workbench.providers.memory.checking import check_same
from workbench.providers.memory.qdrant import filters
from workbench.providers.memory.qdrant.failures import translated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workbench.protocol import MemoryBankDef
    from workbench.providers.memory.params import QueryParams
    from workbench.providers.memory.preparing import NewDocument
    from workbench.providers.memory.qdrant.config import QdrantConfig

_AT_ONCE = 256
"""Points of one request, which is therefore well below a server's limit."""
_PAGE = 1000
_ABANDONED_AFTER_S = 24 * 3600
"""Age of an insertion that has not ended, from which on its process is taken for dead."""
_INDEXED = {
    "document_id": models.PayloadSchemaType.KEYWORD,
    "tags": models.PayloadSchemaType.KEYWORD,
    "insertion": models.PayloadSchemaType.KEYWORD,
    "staged": models.PayloadSchemaType.BOOL,
    "chunk": models.PayloadSchemaType.INTEGER,
    "expires_at": models.PayloadSchemaType.FLOAT,
    "began_at": models.PayloadSchemaType.FLOAT,
}
"""Fields that are searched by, which some servers allow only with an index."""


@dataclass(frozen=True, slots=True)
class StoredBank:
    """A bank and its collection, whose name is never used again."""

    definition: MemoryBankDef
    collection: str
    created: int


class _CancelledError(Exception):
    """The request was cancelled, so that nothing reads this error; it only ends the insertion."""


class QdrantStore:
    """Banks of one provider; every method blocks.

    Documents are inserted in two steps. First their chunks are stored as staged, which no query finds; then one request
    makes them visible and deletes those that they replace.
    """

    def __init__(self, config: QdrantConfig, provider_id: str) -> None:
        self._config = config
        self._provider_id = provider_id
        self._client: QdrantClient | None = None
        self._closed = False
        # Locks are taken in this order. The embedded store takes one request at a time.
        self._embedded = threading.RLock() if config.path else nullcontext()
        self._opening, self._changing = threading.Lock(), threading.Lock()

    def close(self) -> None:
        """Close the client; requests that run or come later fail with `ClosedError`."""
        with self._embedded, self._opening:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    # -------------------------------------------------------------------------------------------------------- banks

    def banks(self) -> list[StoredBank]:
        """Return all banks, the oldest first."""
        with self._open() as client:
            if not client.collection_exists(self._registry):
                return []
            records = self._records(client, self._registry, None, with_payload=True)
        return sorted((self._stored(record) for record in records), key=lambda bank: bank.created)

    def definitions(self) -> list[MemoryBankDef]:
        """Return the definitions of all banks, the oldest first."""
        return [bank.definition for bank in self.banks()]

    def bank(self, identifier: str) -> StoredBank:
        """Return a bank; raise `MemoryBankNotFoundError` if it is not stored."""
        banks = self.banks()
        for bank in banks:
            if bank.definition.identifier == identifier:
                return bank
        raise MemoryBankNotFoundError(identifier, [bank.definition.identifier for bank in banks])

    def create(self, definition: MemoryBankDef) -> None:
        """Store an empty bank, unless the same bank is stored already; raise `InvalidRequestError` for another one."""
        with self._open() as client, self._changing:
            try:
                known = self.bank(definition.identifier)
            except MemoryBankNotFoundError:
                if not client.collection_exists(self._registry):
                    client.create_collection(self._registry, vectors_config={})
                payload = {
                    "identifier": definition.identifier,
                    "definition": definition.model_dump_json(exclude={"identifier", "provider_id"}),
                    "collection": f"{self._config.collection_prefix}-{uuid.uuid4().hex}",
                    "created": time.time_ns(),
                }
                point = models.PointStruct(id=_bank_id(definition.identifier), vector={}, payload=payload)
                client.upsert(self._registry, [point], wait=True)
            else:
                check_same(known.definition, definition)

    def drop(self, identifier: str) -> None:
        """Delete a bank with its documents."""
        with self._open() as client, self._changing:
            bank = self.bank(identifier)
            client.delete(self._registry, models.PointIdsList(points=[_bank_id(identifier)]), wait=True)
            if client.collection_exists(bank.collection):
                client.delete_collection(bank.collection)

    # ---------------------------------------------------------------------------------------------------- documents

    def insert(
        self,
        stored: StoredBank,
        documents: Sequence[NewDocument],
        *,
        now: float,
        expires_at: float | None,
        dimensions: int | None,
        cancelled: threading.Event,
    ) -> None:
        """Store documents in place of those of the same ids, all or none; nothing if ``cancelled`` is set meanwhile."""
        assert dimensions is not None  # every document of a vector bank has a chunk
        insertion = uuid.uuid4().hex
        with self._open() as client:
            if self.bank(stored.definition.identifier).collection != stored.collection:
                raise MemoryBankNotFoundError(stored.definition.identifier, [])  # it was replaced meanwhile
            self._prepare_collection(client, stored, dimensions)
            points = list(_points(documents, insertion, now, expires_at))
            try:
                for start in range(0, len(points), _AT_ONCE):
                    _check_wanted(cancelled)
                    client.upsert(stored.collection, points[start : start + _AT_ONCE], wait=True)
                _check_wanted(cancelled)
                replaced = [document.document_id for document in documents]
                client.batch_update_points(stored.collection, _completion(insertion, replaced, now), wait=True)
            except BaseException:
                with suppress(WorkbenchError), translated(self._config):
                    client.delete(stored.collection, models.FilterSelector(filter=filters.of_insertion(insertion)))
                raise

    def delete(self, identifier: str, document_ids: Sequence[str], now: float) -> None:
        """Delete documents, all or none; raise `InvalidRequestError` for an id that is not in the bank."""
        with self._open() as client:
            bank = self.bank(identifier)
            known = set(self._document_ids(client, bank, now)) if document_ids else set()
            for index, document_id in enumerate(document_ids):
                if document_id not in known:
                    allowed = f"the id of a document in the bank {identifier}"
                    raise InvalidRequestError(f"document_ids[{index}]", document_id, allowed)
            if document_ids:
                chosen = models.FilterSelector(filter=filters.of_documents(document_ids))
                client.delete(bank.collection, chosen, wait=True)

    def document_ids(self, identifier: str, now: float) -> list[str]:
        """Return the ids of the documents that have not expired, in order of insertion."""
        with self._open() as client:
            return self._document_ids(client, self.bank(identifier), now)

    def search(
        self, identifier: str, vector: NDArray[np.float32], params: QueryParams, now: float
    ) -> QueryDocumentsResponse:
        """Return the chunks whose vectors are most similar, by (1 + cosine) / 2; the search is exact."""
        with self._open() as client:
            bank = self.bank(identifier)
            if not client.collection_exists(bank.collection):
                return QueryDocumentsResponse(chunks=[], scores=[])
            _check_dimensions(client, bank, len(vector))
            points = client.query_points(
                bank.collection,
                query=vector.tolist(),
                query_filter=filters.visible(now, params.filter),
                limit=params.max_chunks,
                search_params=models.SearchParams(exact=True) if self._config.url else None,  # embedded always is
                with_payload=["document_id", "content", "token_count", "metadata"],
            ).points
        threshold = 0.0 if params.score_threshold is None else params.score_threshold
        scored = [((1 + point.score) / 2, _chunk(point.payload or {})) for point in points]
        hits = [(score, chunk) for score, chunk in scored if score >= threshold]
        return QueryDocumentsResponse(chunks=[chunk for _, chunk in hits], scores=[score for score, _ in hits])

    # ----------------------------------------------------------------------------------------------------- internal

    @property
    def _registry(self) -> str:
        """Name of the collection with the definitions of banks."""
        return f"{self._config.collection_prefix}-banks"

    @contextmanager
    def _open(self) -> Iterator[QdrantClient]:
        """Yield the client, opened by the first call; raise a typed error for whatever it raises."""
        try:
            with self._embedded, translated(self._config):
                with self._opening:
                    if self._closed:
                        raise ClosedError("the store was closed")
                    client = self._client = self._client or _opened(self._config)
                yield client
        except (WorkbenchError, RuntimeError):
            if self._closed:
                raise ClosedError(f"provider {self._provider_id} was closed; open a new workbench") from None
            raise

    def _stored(self, record: models.Record) -> StoredBank:
        payload = record.payload or {}
        fields = json.loads(payload["definition"])
        named = {"identifier": payload["identifier"], "provider_id": self._provider_id}
        return StoredBank(memory_bank(fields | named), payload["collection"], payload["created"])

    def _records(
        self, client: QdrantClient, collection: str, chosen: models.Filter | None, **options: Any
    ) -> list[models.Record]:
        found: list[models.Record] = []
        offset: Any = None
        while True:
            page, offset = client.scroll(collection, scroll_filter=chosen, limit=_PAGE, offset=offset, **options)
            found += page
            if offset is None:
                return found

    def _document_ids(self, client: QdrantClient, bank: StoredBank, now: float) -> list[str]:
        if not client.collection_exists(bank.collection):
            return []
        shown = ["document_id", "order"]
        records = self._records(client, bank.collection, filters.first_chunks(now), with_payload=shown)
        payloads = sorted((record.payload or {} for record in records), key=lambda payload: payload["order"])
        return [payload["document_id"] for payload in payloads]

    def _prepare_collection(self, client: QdrantClient, bank: StoredBank, dimensions: int) -> None:
        with self._changing:
            if client.collection_exists(bank.collection):
                _check_dimensions(client, bank, dimensions)
                return
            vectors = models.VectorParams(size=dimensions, distance=models.Distance.COSINE)
            client.create_collection(bank.collection, vectors_config=vectors)
            if self._config.url:  # the embedded store has no indexes
                for field, schema in _INDEXED.items():
                    client.create_payload_index(bank.collection, field, schema, wait=True)


def _opened(config: QdrantConfig) -> QdrantClient:
    if config.path:
        return QdrantClient(path=config.path, force_disable_check_same_thread=True)
    return QdrantClient(url=config.url, api_key=config.token, timeout=config.timeout_s, check_compatibility=False)


def _bank_id(identifier: str) -> str:
    """Return the id of a bank's point, the same for the same name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, identifier))


def _points(
    documents: Sequence[NewDocument], insertion: str, now: float, expires_at: float | None
) -> Iterator[models.PointStruct]:
    first = time.time_ns()
    for index, document in enumerate(documents):
        shared = {
            "document_id": document.document_id,
            "metadata": json.dumps(document.metadata, ensure_ascii=False),
            "tags": filters.tags(document.metadata),
            "order": first + index,
            "insertion": insertion,
            "staged": True,
            "began_at": now,
        }
        if expires_at is not None:
            shared["expires_at"] = expires_at
        for number, chunk in enumerate(document.chunks):
            assert chunk.vector is not None
            yield models.PointStruct(
                id=str(uuid.uuid4()),
                vector=np.frombuffer(chunk.vector, dtype="<f4").tolist(),
                payload=shared | {"chunk": number, "content": chunk.content, "token_count": chunk.token_count},
            )


def _completion(insertion: str, replaced: Sequence[str], now: float) -> list[models.UpdateOperation]:
    """Return the operations that replace documents by those of an insertion, and delete what nobody finds."""
    outdated = (filters.of_documents(replaced), filters.expired(now), filters.abandoned(now - _ABANDONED_AFTER_S))
    deletions = [models.DeleteOperation(delete=models.FilterSelector(filter=chosen)) for chosen in outdated]
    shown = models.SetPayload(payload={"staged": False}, filter=filters.of_insertion(insertion))
    return [*deletions, models.SetPayloadOperation(set_payload=shown)]


def _check_dimensions(client: QdrantClient, bank: StoredBank, dimensions: int) -> None:
    vectors = client.get_collection(bank.collection).config.params.vectors
    if isinstance(vectors, models.VectorParams) and vectors.size != dimensions:
        allowed = (
            f"a bank whose embedding model makes vectors of {vectors.size} numbers, as when it was filled; "
            f"now it makes {dimensions}. Fill a new bank"
        )
        raise InvalidRequestError("bank_id", bank.definition.identifier, allowed)


def _check_wanted(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise _CancelledError


def _chunk(payload: dict[str, Any]) -> Chunk:
    return Chunk(
        content=payload["content"],
        token_count=payload["token_count"],
        document_id=payload["document_id"],
        metadata=json.loads(payload["metadata"]),
    )
