"""A weight matrix in one form, read in place by the compiled step and widened to bf16 for prompts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.engine.kernels.simd import BF16, FLOAT32, FP8, GROUP, INT4, INT8, ROWS
from workbench.engine.kernels.step import multiply, widen

if TYPE_CHECKING:
    from workbench.engine.kernels.team import Team
    from workbench.engine.weights import Blocks, Int8Blocks

_PLAIN_ON_THE_LEFT = 256
"""Up to so many rows oneDNN is faster with plain bf16 weights as the left factor."""


class Matrix:
    """Weights of a linear layer, padded to whole groups of columns and of rows.

    Args:
        data: numbers of a form, shape (rows, ...) with whole groups in each row.
        scale: float32 (rows, groups, numbers per group), for the forms that have one.
        bias: shape (rows,).
    """

    def __init__(
        self, form: int, rows: int, columns: int, data: Tensor, scale: Tensor | None = None, bias: Tensor | None = None
    ) -> None:
        self.form, self.rows, self.columns = form, rows, columns
        self._groups = padded(columns, GROUP) // GROUP
        self._data = _with_rows(data)
        self._scale = None if scale is None else _with_rows(scale)
        self._bias = None if bias is None else bias.float().contiguous()

    @classmethod
    def float32(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        return cls(FLOAT32, len(weight), weight.shape[1], _with_columns(weight.float()), bias=bias)

    @classmethod
    def bf16(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        return cls(BF16, len(weight), weight.shape[1], _with_columns(weight.to(torch.bfloat16)), bias=bias)

    @classmethod
    def fp8(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        """e4m3 numbers; each group of 32 uses their whole range."""
        groups = _with_columns(weight.float()).unflatten(1, (-1, GROUP))  # (rows, groups, 32)
        largest = torch.finfo(torch.float8_e4m3fn).max
        scale = (groups.abs().amax(-1, keepdim=True) / largest).clamp_min(1e-30)
        data = (groups / scale).to(torch.float8_e4m3fn).flatten(1).view(torch.uint8)
        return cls(FP8, len(weight), weight.shape[1], data, scale, bias)

    @classmethod
    def int8(cls, blocks: Int8Blocks, columns: int, bias: Tensor | None = None) -> Self:
        return cls(INT8, len(blocks.q), columns, blocks.q, blocks.scale.unsqueeze(-1), bias)

    @classmethod
    def int4(cls, blocks: Blocks, columns: int, bias: Tensor | None = None) -> Self:
        groups = blocks.q.unflatten(1, (-1, GROUP))  # (rows, groups, 32)
        data = (groups[..., : GROUP // 2] | (groups[..., GROUP // 2 :] << 4)).flatten(1)
        return cls(INT4, len(blocks.q), columns, data, torch.stack((blocks.scale, blocks.minimum), dim=-1), bias)

    @property
    def is_narrow(self) -> bool:
        """Whether torch can multiply it only when it has been widened."""
        return self._scale is not None

    def wide(self, memory: Tensor | None) -> Wide:
        """As torch multiplies it; from the memory into which it has been widened where it is narrow."""
        data = self._data if memory is None else memory.view(len(self._data), -1)
        bias = None if self._bias is None else self._bias.to(data.dtype)
        return Wide(data[: self.rows, : self.columns], bias)

    @property
    def padded_size(self) -> int:
        """How many numbers it has, with those of the padding."""
        return len(self._data) * self._groups * GROUP

    @property
    def nbytes(self) -> int:
        parts = (self._data, self._scale, self._bias)
        return sum(part.nbytes for part in parts if part is not None)

    @property
    def place(self) -> list[int]:
        """Form, addresses of numbers and scales, groups per row, address of the bias or 0; valid while this lives."""
        scale, bias = (0 if part is None else part.data_ptr() for part in (self._scale, self._bias))
        return [self.form, self._data.data_ptr(), scale, self._groups, bias]

    def take(self, rows: Tensor) -> Tensor:
        """Some rows in float32, shape (len(rows), columns)."""
        data: Tensor = self._data[rows]
        if self._scale is None:
            return data[:, : self.columns].float()
        scale: Tensor = self._scale[rows]  # (rows, groups, 1 or 2)
        if self.form == INT4:
            numbers = torch.cat([part.unflatten(1, (-1, GROUP // 2)) for part in (data & 15, data >> 4)], dim=-1)
            groups: Tensor = numbers * scale[..., :1] + scale[..., 1:]
            return groups.flatten(1)[:, : self.columns]
        if self.form == FP8:
            data = data.view(torch.float8_e4m3fn)
        groups = data.float().unflatten(1, (-1, GROUP)) * scale
        return groups.flatten(1)[:, : self.columns]

    def matmul_f32(self, x: Tensor, team: Team) -> Tensor:
        """``x @ weight.T + bias`` in float32 as the step computes it, shape (len(x), rows)."""
        wide = x.new_zeros(len(x), self._groups * GROUP)
        wide[:, : x.shape[1]] = x
        out = torch.empty(len(x), len(self._data))
        memory = np.empty((team.threads, ROWS * wide.shape[1]), np.float32)
        place, barrier = np.array(self.place, np.int64), np.zeros(16, np.int64)
        team.run(multiply, place, self.rows, wide.numpy(), out.numpy(), memory, barrier)
        return out[:, : self.rows]


class WideMatrices:
    """Memory in which the matrices of one layer after the other stand as torch multiplies them.

    Float32 and bf16 matrices are taken where they are; the others are widened to bf16 when their layer's turn comes.
    """

    def __init__(self, team: Team) -> None:
        self._team = team
        self._memory = torch.empty(0, dtype=torch.bfloat16)

    def of(self, matrices: Sequence[Matrix]) -> list[Wide]:
        """Valid until the next call."""
        narrow = [matrix for matrix in matrices if matrix.is_narrow]
        starts = list(itertools.accumulate((matrix.padded_size for matrix in narrow), initial=0))
        if len(self._memory) < starts[-1]:
            self._memory = torch.empty(starts[-1], dtype=torch.bfloat16)
        if narrow:
            self._team.run(
                widen,
                np.array([matrix.place for matrix in narrow]),
                np.array([matrix.rows for matrix in narrow]),
                np.array(starts[:-1]),
                self._memory.view(torch.int16).numpy(),
                np.zeros(16, np.int64),
            )
        parts = iter(self._memory[start:end] for start, end in itertools.pairwise(starts))
        return [matrix.wide(next(parts) if matrix.is_narrow else None) for matrix in matrices]


@dataclass(frozen=True, slots=True)
class Wide:
    """A matrix as torch multiplies it."""

    weight: Tensor
    """float32 or bf16, shape (rows, columns)."""
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """``x @ weight.T + bias``, shape (len(x), rows)."""
        if x.dtype == torch.float32 or len(x) > _PLAIN_ON_THE_LEFT:
            return F.linear(x, self.weight, self.bias)
        product = torch.mm(self.weight, x.T).T
        return product if self.bias is None else product + self.bias


def padded(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _with_columns(weight: Tensor) -> Tensor:
    return F.pad(weight, (0, -weight.shape[1] % GROUP)) if weight.shape[1] % GROUP else weight.contiguous()


def _with_rows(data: Tensor) -> Tensor:
    if len(data) % ROWS == 0:
        return data.contiguous()
    rows: list[Any] = [data, data.new_zeros(-len(data) % ROWS, *data.shape[1:])]
    return torch.cat(rows)
