"""Keys and values of past tokens: what a decoder's cache must offer, and the cache of prefixes across requests.

A chat resends its whole history every turn. `PrefixCache` keeps the keys and values of recent sequences, so that a
new prompt computes only what no recent sequence begins with. What comes out is what a cold run gives; only sooner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX_CACHE_BYTES = 64 * 2**20
"""That a model may keep of past sequences, unless it is said otherwise."""
SHORTEST_REUSE = 16
"""Prefixes below this many tokens are computed again: copying them costs as much."""


class KVCache(Protocol):
    """Keys and values of one sequence, for all layers; a decoder makes and fills it."""

    @property
    def length(self) -> int:
        """Tokens whose keys and values are held."""

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""

    def fork(self, length: int) -> Self | None:
        """An independent copy of the first ``length`` tokens; None where the cache cannot be cut there."""


@dataclass(slots=True)
class _Entry:
    token_ids: list[int]
    cache: KVCache


class PrefixCache:
    """Recent sequences with their keys and values, least recently used first to go.

    Args:
        budget_bytes: memory that the kept sequences may hold together; 0 switches reuse off.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._entries: list[_Entry] = []  # least recently used first

    @property
    def nbytes(self) -> int:
        return sum(entry.cache.nbytes for entry in self._entries)

    def take(self, token_ids: Sequence[int]) -> tuple[KVCache, int] | None:
        """A cache that holds the longest known beginning of some tokens, and that beginning's length.

        The caller owns what it gets. A sequence that continues a kept one takes the kept memory over, since the longer
        sequence will stand for both; any other gets a copy, and the kept sequence stays as it was.
        """
        wanted = list(token_ids)
        by_length = sorted(self._entries, key=lambda entry: common_prefix(entry.token_ids, wanted), reverse=True)
        for entry in by_length[:2]:  # the second best may be croppable where the best is not
            shared = common_prefix(entry.token_ids, wanted)
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
        """Keep a sequence that has ended; ``token_ids`` are those whose keys and values the cache holds."""
        held = list(token_ids[: cache.length])
        if len(held) < cache.length:  # a text that was cut off inside what had been read together
            return
        if len(held) < SHORTEST_REUSE or cache.nbytes > self.budget_bytes:
            return
        self._entries = [entry for entry in self._entries if held[: len(entry.token_ids)] != entry.token_ids]
        self._entries.append(_Entry(held, cache))
        while self.nbytes > self.budget_bytes:
            del self._entries[0]

    def clear(self) -> None:
        self._entries.clear()


def common_prefix(a: list[int], b: list[int]) -> int:
    """Length of the longest common beginning; slices compare at C speed, so halving beats a loop over tokens."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
