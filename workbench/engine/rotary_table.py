"""A growing table of rotary cosines and sines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class RotaryTable:
    """Cosines and sines by position, computed once; sines are negated in the first half, as the step reads them."""

    def __init__(self, rotary: Callable[[Tensor], tuple[Tensor, Tensor]], head_dim: int) -> None:
        self._rotary = rotary
        self._half = head_dim // 2
        self._cos = self._sin = torch.empty(0, head_dim)

    def span(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Return those of consecutive positions, shape (count, head_dim) each."""
        self._grow(first + count)
        return self._cos[first : first + count], self._sin[first : first + count]

    def rows(self, positions: Any) -> tuple[Any, Any]:
        """Return those of any positions as arrays; torch would wake other threads to gather them."""
        if len(positions) == 1:  # a view is faster
            cos, sin = self.span(int(positions[0]), 1)
            return cos.numpy(), sin.numpy()
        self._grow(int(positions.max()) + 1)
        return self._cos.numpy()[positions], self._sin.numpy()[positions]

    def _grow(self, length: int) -> None:
        if length <= len(self._cos):
            return
        positions = torch.arange(max(length, 2 * len(self._cos), 512))
        cos, sin = self._rotary(positions)  # (positions, head_dim) each
        self._cos, self._sin = cos, torch.cat((-sin[:, : self._half], sin[:, self._half :]), dim=-1)
