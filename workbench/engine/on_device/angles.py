"""Rotary cosines and sines on a device, by position."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.engine.on_device.forward import Angles
from workbench.engine.rotary_table import Rotary


class AngleTable:
    """Cosines and sines of all positions up to a capacity, in one or two versions.

    Args:
        versions: the sets of angles of each version.
    """

    def __init__(self, versions: Sequence[Sequence[Rotary]], device: torch.device) -> None:
        self._versions = versions
        self._device = device
        self._cos = self._sin = torch.empty(0, 0, device=device)

    def reserve(self, capacity: int) -> None:
        """Compute the angles up to a position."""
        if capacity <= self._cos.shape[1]:
            return
        positions = torch.arange(capacity)  # computed on the CPU: transformers' own numbers to the bit
        found = [[rotary(positions) for rotary in sets] for sets in self._versions]
        # (versions, positions, sets of angles, rotary_dim)
        cos, sin = (torch.stack([_stacked(sets, part, capacity) for sets in found]) for part in (0, 1))
        self._cos, self._sin = cos.to(self._device), sin.to(self._device)

    def rows(self, positions: Tensor, versions: Tensor) -> Angles:
        """Return the angles of positions, shape (sequences, tokens), each sequence in its version, (sequences, 1)."""
        return self._cos[versions, positions], self._sin[versions, positions]


def _stacked(sets: Sequence[tuple[Tensor, Tensor]], part: int, positions: int) -> Tensor:
    """Return cosines (part 0) or sines (1), shape (positions, sets, rotary_dim)."""
    return torch.stack([one[part] for one in sets], 1) if sets else torch.empty(positions, 0, 0)
