"""Keys and values on a device: slots of one buffer for the sequences of a batch, and copies of those that wait.

A sequence is computed in a slot. One that loses its slot to another keeps a copy of its keys and values, and is moved
back when it is computed again. Batches use the first slots, so that each batch size reads one view of fixed shape.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from workbench.engine.sequence_state import SequenceState

BATCH_SIZES = (1, 2, 4, 8, 16)
"""Numbers of slots that a batch may use."""

LEAST_SPAN = 256
"""Tokens of the shortest span of keys; all others are this times a power of two, so that few shapes occur."""


class KVShape(NamedTuple):
    """Sizes of the keys and values of one model."""

    layers: int
    kv_heads: int
    head_dim: int


class DeviceCache(SequenceState):
    """Keys and values of one sequence; satisfies `KVCache`."""

    def __init__(self, pool: SlotPool) -> None:
        super().__init__()
        self._pool = pool
        self.slot: int | None = None
        """Index of the slot with the keys and values; None if `copied` has them, or if there are none."""
        self.copied: Tensor | None = None
        """Shape (layers, 2, kv_heads, length, head_dim)."""

    @property
    def nbytes(self) -> int:
        return self.length * self._pool.token_bytes

    def fork(self, length: int) -> Self:
        copy = type(self)(self._pool)
        copy.take_state(self, length)
        with self._pool.lock:
            copy.copied = self._pool.kept(self)[..., :length, :].clone()
        return copy


class SlotPool:
    """Slots for the keys and values of sequences; they grow in number and in length as sequences need them.

    Args:
        budget_bytes: memory for all slots together; one slot may exceed it.
    """

    def __init__(self, shape: KVShape, *, device: torch.device, dtype: torch.dtype, budget_bytes: int) -> None:
        self._shape = shape
        self._budget_bytes = budget_bytes
        self.lock = threading.Lock()
        """Held while a call moves sequences: two engines may share a decoder, which computes one call at a time."""
        self.token_bytes = 2 * shape.layers * shape.kv_heads * shape.head_dim * dtype.itemsize
        """Bytes of the keys and values of one token."""
        self._owners: list[weakref.ref[DeviceCache] | None] = []
        self._kv = torch.empty(0, device=device, dtype=dtype)
        self.generation = 0
        """Number of buffers so far: a graph that was captured over an earlier one must not be replayed."""
        self._allocate(1, LEAST_SPAN)

    @property
    def capacity(self) -> int:
        """Most tokens of a sequence for which the slots have room."""
        return self._kv.shape[4]

    @property
    def rows(self) -> int:
        """Most sequences of a batch: the largest batch size within the budget, at the present capacity."""
        return self._largest_batch(self.capacity)

    def view(self, first: int, count: int, span: int) -> Tensor:
        """Return the first ``span`` tokens of slots, shape (layers, 2, count, kv_heads, span, head_dim)."""
        return self._kv[:, :, first : first + count, :, :span]

    def kept(self, cache: DeviceCache) -> Tensor:
        """Return a sequence's keys and values, wherever they are; a view, shape (layers, 2, kv_heads, tokens, dim)."""
        if cache.slot is not None:
            return self._kv[:, :, cache.slot, :, : cache.length]
        return self._new(1, 0)[:, :, 0] if cache.copied is None else cache.copied

    def reserve(self, length: int) -> None:
        """Make room for sequences of a length."""
        if length > self.capacity:
            capacity = span_of(length)
            self._allocate(min(len(self._owners), self._largest_batch(capacity)), capacity)

    def hold(self, cache: DeviceCache) -> int:
        """Return a slot with a sequence's keys and values: its own, or the last free one, or the last of all."""
        if cache.slot is None:
            free = [slot for slot in range(len(self._owners)) if self._owner(slot) is None]
            self._move(cache, free[-1] if free else len(self._owners) - 1)
        assert cache.slot is not None, "it has been moved to one"
        return cache.slot

    def gather(self, caches: Sequence[DeviceCache]) -> int:
        """Put sequences into the first slots, and all others elsewhere; return the number of slots, a batch size."""
        size = batch_size(len(caches))
        if size > len(self._owners):
            self._allocate(size, self.capacity)
        chosen = {id(cache) for cache in caches}
        free = [slot for slot in range(size) if id(self._owner(slot)) not in chosen]
        for cache in caches:
            if cache.slot is None or cache.slot >= size:
                self._move(cache, free.pop(0))
        for slot in free:
            self._evict(slot)
        return size

    def replace(self, cache: DeviceCache, computed: DeviceCache) -> None:
        """Give a sequence the keys and values of another, which loses them."""
        if cache.slot is not None:
            self._owners[cache.slot] = None
        cache.slot, cache.copied = computed.slot, computed.copied
        computed.slot = computed.copied = None
        if cache.slot is not None:
            self._owners[cache.slot] = weakref.ref(cache)

    def _owner(self, slot: int) -> DeviceCache | None:
        reference = self._owners[slot]
        return None if reference is None else reference()

    def _move(self, cache: DeviceCache, slot: int) -> None:
        self._evict(slot)
        self._kv[:, :, slot, :, : cache.length] = self.kept(cache)
        if cache.slot is not None:
            self._owners[cache.slot] = None
        cache.slot, cache.copied = slot, None
        self._owners[slot] = weakref.ref(cache)

    def _evict(self, slot: int) -> None:
        """Free a slot; a sequence in it gets a copy of its keys and values."""
        owner = self._owner(slot)
        if owner is not None:
            owner.copied = self.kept(owner).clone()
            owner.slot = None
        self._owners[slot] = None

    def _allocate(self, slots: int, capacity: int) -> None:
        for slot in range(slots, len(self._owners)):
            self._evict(slot)
        old, kept = self._kv, min(slots, len(self._owners))
        self._kv = self._new(slots, capacity)
        if kept:
            self._kv[:, :, :kept, :, : old.shape[4]] = old[:, :, :kept]
        self._owners = [*self._owners[:kept], *[None] * (slots - kept)]
        self.generation += 1

    def _new(self, slots: int, capacity: int) -> Tensor:
        """Return slots of zeros: keys beyond a length are multiplied with 0, and must not be NaN."""
        shape = self._shape
        sizes = (shape.layers, 2, slots, shape.kv_heads, capacity, shape.head_dim)
        return torch.zeros(sizes, device=self._kv.device, dtype=self._kv.dtype)

    def _largest_batch(self, capacity: int) -> int:
        fitting = [size for size in BATCH_SIZES if size * capacity * self.token_bytes <= self._budget_bytes]
        return max(fitting, default=1)


def batch_size(rows: int) -> int:
    """Return the smallest of `BATCH_SIZES` for a number of sequences."""
    return next(size for size in BATCH_SIZES if size >= rows)


def span_of(length: int) -> int:
    """Return the shortest span with room for a number of tokens."""
    span = LEAST_SPAN
    while span < length:
        span *= 2
    return span
