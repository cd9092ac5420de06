"""Copies with the memory layout of a tensor: what follows is computed in the same order, and rounded alike."""

from __future__ import annotations

import torch
from torch import Tensor


def empty_as(tensor: Tensor) -> Tensor:
    """Return an empty tensor with the shape, dtype and strides of another, whose rows may be parts of longer ones."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)


def copied(tensor: Tensor) -> Tensor:
    """Return a copy with the strides of a tensor, which ``clone`` does not keep for parts of rows."""
    return empty_as(tensor).copy_(tensor)
