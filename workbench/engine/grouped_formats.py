"""Matrices of 4 bits in groups that share a scale and a zero, read from the layouts in `grouped_layouts`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.engine.grouped_layouts import REORDERED, Awq, CompressedTensors, Gptq, GroupedLayout, Shapes
from workbench.engine.weight_sizes import GROUP
from workbench.errors import ModelFormatError

_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Place in a word of AWQ, counted from the lowest bits, of each of its eight rows."""

_SHIFTS = torch.arange(0, 32, 4, dtype=torch.int32)

Read = Callable[[str], Tensor]
"""Function from the end of a tensor's name, such as ``qweight``, to the tensor of one matrix."""


@dataclass(frozen=True, slots=True)
class Groups:
    """A matrix of 4 bits: ``scale * (q - zero)`` for groups of columns of each row."""

    q: Tensor
    """uint8 from 0 to 15, shape (rows, columns)."""
    scale: Tensor
    """float32, shape (rows, groups)."""
    zero: Tensor
    """float32, shape (rows, groups)."""

    def dense(self) -> Tensor:
        """Return the float32 matrix, shape (rows, columns); exact for scales of 16 bits."""
        groups = self.q.float().unflatten(1, (self.scale.shape[1], -1))  # (rows, groups, columns of a group)
        product: Tensor = (groups - self.zero.unsqueeze(-1)) * self.scale.unsqueeze(-1)
        return product.flatten(1)

    def per_block(self) -> tuple[Tensor, Tensor]:
        """Return scale and minimum of each 32 columns, float32, shape (rows, columns / 32) each."""
        repeats = self.q.shape[1] // GROUP // self.scale.shape[1]
        scale = self.scale.repeat_interleave(repeats, 1)
        return scale, -scale * self.zero.repeat_interleave(repeats, 1)


def read_groups(stored: GroupedLayout, read: Read, shapes: Shapes) -> Groups:
    """Return a matrix whose tensors match each other.

    Args:
        shapes: shapes of its tensors by the ends of their names.

    Raises:
        ModelFormatError: the columns of a group are not beside each other.
    """
    match stored:
        case Gptq():
            return _gptq(stored, read, shapes)
        case Awq():
            return _awq(read)
        case CompressedTensors():
            return _compressed_tensors(read, shapes)


def is_in_order(group_of_column: Tensor, groups: int) -> bool:
    """Return whether the columns of each group are beside each other, the first group first."""
    columns = len(group_of_column)
    return torch.equal(group_of_column.long(), torch.arange(columns) // (columns // groups))


def _gptq(stored: Gptq, read: Read, shapes: Shapes) -> Groups:
    q = _in_order(read("qweight").T.contiguous())  # (rows, columns)
    zero = _in_order(read("qzeros")).T + stored.zero_offset  # (rows, groups)
    if "g_idx" in shapes and not is_in_order(read("g_idx"), zero.shape[1]):
        raise ModelFormatError(REORDERED)
    return Groups(q, read("scales").T.float().contiguous(), zero.float().contiguous())


def _awq(read: Read) -> Groups:
    q, zero = (_awq_order(read(name)).T.contiguous() for name in ("qweight", "qzeros"))
    return Groups(q, read("scales").T.float().contiguous(), zero.float())


def _compressed_tensors(read: Read, shapes: Shapes) -> Groups:
    q, scale = _in_order(read("weight_packed")), read("weight_scale").float()
    zero = torch.full_like(scale, 8.0)
    if "weight_zero_point" in shapes:
        zero = _in_order(read("weight_zero_point").T.contiguous())[:, : len(scale)].T.float()
    return Groups(q, scale.contiguous(), zero.contiguous())


def _numbers(words: Tensor) -> Tensor:
    """Return the eight numbers of each word from the lowest bits on, uint8, shape (..., 8)."""
    return (words.to(torch.int32).unsqueeze(-1) >> _SHIFTS & 15).to(torch.uint8)


def _in_order(words: Tensor) -> Tensor:
    """Return the numbers of rows of words, shape (rows, 8 * words)."""
    return _numbers(words).flatten(1)


def _awq_order(words: Tensor) -> Tensor:
    return _numbers(words)[..., _AWQ_PLACES].flatten(1)
