"""Search in the vectors of a bank, which are kept in memory and follow what this and other processes change."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from workbench.providers.memory.sqlite.banks import StoredBank
from workbench.providers.memory.sqlite.index import VectorIndex, is_installed

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
    index: VectorIndex | None = None
    """Index of a large bank; None searches all vectors."""

    def nearest(self, query: Matrix, count: int, allowed: NDArray[np.bool_] | None = None) -> Hits:
        """Return the chunks most similar to a query, scored ``(1 + cosine) / 2``; the older one first of equals.

        Args:
            allowed: which of the chunks to search; None for all. An index is used for all only.
        """
        if not len(self.chunks):
            return []
        direction = unit(query)
        if allowed is not None:
            rows = np.flatnonzero(allowed)
            cosines = _products(self.unit_vectors, direction)[rows]
        elif self.index is not None:
            rows = self.index.candidates(direction, count, self.chunks)
            cosines = _products(self.unit_vectors[rows], direction)
        else:
            rows = np.arange(len(self.chunks))
            cosines = _products(self.unit_vectors, direction)
        return self._best(rows, np.clip((1 + cosines) / 2, 0, 1), count)

    def _best(self, rows: Numbers, scores: Matrix, count: int) -> Hits:
        if len(rows) > count:
            least = np.partition(scores, len(rows) - count)[len(rows) - count]
            kept = np.flatnonzero(scores >= least)  # more than `count` if several are equal
            rows, scores = rows[kept], scores[kept]
        order = np.argsort(-scores, kind="stable")[:count]
        return [(int(self.chunks[rows[place]]), float(scores[place])) for place in order]

    @property
    def nbytes(self) -> int:
        # An index holds the vectors once more.
        return self.unit_vectors.nbytes * (1 if self.index is None else 2) + self.chunks.nbytes + self.documents.nbytes


def _products(vectors: Matrix, direction: Matrix) -> Matrix:
    """Return the product of each vector with a direction, shape ``(vectors,)``, on the caller's thread alone.

    The threads of numpy's BLAS keep the cores busy after a product, which slows the next embedding ten times over.
    """
    products: Matrix = np.einsum("ij,j->i", vectors, direction)
    return products


class VectorCache:
    """Vectors of the banks that were searched last; thread-safe.

    Args:
        max_bytes: memory for the vectors; those of the last bank are kept in any case.
        index_above: chunks of a bank above which it is indexed, if the package ``faiss`` is installed.
    """

    def __init__(self, max_bytes: int, index_above: int) -> None:
        self._max_bytes = max_bytes
        self._index_above = index_above
        self._banks: OrderedDict[int, BankVectors] = OrderedDict()
        self._lock = threading.Lock()

    def vectors(self, connection: sqlite3.Connection, bank: StoredBank) -> BankVectors:
        """Return the vectors of a bank as of a transaction; only what has changed is read from it."""
        with self._lock:
            known = self._banks.get(bank.bank)
            if known is None or known.revision != bank.revision:
                known = self._banks[bank.bank] = self._current(connection, bank, known)
            self._banks.move_to_end(bank.bank)
            while len(self._banks) > 1 and sum(one.nbytes for one in self._banks.values()) > self._max_bytes:
                self._banks.popitem(last=False)
            return known

    def clear(self) -> None:
        with self._lock:
            self._banks.clear()

    def _current(self, connection: sqlite3.Connection, bank: StoredBank, known: BankVectors | None) -> BankVectors:
        chunks, documents, matrix = _read(connection, bank, known)
        index = None if known is None else known.index
        if len(chunks) <= self._index_above or not is_installed():
            index = None
        elif index is None or not index.covers(chunks):
            index = VectorIndex(chunks, matrix)
        return BankVectors(bank.revision, chunks, documents, matrix, index)


def unit(vector: Matrix) -> Matrix:
    """Return vectors scaled to the length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vector, axis=-1, keepdims=True)
    scaled: Matrix = np.divide(vector, lengths, out=np.zeros_like(vector), where=lengths > 0)
    return scaled


def _read(
    connection: sqlite3.Connection, bank: StoredBank, known: BankVectors | None
) -> tuple[Numbers, Numbers, Matrix]:
    """Return the chunks, their documents and their vectors of length 1; those that are known are not read again.

    Chunks never change, and their numbers are never used again.
    """
    rows = connection.execute("SELECT chunk, document FROM vectors WHERE bank = ? ORDER BY chunk", (bank.bank,))
    numbers = np.array(rows.fetchall(), dtype=np.int64).reshape(-1, 2)
    chunks, documents = numbers[:, 0].copy(), numbers[:, 1].copy()
    last = -1 if known is None or not len(known.chunks) else int(known.chunks[-1])
    kept = int(np.searchsorted(chunks, last, side="right"))
    matrix = np.empty((len(chunks), bank.dimensions or 0), dtype=np.float32)
    if known is not None and kept:
        matrix[:kept] = known.unit_vectors[np.searchsorted(known.chunks, chunks[:kept])]
    new = "SELECT vector FROM vectors WHERE bank = ? AND chunk > ? ORDER BY chunk"
    for row, (vector,) in enumerate(connection.execute(new, (bank.bank, last)), start=kept):
        matrix[row] = np.frombuffer(vector, dtype="<f4")
    matrix[kept:] = unit(matrix[kept:])
    return chunks, documents, matrix
