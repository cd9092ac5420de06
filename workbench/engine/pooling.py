"""sentence-transformers' pooling modes, over rows that may be padded.

A row without any token to pool, such as a text that is only its prompt, gets the vector that sentence-transformers
computes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pool(mode: str, vectors: Tensor, counts: Tensor) -> Tensor:
    """Pool vectors (rows, tokens, hidden) at the tokens where ``counts`` (rows, tokens) is True to (rows, hidden)."""
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
"""Modes in the order in which a config of one switch per mode concatenates them."""


def _at(indices: Tensor, vectors: Tensor) -> Tensor:
    return vectors[torch.arange(len(vectors)), indices]


def _mean(vectors: Tensor, weights: Tensor, *, root: bool = False) -> Tensor:
    total = weights.sum(1, keepdim=True).clamp(min=1e-9)
    return (vectors * weights.unsqueeze(-1)).sum(1) / (total.sqrt() if root else total)
