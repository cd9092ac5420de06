"""Linear layers of nearly float32 precision in the CPU's bf16 tiles: each number is split into two bf16 parts.

The first part is the number rounded to bf16, the second the rounded remainder; their error is 2**-17 of the number.
Of the four products of two such pairs, that of the second parts is below this error; the other three are added up in
float32. Three products in tiles take half the time of one in vector instructions.
"""

from __future__ import annotations

from typing import Any

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor, nn

from workbench.engine.kernels import SOURCES, compiled, entry_point, tiles
from workbench.engine.kernels.memory_access import address
from workbench.engine.kernels.simd import GROUP, I64, JOIN, LANES, VF, VI, Vectors
from workbench.engine.kernels.tiles import COMPILES, TILE, TILE_CONFIG

SIDE = 2 * TILE
"""Rows of both factors that are multiplied together: four tiles hold the sums, four the factors."""

ROWS_AT_ONCE = 256
"""Rows of x whose groups stay in the L2 cache while all weights are read."""

GROUPS_AT_ONCE = 6
"""Groups of `SIDE` rows of both factors that stay in the L1 cache."""

_TILE_BYTES = 2 * GROUP * TILE
_PART_BYTES = 2 * _TILE_BYTES
GROUP_BYTES = 2 * _PART_BYTES
"""Size of a group of 32 columns of 32 rows: the first parts of 16 rows and of the other 16, then the second parts."""


@intrinsic
def split_rows(_typing: Any, count: Any, x: Any, stride: Any, out: Any) -> Any:
    """Store a group of each of ``count`` float32 rows, ``stride`` bytes apart, as two rows of bf16."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        b, v, (count, x, stride, out) = builder, Vectors(builder), args
        with cgutils.for_range(b, count, intp=I64) as loop:
            start, target = v.at(x, b.mul(stride, loop.index)), v.at(out, v.times(loop.index, 2 * GROUP))
            rest = [v.load(v.at(start, 4 * LANES * half)) for half in range(2)]
            for part in range(2):
                rounded = [v.bf16(half) for half in rest]
                v.store(b.shuffle_vector(*rounded, JOIN), v.at(target, part * _PART_BYTES))
                values = [b.bitcast(b.shl(b.zext(half, VI), v.constant(16, VI)), VF) for half in rounded]
                rest = [b.fsub(one, other) for one, other in zip(rest, values, strict=True)]
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def multiply_parts(
    _typing: Any, x: Any, weights: Any, groups: Any, first: Any, first_stride: Any, out: Any, out_stride: Any
) -> Any:
    """Multiply 32 split rows of ``x`` with 32 split rows of weights, over ``groups`` groups: 32 numbers for each row.

    Args:
        first: address of the summands, rows ``first_stride`` bytes apart; a stride of 0 adds one row to all.
        out: address of the sums, rows ``out_stride`` bytes apart.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (x, weights, groups, first, first_stride, out, out_stride) = Vectors(builder), args
        if not COMPILES:
            return context.get_dummy_value()
        sums, rows, columns = range(4), (4, 5), (6, 7)  # registers

        def address_of(start: Any, stride: Any, register: int) -> Any:
            row, column = divmod(register, 2)
            return v.at(v.at(start, v.times(stride, row * TILE)), column * 4 * TILE)

        def read(registers: tuple[int, int], start: Any, part: int) -> None:
            for block, register in enumerate(registers):
                tile = v.at(start, part * _PART_BYTES + block * _TILE_BYTES)
                tiles.load(v, register, tile, ir.Constant(I64, 2 * GROUP))

        def multiply() -> None:
            for register in sums:
                tiles.add_product(v, register, rows[register // 2], columns[register % 2])

        for register in sums:
            tiles.load(v, register, address_of(first, first_stride, register), first_stride)
        with cgutils.for_range(builder, groups, intp=I64) as loop:
            x_group, weights_group = (v.at(start, v.times(loop.index, GROUP_BYTES)) for start in (x, weights))
            read(columns, weights_group, 0)
            read(rows, x_group, 1)
            multiply()
            read(rows, x_group, 0)
            multiply()
            read(columns, weights_group, 1)
            multiply()
        for register in sums:
            tiles.store(v, register, address_of(out, out_stride, register), out_stride)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


@compiled
def _split_block(x, rows, first, last, parts):
    """Split groups ``first`` to ``last`` of ``rows`` rows of ``x``, in blocks of `SIDE`, to the address ``parts``."""
    start, stride = address(x), 4 * x.shape[1]
    for row in range(0, rows, SIDE):
        for group in range(first, last):
            split_rows(min(SIDE, rows - row), start + stride * row + 4 * GROUP * group, stride, parts)
            parts += GROUP_BYTES


def _entry(sources: str) -> Any:
    @entry_point
    def linear(x, weights, bias, parts, tile_config, out):
        """Write ``x @ weights.T + bias``, on the calling thread.

        Arrays should be aligned to cache lines: tiles whose rows straddle two lines load half as fast.

        Args:
            x: float32 (rows, columns).
            weights: int16, from `_pack_weight`.
            bias: float32 (outputs,).
            parts: buffer for `GROUPS_AT_ONCE` split groups of `ROWS_AT_ONCE` rows.
            tile_config: `TILE_CONFIG`.
            out: float32 (rows padded to `SIDE`, outputs); the values of the padding are undefined.
        """
        _ = sources
        groups, outputs = x.shape[1] // GROUP, out.shape[1]
        stride, x_parts = 4 * outputs, address(parts)
        tiles.configure_tiles(address(tile_config))
        for first in range(0, len(x), ROWS_AT_ONCE):
            part = x[first : first + ROWS_AT_ONCE]
            for group in range(0, groups, GROUPS_AT_ONCE):
                count = min(GROUPS_AT_ONCE, groups - group)
                _split_block(part, len(part), group, group + count, x_parts)
                for column in range(0, outputs, SIDE):
                    weight_parts = address(weights) + (column // SIDE * groups + group) * GROUP_BYTES
                    for row in range(0, len(part), SIDE):
                        target = address(out) + stride * (first + row) + 4 * column
                        summands, summand_stride = (target, stride) if group else (address(bias) + 4 * column, 0)
                        start = x_parts + row // SIDE * count * GROUP_BYTES
                        multiply_parts(start, weight_parts, count, summands, summand_stride, target, stride)
        tiles.release_tiles()

    return linear


linear = _entry(SOURCES)


class SplitLinear(nn.Module):
    """An ``nn.Linear`` with split weights, which take the same memory; it computes on the calling thread."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.parts: Tensor
        self.bias: Tensor
        bias: Tensor | None = layer.bias
        self.register_buffer("parts", _pack_weight(layer.weight.detach()))
        self.register_buffer("bias", torch.zeros(layer.out_features) if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        blocks = -(-len(rows) // SIDE)
        parts = torch.empty(ROWS_AT_ONCE // SIDE * GROUPS_AT_ONCE * GROUP_BYTES, dtype=torch.uint8)
        out = torch.empty(blocks * SIDE, len(self.bias))
        linear(rows.numpy(), self.parts.numpy(), self.bias.numpy(), parts.numpy(), TILE_CONFIG, out.numpy())
        return out[: len(rows)].view(*x.shape[:-1], -1)


def split_linears(model: nn.Module) -> None:
    """Replace the linear layers that fill whole tiles, and compile their kernel, which takes seconds if uncached."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and child.in_features % GROUP == 0 and child.out_features % SIDE == 0:
                setattr(parent, name, layer := SplitLinear(child))
                with torch.inference_mode():
                    layer(torch.zeros(1, child.in_features))


def _pack_weight(weight: Tensor) -> Tensor:
    """Split a weight (outputs, columns) into bf16 parts, in the order in which tiles load them, columns in pairs."""
    first = weight.bfloat16()
    parts = torch.stack((first, (weight - first).bfloat16()))  # (parts, outputs, columns)
    tiles = parts.view(2, -1, 2, TILE, weight.shape[1] // GROUP, GROUP // 2, 2)
    return tiles.permute(1, 4, 0, 2, 5, 3, 6).reshape(-1).view(torch.int16)
