"""A weight matrix in one weight format, read in place by the compiled functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.engine.kernels.file_blocks import FILE_FORMATS
from workbench.engine.kernels.many_rows import multiply_panels
from workbench.engine.kernels.matrix_kernel import matrix_kernel
from workbench.engine.kernels.panels import PANEL
from workbench.engine.kernels.shares import COUNTERS
from workbench.engine.kernels.simd import BF16, FLOAT16, FLOAT32, FORMAT_NAMES, FP8, GROUP, INT4, INT8, ROWS
from workbench.engine.kernels.step import multiply

if TYPE_CHECKING:
    from workbench.engine.kernels.team import Team
    from workbench.engine.weights import Blocks, Int8Blocks


class Matrix:
    """Weights of a linear layer, padded to whole groups of columns and of rows.

    Args:
        weight_format: one of the formats of `simd`.
        data: shape (rows, ...), with whole groups in each row. It is not copied if the number of rows is a multiple of
            ``ROWS``.
        scale: float32 (rows, groups, 1 or 2), for quantized formats; the second number is int4's minimum.
        bias: shape (rows,).
    """

    def __init__(
        self, weight_format: int, columns: int, data: Tensor, scale: Tensor | None = None, bias: Tensor | None = None
    ) -> None:
        self.weight_format, self.rows, self.columns = weight_format, len(data), columns
        self._groups = padded(columns, GROUP) // GROUP
        self._data = _pad_rows(data)
        self._scale = None if scale is None else _pad_rows(scale)
        self._bias = None if bias is None else bias.float().contiguous()

    @classmethod
    def float32(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        return cls(FLOAT32, weight.shape[1], _pad_columns(weight.float()), bias=bias)

    @classmethod
    def bf16(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        return cls(BF16, weight.shape[1], _pad_columns(weight.to(torch.bfloat16)), bias=bias)

    @classmethod
    def float16(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        return cls(FLOAT16, weight.shape[1], _pad_columns(weight.half()), bias=bias)

    @classmethod
    def of_file(cls, kind: str, data: Tensor, columns: int, bias: Tensor | None = None) -> Self:
        """Return a matrix in a format of GGUF files.

        Args:
            kind: name of the format, one of `FILE_TYPES`.
            data: uint8 (rows, bytes of a row), as in the file.
        """
        return cls(FILE_TYPES[kind], columns, data, bias=bias)

    @classmethod
    def fp8(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        """Quantize to e4m3; the scale of each group of 32 uses the whole range."""
        groups = _pad_columns(weight.float()).unflatten(1, (-1, GROUP))  # (rows, groups, 32)
        largest = torch.finfo(torch.float8_e4m3fn).max
        scale = (groups.abs().amax(-1, keepdim=True) / largest).clamp_min(1e-30)
        data = (groups / scale).to(torch.float8_e4m3fn).flatten(1).view(torch.uint8)
        return cls(FP8, weight.shape[1], data, scale, bias)

    @classmethod
    def int8(cls, blocks: Int8Blocks, columns: int, bias: Tensor | None = None) -> Self:
        return cls(INT8, columns, blocks.q, blocks.scale.unsqueeze(-1), bias)

    @classmethod
    def int4(cls, blocks: Blocks, columns: int, bias: Tensor | None = None) -> Self:
        groups = blocks.q.unflatten(1, (-1, GROUP))  # (rows, groups, 32)
        data = (groups[..., : GROUP // 2] | (groups[..., GROUP // 2 :] << 4)).flatten(1)
        return cls(INT4, columns, data, torch.stack((blocks.scale, blocks.minimum), dim=-1), bias)

    @property
    def nbytes(self) -> int:
        parts = (self._data, self._scale, self._bias)
        return sum(part.nbytes for part in parts if part is not None)

    @property
    def descriptor(self) -> list[int]:
        """Address of the `matrix_kernel`, of the data, of the scale or 0, groups per row, address of the bias or 0."""
        return self.descriptor_from(0)

    def descriptor_from(self, row: int) -> list[int]:
        """Return the descriptor of the rows from ``row`` on."""
        data, scale, bias = (
            0 if part is None else part.data_ptr() + row * part.stride(0) * part.element_size()
            for part in (self._data, self._scale, self._bias)
        )
        return [matrix_kernel(self.weight_format), data, scale, self._groups, bias]

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Return rows in float32, shape (len(rows), columns); not for formats of files."""
        data: Tensor = self._data[rows]
        if self._scale is None:
            return data[:, : self.columns].float()
        scale: Tensor = self._scale[rows]  # (rows, groups, 1 or 2)
        if self.weight_format == INT4:
            q = torch.cat([part.unflatten(1, (-1, GROUP // 2)) for part in (data & 15, data >> 4)], dim=-1)
            groups: Tensor = q * scale[..., :1] + scale[..., 1:]
            return groups.flatten(1)[:, : self.columns]
        if self.weight_format == FP8:
            data = data.view(torch.float8_e4m3fn)
        groups = data.float().unflatten(1, (-1, GROUP)) * scale
        return groups.flatten(1)[:, : self.columns]

    def matmul_f32(self, x: Tensor, team: Team) -> Tensor:
        """Return ``x @ weight.T + bias`` in float32, computed as in the step, shape (len(x), rows)."""
        padded_x = x.new_zeros(len(x), self._groups * GROUP)
        padded_x[:, : x.shape[1]] = x
        out = torch.empty(len(x), len(self._data))
        memory = np.empty((team.threads, ROWS * padded_x.shape[1]), np.float32)
        layer, barrier = np.array(self.descriptor, np.int64), np.zeros(16, np.int64)
        team.run(multiply, layer, self.rows, padded_x.numpy(), out.numpy(), memory, barrier)
        return out[:, : self.rows]

    def matmul_many(self, x: Tensor, team: Team, out: Tensor | None = None) -> Tensor:
        """Return ``x @ weight.T + bias`` in float32, shape (len(x), rows); faster than `matmul_f32` for many rows of x.

        Sums are in another order than in the step.

        Args:
            out: memory for the result, shape (len(x) padded to 32, rows padded to 32 or more).
        """
        columns, count = self._groups * GROUP, padded(len(x), PANEL)
        rows = F.pad(x, (0, columns - x.shape[1], 0, count - len(x)))
        panels = rows.view(-1, PANEL, columns).transpose(1, 2).contiguous()
        found = torch.empty(count, padded(self.rows, PANEL)) if out is None else out
        # A row of a multiple of 4096 bytes would meet the others in the same lines of the cache.
        memory = torch.empty(team.threads, PANEL, columns + GROUP // 2).numpy()
        layer, counters = np.array(self.descriptor, np.int64), np.zeros(COUNTERS, np.int64)
        products = torch.empty(team.threads, PANEL, PANEL).numpy()
        team.run(multiply_panels, layer, self.rows, panels.numpy(), found.numpy(), memory, products, counters)
        return found[: len(x), : self.rows]


FILE_TYPES = {FORMAT_NAMES[weight_format]: weight_format for weight_format in FILE_FORMATS}
"""Formats of GGUF files by their names."""


def padded(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _pad_columns(weight: Tensor) -> Tensor:
    return F.pad(weight, (0, -weight.shape[1] % GROUP)) if weight.shape[1] % GROUP else weight.contiguous()


def _pad_rows(data: Tensor) -> Tensor:
    if len(data) % ROWS == 0:
        return data.contiguous()
    rows: list[Any] = [data, data.new_zeros(-len(data) % ROWS, *data.shape[1:])]
    return torch.cat(rows)
