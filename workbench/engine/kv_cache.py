"""Keys and values of past tokens: the interface of a decoder's cache, and the cache of prefixes across requests.

A chat resends its whole history every turn. `PrefixCache` keeps the keys and values of recent sequences, so that only
the part of a prompt that no recent sequence begins with is computed. The results are those of a cold run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX_CACHE_BYTES = 64 * 2**20
"""Default budget of a model's prefix cache."""
SHORTEST_REUSE = 16
"""Tokens of the shortest prefix that is reused; copying fewer costs as much as computing them."""


class KVCache(Protocol):
    """Keys and values of one sequence, for all layers, made and filled by a decoder."""

    @property
    def length(self) -> int:
        """Number of tokens in the cache."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""

    def fork(self, length: int) -> Self | None:
        """Return an independent copy of the first ``length`` tokens, or None if the cache cannot be cropped there."""


@dataclass(slots=True)
class _Entry:
    token_ids: list[int]
    cache: KVCache


class PrefixCache:
    """Recent sequences with their keys and values; the least recently used are evicted first.

    Args:
        budget_bytes: memory for all sequences together; 0 switches reuse off.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._entries: list[_Entry] = []  # least recently used first

    @property
    def nbytes(self) -> int:
        return sum(entry.cache.nbytes for entry in self._entries)

    def take(self, token_ids: Sequence[int]) -> tuple[KVCache, int] | None:
        """Return a cache with the longest known prefix of ``token_ids``, and that prefix's length.

        The caller owns the result. If it is a whole cached sequence, the sequence leaves this cache, because the longer
        one will replace it; otherwise the result is a copy.
        """
        prompt = list(token_ids)
        by_length = sorted(self._entries, key=lambda entry: common_prefix(entry.token_ids, prompt), reverse=True)
        for entry in by_length[:2]:  # the second longest may be croppable if the longest is not
            shared = common_prefix(entry.token_ids, prompt)
            if shared < SHORTEST_REUSE:
                return None
            self._entries.remove(entry)
            if shared == len(entry.token_ids):
                return entry.cache, shared
            self._entries.append(entry)
            if (copy := entry.cache.fork(shared)) is not None:
                return copy, shared
        return None

    def put(self, token_ids: Sequence[int], cache: KVCache) -> None:
        """Add a sequence that has ended, by the tokens whose keys and values its cache holds."""
        prefix = list(token_ids[: cache.length])
        if len(prefix) < cache.length:  # the text was cut off within a chunk
            return
        if len(prefix) < SHORTEST_REUSE or cache.nbytes > self.budget_bytes:
            return
        self._entries = [entry for entry in self._entries if prefix[: len(entry.token_ids)] != entry.token_ids]
        self._entries.append(_Entry(prefix, cache))
        while self.nbytes > self.budget_bytes:
            del self._entries[0]

    def clear(self) -> None:
        self._entries.clear()


def common_prefix(a: list[int], b: list[int]) -> int:
    """Return the length of the longest common prefix, by bisection: comparing slices is faster than a loop."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
