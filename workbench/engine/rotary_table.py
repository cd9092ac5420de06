"""Cosines and sines of rotary positions, computed as far as they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class RotaryTable:
    """Cosines and signed sines by position, made once and kept."""

    def __init__(self, rotary: Callable[[Tensor], tuple[Tensor, Tensor]], head_dim: int) -> None:
        self._rotary = rotary
        self._half = head_dim // 2
        self._cos = self._sin = torch.empty(0, head_dim)

    def span(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Shape (count, head_dim) each."""
        self._reach(first + count)
        return self._cos[first : first + count], self._sin[first : first + count]

    def rows(self, positions: Any) -> tuple[Any, Any]:
        """The same, of any positions, as arrays: numpy picks them on this thread, torch would wake others for it."""
        if len(positions) == 1:  # a view is had sooner
            cos, sin = self.span(int(positions[0]), 1)
            return cos.numpy(), sin.numpy()
        self._reach(int(positions.max()) + 1)
        return self._cos.numpy()[positions], self._sin.numpy()[positions]

    def _reach(self, length: int) -> None:
        if length <= len(self._cos):
            return
        positions = torch.arange(max(length, 2 * len(self._cos), 512))
        cos, sin = self._rotary(positions)  # (positions, head_dim) each
        self._cos, self._sin = cos, torch.cat((-sin[:, : self._half], sin[:, self._half :]), dim=-1)
