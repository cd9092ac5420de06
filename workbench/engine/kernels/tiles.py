"""Products of a matrix with many vectors in the processor's matrix tiles, where it has them (Intel AMX with bf16).

A tile holds 16 rows of 64 bytes. One instruction multiplies 16 rows of 32 weights with 16 vectors, in bf16 with sums
in float32. The weights of 16 rows are widened to bf16 once and stay in the cache for all vectors.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from workbench.engine.kernels.simd import FEATURES, GROUP, I8, I32, I64, LANES, VF, VHH, VI, Vectors

TILE = 16
"""Rows of a tile, and vectors that it multiplies."""

BLOCKS = 2
"""Tiles of vectors that share the weights that were read; they come in such pairs."""

_WEIGHTS, _VECTORS = 6, 7  # registers; the sums of each 16 vectors are in the first

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def _permitted() -> bool:
    """Linux keeps room for tiles in a process that asks for it."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)


COMPILES = FEATURES.get("amx-tile", False) and FEATURES.get("amx-bf16", False)
AVAILABLE = COMPILES and _permitted()
"""Whether this process may use tiles; code that is kept from one process to the next may have them all the same."""

SHAPES = np.zeros(64, np.uint8)
"""What `begin` tells the processor: eight tiles of 16 rows with 64 bytes each."""
SHAPES[0] = 1
SHAPES[16:32:2], SHAPES[48:56] = 64, TILE


def _call(builder: Any, name: str, *arguments: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


def _number(register: int) -> Any:
    return ir.Constant(I8, register)


def clear(v: Vectors, register: int) -> None:
    _call(v.builder, "tilezero", _number(register))


def load(v: Vectors, register: int, address: Any, step: Any) -> None:
    """Read the rows of a tile, which lie ``step`` bytes apart."""
    _call(v.builder, "tileloadd64", _number(register), v.builder.inttoptr(address, I8.as_pointer()), step)


def store(v: Vectors, register: int, address: Any, step: Any) -> None:
    _call(v.builder, "tilestored64", _number(register), v.builder.inttoptr(address, I8.as_pointer()), step)


def add_product(v: Vectors, sums: int, rows: int, columns: int) -> None:
    """Add 16 rows of 32 bf16 numbers times 16 columns, which stand as pairs."""
    _call(v.builder, "tdpbf16ps", *map(_number, (sums, rows, columns)))


@intrinsic
def begin(_typing: Any, shapes: Any) -> Any:
    """Set the tiles up for this thread; ``shapes`` is the address of `SHAPES`."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if COMPILES:
            _call(builder, "ldtilecfg", builder.inttoptr(args[0], I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def end(_typing: Any) -> Any:
    """Let the tiles go, so that nobody else finds or saves them."""

    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if COMPILES:
            _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def multiply_tiles(
    _typing: Any, count: Any, weights: Any, step: Any, groups: Any, x: Any, out: Any, out_step: Any
) -> Any:
    """16 rows of bf16 weights times ``count`` vectors, at most 32: 16 numbers for each vector.

    Args:
        weights: address of the rows, ``step`` bytes apart, of so many groups.
        x: address of the vectors as `arrange` stores them; there is room for all 32.
        out: address of the first vector's numbers; the next one's are ``out_step`` bytes on.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (count, weights, step, groups, x, out, out_step) = Vectors(builder), args
        if not COMPILES:
            return context.get_dummy_value()
        _sum(v, weights, step, groups, x)
        space = builder.ptrtoint(cgutils.alloca_once(builder, VF, BLOCKS * TILE), I64)
        for block in range(BLOCKS):
            start = v.at(space, 4 * LANES * TILE * block)
            store(v, block, start, ir.Constant(I64, 4 * LANES))
            rows = [v.load(v.at(start, 4 * LANES * row)) for row in range(TILE)]
            for vector, numbers in enumerate(_transposed(v, rows)):
                v.store(numbers, v.at(start, 4 * LANES * vector))
        with cgutils.for_range(builder, count, intp=I64) as loop:
            numbers = v.load(v.at(space, v.times(loop.index, 4 * LANES)))
            v.store(numbers, v.at(out, builder.mul(out_step, loop.index)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


@intrinsic
def mix_tiles(_typing: Any, weights: Any, step: Any, groups: Any, x: Any, out: Any, out_step: Any) -> Any:
    """16 weighted sums of rows of 32 numbers.

    Args:
        weights: address of the sums' bf16 weights, ``step`` bytes apart, of so many groups of rows.
        x: address of the rows as `arrange_rows` stores them.
        out: address of the first sum; the next one is ``out_step`` bytes on. All 16 are written.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (weights, step, groups, x, out, out_step) = Vectors(builder), args
        if COMPILES:
            _sum(v, weights, step, groups, x)
            for block in range(BLOCKS):
                store(v, block, v.at(out, 4 * TILE * block), out_step)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen


def _sum(v: Vectors, weights: Any, step: Any, groups: Any, x: Any) -> None:
    """The products of all groups, added up in the first tiles."""
    for block in range(BLOCKS):
        clear(v, block)
    with cgutils.for_range(v.builder, groups, intp=I64) as loop:
        load(v, _WEIGHTS, v.at(weights, v.times(loop.index, 2 * GROUP)), step)
        for block in range(BLOCKS):
            start = v.at(x, v.times(v.at(v.times(groups, block), loop.index), 2 * GROUP * TILE))
            load(v, _VECTORS, start, ir.Constant(I64, 4 * TILE))
            add_product(v, block, _WEIGHTS, _VECTORS)


def _transposed(v: Vectors, rows: list[Any]) -> list[Any]:
    """16 vectors of 16 numbers: squares of half the size change places, then those within them, and so on."""
    width = LANES
    while width > 1:
        width //= 2
        lanes = range(LANES)
        upper = [lane if lane & width == 0 else LANES + lane - width for lane in lanes]
        lower = [lane + width if lane & width == 0 else LANES + lane for lane in lanes]
        upper_lanes, lower_lanes = (ir.Constant(VI, picked) for picked in (upper, lower))
        for row in range(LANES):
            if row & width == 0:
                one, other = rows[row], rows[row + width]
                rows[row] = v.builder.shuffle_vector(one, other, upper_lanes)
                rows[row + width] = v.builder.shuffle_vector(one, other, lower_lanes)
    return rows


@intrinsic
def arrange_rows(_typing: Any, rows: Any, step: Any, groups: Any, out: Any) -> Any:
    """Store groups of 32 rows of 32 bf16 numbers as `arrange` would their columns; rows are ``step`` bytes apart."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (rows, step, groups, out) = Vectors(builder), args
        low = [2 * LANES * (lane % 2) + lane // 2 for lane in range(2 * LANES)]  # of two rows in turn
        halves = [
            ir.Constant(ir.VectorType(I32, 2 * LANES), places) for places in (low, [lane + LANES for lane in low])
        ]
        pairs = v.times(groups, TILE)
        with cgutils.for_range(builder, pairs, intp=I64) as pair:
            first = v.at(rows, builder.mul(step, v.times(pair.index, 2)))
            one, other = v.load(first, VHH), v.load(v.at(first, step), VHH)
            for block, picked in enumerate(halves):
                place = v.times(v.at(v.times(pairs, block), pair.index), 4 * TILE)
                v.store(builder.shuffle_vector(one, other, picked), v.at(out, place))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def arrange(_typing: Any, x: Any, groups: Any, out: Any, place: Any) -> Any:
    """Store a float32 vector in bf16 as the ``place``-th of the 16 of a block: pairs of numbers, vector by vector."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (x, groups, out, place) = Vectors(builder), args
        pairs = ir.VectorType(I32, LANES // 2)
        with cgutils.for_range(builder, groups, intp=I64) as loop:
            start = v.at(v.at(out, v.times(loop.index, 2 * GROUP * TILE)), v.times(place, 4))
            for half in range(2):
                value = v.load(v.at(x, v.at(v.times(loop.index, 4 * GROUP), 4 * LANES * half)))
                short = builder.bitcast(v.bf16(value), pairs)
                for index in range(LANES // 2):
                    pair = builder.extract_element(short, ir.Constant(I32, index))
                    v.store(pair, v.at(start, 4 * TILE * (half * LANES // 2 + index)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen
