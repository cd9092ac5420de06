"""The last norm and the head of the fused decoder, for hidden states that a prompt ended with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from workbench.engine.insides.contributions import Unembedding
from workbench.engine.kernels.team import Team
from workbench.engine.model_weights import apply_norm
from workbench.engine.packed_weights import PackedWeights
from workbench.insides import Point

_MANY = 8
"""Rows that are multiplied faster in panels."""

Visit: TypeAlias = Callable[[Point, Tensor], "Tensor | None"]
"""Visits a point with its numbers; returns changed ones, or None."""


class FusedHead:
    """Computes logits from hidden states of the last layer."""

    def __init__(self, weights: PackedWeights, team: Team) -> None:
        self._weights, self._structure, self._team = weights, weights.structure, team

    def normed(self, hidden: Tensor) -> Tensor:
        """Return hidden states after the last norm, float32, shape (rows, hidden)."""
        return apply_norm(self._structure, hidden, self._weights.final_norm)

    def logits(self, hidden: Tensor, visit: Visit | None = None, out: Tensor | None = None) -> Tensor:
        """Return logits, float32, shape (rows, vocab).

        Args:
            visit: visits the points between the last layer and the logits.
            out: memory for them, as `Matrix.matmul_many` takes it.
        """
        normed = _visited(visit, Point("final_norm"), self.normed(hidden))
        logits, cap = self._uncapped(normed, out), self._structure.logit_cap
        return _visited(visit, Point("lm_head"), torch.tanh(logits / cap) * cap if cap else logits)

    @property
    def unembedding(self) -> Unembedding:
        """The last norm and the head as a sum of parts needs them."""
        structure, norm = self._structure, self._weights.final_norm
        return Unembedding(
            structure.norm, structure.norm_eps, norm.weight, norm.bias, self._uncapped, structure.logit_cap
        )

    def _uncapped(self, normed: Tensor, out: Tensor | None = None) -> Tensor:
        head = self._weights.head
        if out is None and len(normed) < _MANY:
            logits = head.matmul_f32(normed, self._team)
        else:
            logits = head.matmul_many(normed, self._team, out)
        return logits if self._structure.logit_scale == 1.0 else logits * self._structure.logit_scale


def _visited(visit: Visit | None, point: Point, values: Tensor) -> Tensor:
    """Return the numbers of a point after it has been visited."""
    changed = None if visit is None else visit(point, values)
    return values if changed is None else changed
