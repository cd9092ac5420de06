"""Exact search in the vectors of a bank, which are kept in memory until another process or a write changes them."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from workbench.providers.memory.sqlite.banks import StoredBank

if TYPE_CHECKING:
    from numpy.typing import NDArray

Matrix: TypeAlias = "NDArray[np.float32]"
Numbers: TypeAlias = "NDArray[np.int64]"
Hits: TypeAlias = list[tuple[int, float]]
"""Numbers of chunks with their scores, the best first."""


@dataclass(frozen=True, slots=True)
class BankVectors:
    """Vectors of one revision of a bank."""

    revision: int
    chunks: Numbers
    """Number of each vector's chunk, ascending."""
    documents: Numbers
    """Number of the document of each chunk."""
    unit_vectors: Matrix
    """Shape ``(chunks, dimensions)``; the length of each is 1, or 0 if it was."""

    def nearest(self, query: Matrix, count: int, allowed: NDArray[np.bool_] | None = None) -> Hits:
        """Return the chunks most similar to a query, scored ``(1 + cosine) / 2``; the older one first of equals.

        Args:
            allowed: which of the chunks to search; None for all.
        """
        rows = np.arange(len(self.chunks)) if allowed is None else np.flatnonzero(allowed)
        if not len(rows):
            return []
        cosines = self.unit_vectors @ unit(query)
        scores = np.clip((1 + cosines[rows]) / 2, 0, 1)
        if len(rows) > count:
            least = np.partition(scores, len(rows) - count)[len(rows) - count]
            kept = np.flatnonzero(scores >= least)  # more than `count` if several are equal
            rows, scores = rows[kept], scores[kept]
        order = np.argsort(-scores, kind="stable")[:count]
        return [(int(self.chunks[rows[place]]), float(scores[place])) for place in order]

    @property
    def nbytes(self) -> int:
        return self.unit_vectors.nbytes + self.chunks.nbytes + self.documents.nbytes


class VectorCache:
    """Vectors of the banks that were searched last; thread-safe.

    Args:
        max_bytes: memory for the vectors; those of the last bank are kept in any case.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._banks: OrderedDict[int, BankVectors] = OrderedDict()
        self._lock = threading.Lock()

    def vectors(self, connection: sqlite3.Connection, bank: StoredBank) -> BankVectors:
        """Return the vectors of a bank as of a transaction, read from it unless this revision is in memory."""
        with self._lock:
            known = self._banks.get(bank.bank)
            if known is None or known.revision != bank.revision:
                known = self._banks[bank.bank] = _read(connection, bank)
            self._banks.move_to_end(bank.bank)
            while len(self._banks) > 1 and sum(one.nbytes for one in self._banks.values()) > self._max_bytes:
                self._banks.popitem(last=False)
            return known

    def clear(self) -> None:
        with self._lock:
            self._banks.clear()


def unit(vector: Matrix) -> Matrix:
    """Return vectors scaled to the length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vector, axis=-1, keepdims=True)
    scaled: Matrix = np.divide(vector, lengths, out=np.zeros_like(vector), where=lengths > 0)
    return scaled


def _read(connection: sqlite3.Connection, bank: StoredBank) -> BankVectors:
    (count,) = connection.execute("SELECT count(*) FROM vectors WHERE bank = ?", (bank.bank,)).fetchone()
    chunks, documents = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    matrix = np.empty((count, bank.dimensions or 0), dtype=np.float32)
    rows = connection.execute("SELECT chunk, document, vector FROM vectors WHERE bank = ? ORDER BY chunk", (bank.bank,))
    for row, (chunk, document, vector) in enumerate(rows):
        chunks[row], documents[row] = chunk, document
        matrix[row] = np.frombuffer(vector, dtype="<f4")
    return BankVectors(bank.revision, chunks, documents, unit(matrix))
