"""Tensors of a merged model: what an adapter makes of the base model's, in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class LowRank(NamedTuple):
    """The update of one matrix, ``scale * B @ A``; the names are those of tensors in the adapter's file."""

    a: str
    """Shape (rank, in); for an embedding (rank, vocab)."""
    b: str
    """Shape (out, rank); for an embedding (hidden, rank)."""
    scale: float
    is_transposed: bool
    """Whether the weight is stored as (in, out), as in GPT-2, or is an embedding, (vocab, hidden)."""
    magnitude: str | None
    """Lengths of the rows of the merged matrix, shape (out,), if these are trained, as in DoRA."""

    def added_to(self, weight: Tensor, tensor: Callable[[str], Tensor]) -> Tensor:
        """Return the float32 sum of a float32 weight and the update."""
        a, b = tensor(self.a).float(), tensor(self.b).float()
        rows = weight.T if self.is_transposed else weight  # (out, in)
        merged = torch.addmm(rows, b, a, alpha=self.scale)
        if self.magnitude is not None:
            merged *= (tensor(self.magnitude).float() / torch.linalg.norm(merged, dim=1)).unsqueeze(1)
        return merged.T.contiguous() if self.is_transposed else merged


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A tensor of the merged model that differs from the base model's, or is not in its files."""

    source: str
    """The base model's tensor that it is made from."""
    replacement: str | None = None
    """Tensor in the adapter's file that takes the place of the source."""
    low_rank: LowRank | None = None
    added: tuple[str, float] | None = None
    """Tensor in the adapter's file that is added, and its factor: the bias of an update."""

    def applied(self, source: Callable[[str], Tensor], tensor: Callable[[str], Tensor]) -> Tensor:
        """Return the changed tensor in float32.

        Args:
            source: returns a tensor of the base model.
            tensor: returns a tensor of the adapter's file.
        """
        weight = (source(self.source) if self.replacement is None else tensor(self.replacement)).float()
        if self.added is not None:
            name, factor = self.added
            weight = weight + factor * tensor(name).float()
        return weight if self.low_rank is None else self.low_rank.added_to(weight, tensor)
