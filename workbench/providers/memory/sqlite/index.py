"""Index of a large bank's vectors, with the package faiss: it may miss a chunk, but scores are always exact.

Vectors are grouped around centers (IVF), and only the groups that are nearest to a query are searched. What was added
since is searched exactly, and what was deleted is skipped, until both are so many that the index is made anew.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PROBED = 64
"""Groups that are searched; all of them in a bank of up to 256 chunks, where the result is that of exact search."""
_TRAINED = 64
"""Vectors for each group that its center is computed from."""
_STALE = 0.2
"""Part of a bank that may have changed since the index was made."""


def is_installed() -> bool:
    """Return whether there is the package that makes the index."""
    return importlib.util.find_spec("faiss") is not None


class VectorIndex:
    """Index of vectors of length 1, shape ``(chunks, dimensions)``, of the chunks with these ascending numbers."""

    def __init__(self, chunks: NDArray[np.int64], unit_vectors: NDArray[np.float32]) -> None:
        import faiss

        groups = min(len(chunks), int(4 * np.sqrt(len(chunks))))
        self._chunks = chunks
        self._groups: Any = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(unit_vectors.shape[1]), unit_vectors.shape[1], groups, faiss.METRIC_INNER_PRODUCT
        )
        self._groups.nprobe = min(groups, _PROBED)
        self._groups.cp.min_points_per_centroid = 1  # otherwise small banks print a warning
        sample = np.random.default_rng(0).permutation(len(chunks))[: _TRAINED * groups]
        self._groups.train(unit_vectors[np.sort(sample)])
        self._groups.add(unit_vectors)

    def covers(self, chunks: NDArray[np.int64]) -> bool:
        """Return whether the index still has most of a bank's chunks, and few others."""
        added, deleted = self._changes(chunks)
        return added + deleted <= _STALE * len(chunks)

    def candidates(self, query: NDArray[np.float32], count: int, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return rows of ``chunks``, ascending, among which the nearest to a query are likely to be."""
        added, deleted = self._changes(chunks)
        # Equal vectors beyond the count compete with those within it, so that more are examined.
        _, found = self._groups.search(query[np.newaxis], min(len(self._chunks), 2 * count + 50 + deleted))
        numbers = self._chunks[np.sort(found[0][found[0] >= 0])]
        rows = np.searchsorted(chunks, numbers)
        present = rows[(rows < len(chunks)) & (chunks[np.minimum(rows, len(chunks) - 1)] == numbers)]
        return np.concatenate([present, np.arange(len(chunks) - added, len(chunks))])

    def _changes(self, chunks: NDArray[np.int64]) -> tuple[int, int]:
        """Return how many chunks were added and deleted since the index was made."""
        added = len(chunks) - int(np.searchsorted(chunks, self._chunks[-1], side="right"))
        return added, len(self._chunks) - (len(chunks) - added)
