"""Products of a matrix with many vectors in the CPU's matrix tiles, if it has them (Intel AMX with bf16).

A tile holds 16 rows of 64 bytes. One instruction multiplies 16 rows of 32 weights with 16 vectors, in bf16 with sums
in float32. The weights of 16 rows are converted to bf16 once and stay in the cache for all vectors.
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
"""Rows of a tile, and vectors per product."""

VECTOR_TILES = 2
"""Tiles of vectors that are multiplied with one tile of weights."""

_WEIGHTS, _VECTORS = 6, 7  # registers; the first hold the sums of each 16 vectors

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def _request_permission() -> bool:
    """Request the use of tiles, which Linux grants per process; return whether it is granted."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)


COMPILES = FEATURES.get("amx-tile", False) and FEATURES.get("amx-bf16", False)
AVAILABLE = COMPILES and _request_permission()
"""Whether this process may use tiles; compiled code that another process cached may contain them anyway."""

TILE_CONFIG = np.zeros(64, np.uint8)
"""Operand of `configure_tiles`: eight tiles of 16 rows with 64 bytes each."""
TILE_CONFIG[0] = 1
TILE_CONFIG[16:32:2], TILE_CONFIG[48:56] = 64, TILE


def _call(builder: Any, name: str, *arguments: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


def _index(register: int) -> Any:
    return ir.Constant(I8, register)


def clear(v: Vectors, register: int) -> None:
    _call(v.builder, "tilezero", _index(register))


def load(v: Vectors, register: int, address: Any, stride: Any) -> None:
    """Load the rows of a tile, ``stride`` bytes apart."""
    _call(v.builder, "tileloadd64", _index(register), v.builder.inttoptr(address, I8.as_pointer()), stride)


def store(v: Vectors, register: int, address: Any, stride: Any) -> None:
    """Store the rows of a tile, ``stride`` bytes apart."""
    _call(v.builder, "tilestored64", _index(register), v.builder.inttoptr(address, I8.as_pointer()), stride)


def add_product(v: Vectors, sums: int, rows: int, columns: int) -> None:
    """Add the product of 16 rows of 32 bf16 numbers and 16 columns, stored in pairs, to ``sums``."""
    _call(v.builder, "tdpbf16ps", *map(_index, (sums, rows, columns)))


@intrinsic
def configure_tiles(_typing: Any, config: Any) -> Any:
    """Configure the tiles of this thread; ``config`` is the address of `TILE_CONFIG`."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if COMPILES:
            _call(builder, "ldtilecfg", builder.inttoptr(args[0], I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def release_tiles(_typing: Any) -> Any:
    """Release the tiles, so that the system need not save them with this thread."""

    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if COMPILES:
            _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def multiply_tiles(
    _typing: Any, count: Any, weights: Any, stride: Any, groups: Any, x: Any, out: Any, out_stride: Any
) -> Any:
    """Multiply 16 rows of bf16 weights with ``count`` vectors, at most 32.

    Args:
        weights: address of the rows, ``stride`` bytes apart, of ``groups`` groups each.
        x: address of the vectors as `pack_vector` stores them, in memory for 32.
        out: address of the first vector's 16 products; those of the next one are ``out_stride`` bytes on.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (count, weights, stride, groups, x, out, out_stride) = Vectors(builder), args
        if not COMPILES:
            return context.get_dummy_value()
        _accumulate(v, weights, stride, groups, x)
        buffer = builder.ptrtoint(cgutils.alloca_once(builder, VF, VECTOR_TILES * TILE), I64)
        for block in range(VECTOR_TILES):
            start = v.at(buffer, 4 * LANES * TILE * block)
            store(v, block, start, ir.Constant(I64, 4 * LANES))
            rows = [v.load(v.at(start, 4 * LANES * row)) for row in range(TILE)]
            for vector, products in enumerate(_transpose(v, rows)):
                v.store(products, v.at(start, 4 * LANES * vector))
        with cgutils.for_range(builder, count, intp=I64) as loop:
            products = v.load(v.at(buffer, v.times(loop.index, 4 * LANES)))
            v.store(products, v.at(out, builder.mul(out_stride, loop.index)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


@intrinsic
def weighted_sum_tiles(_typing: Any, weights: Any, stride: Any, groups: Any, x: Any, out: Any, out_stride: Any) -> Any:
    """Compute 16 weighted sums of rows of 32 numbers.

    Args:
        weights: address of the sums' bf16 weights, ``stride`` bytes apart, for ``groups`` groups of rows.
        x: address of the rows as `pack_rows` stores them.
        out: address of the first sum; the next one is ``out_stride`` bytes on. All 16 are written.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (weights, stride, groups, x, out, out_stride) = Vectors(builder), args
        if COMPILES:
            _accumulate(v, weights, stride, groups, x)
            for block in range(VECTOR_TILES):
                store(v, block, v.at(out, 4 * TILE * block), out_stride)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen


def _accumulate(v: Vectors, weights: Any, stride: Any, groups: Any, x: Any) -> None:
    """Add up the products of all groups in the first tiles."""
    for block in range(VECTOR_TILES):
        clear(v, block)
    with cgutils.for_range(v.builder, groups, intp=I64) as loop:
        load(v, _WEIGHTS, v.at(weights, v.times(loop.index, 2 * GROUP)), stride)
        for block in range(VECTOR_TILES):
            start = v.at(x, v.times(v.at(v.times(groups, block), loop.index), 2 * GROUP * TILE))
            load(v, _VECTORS, start, ir.Constant(I64, 4 * TILE))
            add_product(v, block, _WEIGHTS, _VECTORS)


def _transpose(v: Vectors, rows: list[Any]) -> list[Any]:
    """Transpose 16 vectors of 16 numbers: swap the off-diagonal quarters, then those within each quarter, and so on."""
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
def pack_rows(_typing: Any, rows: Any, stride: Any, groups: Any, out: Any) -> Any:
    """Store groups of 32 rows of 32 bf16, ``stride`` bytes apart, as `pack_vector` would store their columns."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (rows, stride, groups, out) = Vectors(builder), args
        low = [2 * LANES * (lane % 2) + lane // 2 for lane in range(2 * LANES)]  # two rows interleaved
        halves = [ir.Constant(ir.VectorType(I32, 2 * LANES), lanes) for lanes in (low, [lane + LANES for lane in low])]
        pairs = v.times(groups, TILE)
        with cgutils.for_range(builder, pairs, intp=I64) as pair:
            first = v.at(rows, builder.mul(stride, v.times(pair.index, 2)))
            one, other = v.load(first, VHH), v.load(v.at(first, stride), VHH)
            for block, picked in enumerate(halves):
                offset = v.times(v.at(v.times(pairs, block), pair.index), 4 * TILE)
                v.store(builder.shuffle_vector(one, other, picked), v.at(out, offset))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def pack_vector(_typing: Any, x: Any, groups: Any, out: Any, index: Any) -> Any:
    """Store a float32 vector as the ``index``-th of 16 in bf16: first the first pair of numbers of each, and so on."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (x, groups, out, index) = Vectors(builder), args
        pairs = ir.VectorType(I32, LANES // 2)
        with cgutils.for_range(builder, groups, intp=I64) as loop:
            start = v.at(v.at(out, v.times(loop.index, 2 * GROUP * TILE)), v.times(index, 4))
            for half in range(2):
                value = v.load(v.at(x, v.at(v.times(loop.index, 4 * GROUP), 4 * LANES * half)))
                short = builder.bitcast(v.bf16(value), pairs)
                for lane in range(LANES // 2):
                    pair = builder.extract_element(short, ir.Constant(I32, lane))
                    v.store(pair, v.at(start, 4 * TILE * (half * LANES // 2 + lane)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen
