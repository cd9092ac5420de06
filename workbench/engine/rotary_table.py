"""A growing table of rotary cosines and sines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rotary = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Function from positions to cosines and sines, shape (positions, rotary_dim) each."""

Angles: TypeAlias = "tuple[NDArray[np.float32], NDArray[np.float32]]"
"""Cosines and sines, shape (positions, sets of angles, rotary_dim) each."""

_FIRST_POSITIONS = 64
"""Positions in the first table, few enough for one of torch's threads: the first step would wait 0.15 s for others."""


class RotaryTable:
    """Cosines and sines by position, computed once; sines are negated in the first half, as the step reads them.

    They are arrays: between two steps nothing is in the CPU's cache, and an operation of torch takes long.

    Args:
        rotary: one function for each set of angles.
    """

    def __init__(self, rotary: Sequence[Rotary], rotary_dim: int) -> None:
        self._rotary = rotary
        self._half = rotary_dim // 2
        self._cos = self._sin = np.empty((0, len(rotary), rotary_dim), np.float32)

    def span(self, first: int, count: int) -> Angles:
        """Return those of consecutive positions, as views."""
        self._grow(first + count)
        return self._cos[first : first + count], self._sin[first : first + count]

    def rows(self, positions: Sequence[int]) -> Angles:
        """Return those of any positions."""
        if len(positions) == 1:  # a view is faster
            return self.span(positions[0], 1)
        self._grow(max(positions) + 1)
        return self._cos[positions], self._sin[positions]

    def _grow(self, length: int) -> None:
        if length <= len(self._cos):
            return
        positions = torch.arange(max(length, 2 * len(self._cos), _FIRST_POSITIONS))
        if not self._rotary:
            self._cos = self._sin = np.empty((len(positions), 0, 2 * self._half), np.float32)
            return
        cos, sin = zip(*(rotary(positions) for rotary in self._rotary), strict=True)
        self._cos = torch.stack(cos, dim=1).numpy()
        self._sin = torch.stack(sin, dim=1).numpy()
        self._sin[:, :, : self._half] *= -1.0


class RotaryVersions:
    """Tables of one or two versions of the angles, those of short and of long texts.

    Args:
        versions: the sets of angles of each version.
    """

    def __init__(self, versions: Sequence[Sequence[Rotary]], rotary_dim: int) -> None:
        self._tables = [RotaryTable(rotary, rotary_dim) for rotary in versions]

    def span(self, first: int, count: int, version: int) -> Angles:
        """Return those of consecutive positions, as `RotaryTable.span`."""
        return self._tables[version].span(first, count)

    def rows(self, positions: Sequence[int], versions: Sequence[int]) -> Angles:
        """Return those of any positions, each in its own version, as `RotaryTable.rows`."""
        if len(set(versions)) == 1:
            return self._tables[versions[0]].rows(positions)
        rows = [self._tables[version].rows(positions[index : index + 1]) for index, version in enumerate(versions)]
        cos, sin = zip(*rows, strict=True)
        return np.concatenate(cos), np.concatenate(sin)
