"""The KV cache of the fused decoder."""

from __future__ import annotations

from typing import Self

import torch

from workbench.engine.kernels.matrix import padded
from workbench.engine.kernels.simd import GROUP
from workbench.engine.kernels.step_memory import Shape
from workbench.engine.sequence_state import SequenceState

_SPARE = 256
"""Tokens after a text for which its buffer has room: an answer, or the next turn of a chat."""


class FusedCache(SequenceState):
    """Keys and values of one sequence for all layers, in one buffer that is allocated for the first tokens.

    It grows by doubling or to the expected length. To grow is to copy, which takes as long as several decode steps.
    """

    def __init__(self, shape: Shape, dtype: torch.dtype, limit: int, capacity: int = 0) -> None:
        super().__init__()
        self._shape = shape
        self._limit = limit
        self._allocate(capacity, dtype)

    @property
    def nbytes(self) -> int:
        return self.kv.nbytes

    def fork(self, length: int) -> Self:
        copy = type(self)(self._shape, self.kv.dtype, self._limit, length + _SPARE)
        copy.kv[:, :, :, :length] = self.kv[:, :, :, :length]
        copy.take_state(self, length)
        return copy

    def reserve(self, count: int) -> None:
        """Make room for ``count`` more tokens. The caller sets ``length`` once they are written."""
        needed = self.length + count
        if needed > self.capacity:
            old = self.kv
            wanted = _SPARE if needed <= _SPARE else max(2 * self.capacity, self.expected_length + _SPARE)
            self._allocate(max(needed, min(wanted, self._limit)), old.dtype)
            self.kv[:, :, :, : self.length] = old[:, :, :, : self.length]

    def _allocate(self, capacity: int, dtype: torch.dtype) -> None:
        shape = self._shape
        # (layers, key or value, kv_heads, capacity, padded head_dim). Whole groups of tokens are read, with weight 0
        # beyond the length, so the buffer must not hold NaN.
        self.kv = torch.zeros(
            shape.layers, 2, shape.kv_heads, padded(capacity, GROUP), padded(shape.head_dim, GROUP), dtype=dtype
        )
        self.address, self.capacity = self.kv.data_ptr(), self.kv.shape[3]
