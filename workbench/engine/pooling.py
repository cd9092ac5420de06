"""From the vectors of a text's tokens to one: sentence-transformers' ways of pooling, over rows that may be padded.

Each takes the vectors, shape (rows, tokens, hidden), and which of them count, shape (rows, tokens). A row of which none
counts, such as a text that is nothing but its prompt, has the vector that sentence-transformers gives it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pool(mode: str, vectors: Tensor, counts: Tensor) -> Tensor:
    """Return one vector for each row, shape (rows, hidden)."""
    match mode:
        case "cls":
            return _at(counts.int().argmax(1), vectors)
        case "lasttoken":
            positions = torch.arange(vectors.shape[1])
            return _at((positions * counts).argmax(1), vectors) * counts.any(1, keepdim=True)
        case "max":
            return vectors.masked_fill(~counts.unsqueeze(-1), -torch.inf).amax(1)
        case "mean_sqrt_len_tokens":
            return _mean(vectors, counts.float(), root=True)
        case "weightedmean":
            return _mean(vectors, counts * torch.arange(1.0, vectors.shape[1] + 1))
        case _:
            return _mean(vectors, counts.float())


MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""In the order in which modes that are switches of their own are put one behind the other."""


def _at(indices: Tensor, vectors: Tensor) -> Tensor:
    return vectors[torch.arange(len(vectors)), indices]


def _mean(vectors: Tensor, weights: Tensor, *, root: bool = False) -> Tensor:
    total = weights.sum(1, keepdim=True).clamp(min=1e-9)
    return (vectors * weights.unsqueeze(-1)).sum(1) / (total.sqrt() if root else total)
