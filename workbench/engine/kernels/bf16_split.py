"""Linear layers in float32 through the processor's bf16 tiles: each number in two parts, a product in three.

A float32 is nearly the sum of two bf16 numbers: itself rounded, and what that left out, rounded. Of the four products
of two such pairs the smallest is below what the parts leave out, 2**-17 of the whole; the others are added up in
float32. Tiles are so much faster than vectors that three products in them take half the time of one without.
"""

from __future__ import annotations

from typing import Any

import torch
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor, nn

from workbench.engine.kernels import SOURCES, entry_point
from workbench.engine.kernels.simd import GROUP, I32, I64, LANES, VF, VI, Vectors
from workbench.engine.kernels.tiles import COMPILES, SHAPES, TILE, add_product, begin, end, load, store

SIDE = 2 * TILE
"""Rows of both factors that are multiplied at once: four tiles hold their sums, four what is multiplied."""

ROWS_AT_ONCE = 256
"""Groups of so many rows stay in the second cache while all weights pass by."""

GROUPS_AT_ONCE = 6
"""Those of `SIDE` rows of both factors stay in the first."""

_TILE_BYTES = 2 * GROUP * TILE
_PART_BYTES = 2 * _TILE_BYTES
GROUP_BYTES = 2 * _PART_BYTES
"""A group of 32 columns of 32 rows: the first parts of 16 rows and of the other 16, then the second parts."""

_compiled = njit(error_model="numpy")


@intrinsic
def split(_typing: Any, count: Any, x: Any, step: Any, out: Any) -> Any:
    """Store a group of so many float32 rows, which lie ``step`` bytes apart, as two rows of bf16 each."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        b, v, (count, x, step, out) = builder, Vectors(builder), args
        both = ir.Constant(ir.VectorType(I32, 2 * LANES), list(range(2 * LANES)))
        with cgutils.for_range(b, count, intp=I64) as loop:
            start, place = v.at(x, b.mul(step, loop.index)), v.at(out, v.times(loop.index, 2 * GROUP))
            rest = [v.load(v.at(start, 4 * LANES * half)) for half in range(2)]
            for part in range(2):
                rounded = [v.bf16(half) for half in rest]
                v.store(b.shuffle_vector(*rounded, both), v.at(place, part * _PART_BYTES))
                wide = [b.bitcast(b.shl(b.zext(half, VI), v.all(16, VI)), VF) for half in rounded]
                rest = [b.fsub(one, other) for one, other in zip(rest, wide, strict=True)]
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def multiply_parts(
    _typing: Any, x: Any, weights: Any, groups: Any, first: Any, first_step: Any, out: Any, out_step: Any
) -> Any:
    """So many groups of 32 split rows times as many of 32 split rows of weights: 32 numbers for each row of ``x``.

    Args:
        first: what they are added to, rows ``first_step`` bytes apart; 0 where all rows begin with the same.
        out: the sums, rows ``out_step`` bytes apart.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (x, weights, groups, first, first_step, out, out_step) = Vectors(builder), args
        if not COMPILES:
            return context.get_dummy_value()
        sums, rows, columns = range(4), (4, 5), (6, 7)  # registers

        def place(start: Any, step: Any, register: int) -> Any:
            down, along = divmod(register, 2)
            return v.at(v.at(start, v.times(step, down * TILE)), along * 4 * TILE)

        def read(registers: tuple[int, int], start: Any, part: int) -> None:
            for block, register in enumerate(registers):
                address = v.at(start, part * _PART_BYTES + block * _TILE_BYTES)
                load(v, register, address, ir.Constant(I64, 2 * GROUP))

        def multiply() -> None:
            for register in sums:
                add_product(v, register, rows[register // 2], columns[register % 2])

        for register in sums:
            load(v, register, place(first, first_step, register), first_step)
        with cgutils.for_range(builder, groups, intp=I64) as loop:
            of_x, of_weights = (v.at(start, v.times(loop.index, GROUP_BYTES)) for start in (x, weights))
            read(columns, of_weights, 0)
            read(rows, of_x, 1)
            multiply()
            read(rows, of_x, 0)
            multiply()
            read(columns, of_weights, 1)
            multiply()
        for register in sums:
            store(v, register, place(out, out_step, register), out_step)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


@_compiled
def _address(array):
    return array.ctypes.data


@_compiled
def _split_block(x, rows, first, last, parts):
    """Groups from ``first`` to ``last`` of so many rows, in blocks of `SIDE`; ``x`` and ``parts`` are addresses."""
    address, step = _address(x), 4 * x.shape[1]
    for row in range(0, rows, SIDE):
        for group in range(first, last):
            split(min(SIDE, rows - row), address + step * row + 4 * GROUP * group, step, parts)
            parts += GROUP_BYTES


def _entry(sources: str) -> Any:
    @entry_point
    def linear(x, weights, bias, parts, shapes, out):
        """``x @ weights.T + bias``, on the caller's thread.

        All but ``shapes`` begin where a line of the cache does: tiles whose rows straddle lines are read half as fast.

        Args:
            x: float32 (rows, columns).
            weights: int16, see `_packed`.
            bias: float32 (outputs,).
            parts: room for those of `ROWS_AT_ONCE` rows of `GROUPS_AT_ONCE` groups.
            shapes: `SHAPES`.
            out: float32 (rows padded to `SIDE`, outputs); what the padding holds is of no meaning.
        """
        _ = sources
        groups, outputs = x.shape[1] // GROUP, out.shape[1]
        step, of_x = 4 * outputs, _address(parts)
        begin(_address(shapes))
        for first in range(0, len(x), ROWS_AT_ONCE):
            part = x[first : first + ROWS_AT_ONCE]
            for group in range(0, groups, GROUPS_AT_ONCE):
                count = min(GROUPS_AT_ONCE, groups - group)
                _split_block(part, len(part), group, group + count, of_x)
                for column in range(0, outputs, SIDE):
                    of_weights = _address(weights) + (column // SIDE * groups + group) * GROUP_BYTES
                    for row in range(0, len(part), SIDE):
                        place = _address(out) + step * (first + row) + 4 * column
                        sums, sums_step = (place, step) if group else (_address(bias) + 4 * column, 0)
                        start = of_x + row // SIDE * count * GROUP_BYTES
                        multiply_parts(start, of_weights, count, sums, sums_step, place, step)
        end()

    return linear


linear = _entry(SOURCES)


class SplitLinear(nn.Module):
    """An ``nn.Linear`` whose weights are kept in two parts, in the same memory; computed on the caller's thread."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.parts: Tensor
        self.bias: Tensor
        bias: Tensor | None = layer.bias
        self.register_buffer("parts", _packed(layer.weight.detach()))
        self.register_buffer("bias", torch.zeros(layer.out_features) if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        blocks = -(-len(rows) // SIDE)
        parts = torch.empty(ROWS_AT_ONCE // SIDE * GROUPS_AT_ONCE * GROUP_BYTES, dtype=torch.uint8)
        out = torch.empty(blocks * SIDE, len(self.bias))
        linear(rows.numpy(), self.parts.numpy(), self.bias.numpy(), parts.numpy(), SHAPES, out.numpy())
        return out[: len(rows)].view(*x.shape[:-1], -1)


def split_linears(model: nn.Module) -> None:
    """Replace the linear layers that fill whole tiles; compile what they call, which takes some seconds, once."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and child.in_features % GROUP == 0 and child.out_features % SIDE == 0:
                setattr(parent, name, layer := SplitLinear(child))
                with torch.inference_mode():
                    layer(torch.zeros(1, child.in_features))


def _packed(weight: Tensor) -> Tensor:
    """The parts of a weight (outputs, columns) in bf16, in the order in which tiles read them; columns in pairs."""
    first = weight.bfloat16()
    parts = torch.stack((first, (weight - first).bfloat16()))  # (parts, outputs, columns)
    tiles = parts.view(2, -1, 2, TILE, weight.shape[1] // GROUP, GROUP // 2, 2)
    return tiles.permute(1, 4, 0, 2, 5, 3, 6).reshape(-1).view(torch.int16)
