"""Searches in one transaction: by similarity, by words, by both, by document id, and along links."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from workbench.errors import InvalidRequestError
from workbench.protocol import Chunk, QueryDocumentsResponse
from workbench.providers.memory.params import GraphParams, KeyValueParams, QueryParams, VectorParams
from workbench.providers.memory.sqlite.banks import StoredBank, check_dimensions
from workbench.providers.memory.sqlite.database import words_table
from workbench.providers.memory.sqlite.vectors import Hits, Matrix, VectorCache

_MAX_WORDS = 500
"""Different words of a query; the time of a full-text search grows with their square."""
_FUSED = 100
"""Chunks of each kind of search that hybrid search fuses, at least."""
_RRF_K = 20
"""Constant of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009, who took 60 for lists of 1,000).

With 60, a chunk at rank 50 of both searches would precede the first one of either.
"""
_ALIVE = "(d.expires_at IS NULL OR d.expires_at > ?)"


@dataclass(frozen=True, slots=True)
class Search:
    """One query of a bank, in the transaction of ``connection``."""

    connection: sqlite3.Connection
    bank: StoredBank
    params: QueryParams
    now: float

    def similar(self, cache: VectorCache, vector: Matrix, count: int) -> Hits:
        """Return the chunks whose vectors are most similar."""
        check_dimensions(self.bank, len(vector))
        vectors = cache.vectors(self.connection, self.bank)
        refused = self._refused_documents()
        allowed = None if not refused else ~np.isin(vectors.documents, np.array(sorted(refused), dtype=np.int64))
        return vectors.nearest(vector, count, allowed)

    def by_words(self, query: str, count: int | None) -> Hits:
        """Return the chunks that contain words of the query, by their BM25, which is above 0."""
        match = match_expression(query)
        if match is None:
            return []
        words = words_table(self.bank.bank)
        rows = self.connection.execute(
            f"SELECT c.chunk, -w.rank, d.metadata FROM {words} w JOIN chunks c ON c.chunk = w.rowid "
            f"JOIN documents d ON d.document = c.document WHERE w.{words} MATCH ? AND {_ALIVE} "
            "ORDER BY w.rank, c.chunk",
            (match, self.now),
        )
        accepted = ((chunk, score) for chunk, score, metadata in rows if self._accepts(metadata))
        return list(islice(accepted, count))

    def hybrid(self, cache: VectorCache, vector: Matrix, query: str) -> Hits:
        """Return the chunks that either search finds, by reciprocal rank fusion; 1 if a chunk is first in both."""
        count = max(_FUSED, self.params.max_chunks)
        scores: dict[int, float] = {}
        for hits in (self.similar(cache, vector, count), self.by_words(query, count)):
            for rank, (chunk, _) in enumerate(hits, start=1):
                scores[chunk] = scores.get(chunk, 0.0) + (_RRF_K + 1) / (_RRF_K + rank) / 2
        return sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))

    def by_id(self, query: str, *, prefix: bool) -> Hits:
        """Return the documents of that id, or whose ids begin with it, in the order of the ids."""
        same = "substr(d.document_id, 1, length(:query)) = :query" if prefix else "d.document_id = :query"
        rows = self.connection.execute(
            "SELECT c.chunk, d.metadata FROM documents d JOIN chunks c USING (document) WHERE d.bank = :bank AND "
            f"{same} AND (d.expires_at IS NULL OR d.expires_at > :now) ORDER BY d.document_id",
            {"bank": self.bank.bank, "query": query, "now": self.now},
        )
        return [(chunk, 1.0) for chunk, metadata in rows if self._accepts(metadata)]

    def along_links(self, query: str, params: GraphParams) -> Hits:
        """Return the documents with words of the query, and those that they link to, the nearest first.

        The filter restricts which documents are returned, not the links that are followed.
        """
        starts = Search(self.connection, self.bank, QueryParams(), self.now).by_words(query, params.max_starts)
        frontier = self._nodes("c.chunk", [chunk for chunk, _ in starts])
        seen = {document_id for document_id, _, _ in frontier}
        hits: Hits = []
        for hop in range(params.hops + 1):
            hits += [(chunk, 1 / (1 + hop)) for _, chunk, metadata in frontier if params.accepts(metadata)]
            if len(hits) >= params.max_chunks or hop == params.hops:
                break
            targets = [target for _, _, metadata in frontier for target in metadata.get("links", [])]
            unseen = [target for target in dict.fromkeys(targets) if target not in seen]
            seen.update(unseen)
            frontier = self._nodes("d.document_id", unseen)
        return hits

    def response(self, hits: Hits) -> QueryDocumentsResponse:
        """Return the chunks of the best hits that reach the threshold."""
        threshold = self.params.score_threshold
        hits = [hit for hit in hits if threshold is None or hit[1] >= threshold][: self.params.max_chunks]
        rows = self.connection.execute(
            "SELECT c.chunk, c.content, c.token_count, d.document_id, d.metadata "
            "FROM chunks c JOIN documents d USING (document) WHERE c.chunk IN (SELECT value FROM json_each(?))",
            (json.dumps([chunk for chunk, _ in hits]),),
        )
        found = {
            chunk: Chunk(content=content, token_count=count, document_id=document_id, metadata=json.loads(metadata))
            for chunk, content, count, document_id, metadata in rows
        }
        return QueryDocumentsResponse(chunks=[found[chunk] for chunk, _ in hits], scores=[score for _, score in hits])

    def _nodes(self, column: str, values: list[Any]) -> list[tuple[str, int, dict[str, Any]]]:
        """Return id, chunk and metadata of the documents with these values, in their order, as far as there are any."""
        rows = self.connection.execute(
            f"SELECT {column}, d.document_id, c.chunk, d.metadata FROM documents d JOIN chunks c USING (document) "
            f"WHERE d.bank = ? AND {_ALIVE} AND {column} IN (SELECT value FROM json_each(?))",
            (self.bank.bank, self.now, json.dumps(values)),
        )
        found = {value: (document_id, chunk, json.loads(metadata)) for value, document_id, chunk, metadata in rows}
        return [found[value] for value in values if value in found]

    def _refused_documents(self) -> set[int]:
        """Return the documents that have expired or that the filter refuses."""
        if self.params.filter:
            rows = self.connection.execute(
                f"SELECT d.document, d.metadata, {_ALIVE} FROM documents d WHERE d.bank = ?", (self.now, self.bank.bank)
            )
            return {document for document, metadata, alive in rows if not (alive and self._accepts(metadata))}
        rows = self.connection.execute(
            "SELECT document FROM documents WHERE bank = ? AND expires_at <= ?", (self.bank.bank, self.now)
        )
        return {document for (document,) in rows}

    def _accepts(self, metadata: str) -> bool:
        return not self.params.filter or self.params.accepts(json.loads(metadata))


def match_expression(query: str) -> str | None:
    """Return a full-text expression that matches any word of a text, which is never syntax; None without a word.

    Raises:
        InvalidRequestError: the text has too many words.
    """
    import regex

    words = list(dict.fromkeys(word.lower() for word in regex.findall(r"[\p{L}\p{M}\p{N}\p{Co}]+", query)))
    if len(words) > _MAX_WORDS:
        allowed = f"a text of at most {_MAX_WORDS} different words where words are searched"
        raise InvalidRequestError("query", f"{len(words)} different words", allowed)
    return " OR ".join(f'"{word}"' for word in words) or None


def run_search(search: Search, cache: VectorCache, query: str, vector: Matrix | None) -> QueryDocumentsResponse:
    """Return the answer to a query as its parameters say; ``vector`` is its embedding in the modes that need one."""
    match search.params:
        case KeyValueParams(prefix=prefix):
            hits = search.by_id(query, prefix=prefix)
        case GraphParams() as params:
            hits = search.along_links(query, params)
        case VectorParams(mode="vector", max_chunks=count) if vector is not None:
            hits = search.similar(cache, vector, count)
        case VectorParams(mode="hybrid") if vector is not None:
            hits = search.hybrid(cache, vector, query)
        case params:
            hits = search.by_words(query, params.max_chunks)
    return search.response(hits)
