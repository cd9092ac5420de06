"""Numba intrinsics over panels: the activations of 32 tokens, one token in each column.

Prompts are computed with tokens in columns, because then a product of weights and activations needs no transposition:
its rows are the outputs, and each lane of a vector is a token. A token's numbers never meet those of another token
outside attention, so they do not depend on the panel that the token is in.

The right factor of a product is packed: in float32 it is the panel itself; in bf16 each row of 128 bytes holds two
features of all tokens, interleaved, as the processor's dot products of pairs read them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from workbench.engine.kernels import tiles
from workbench.engine.kernels.simd import BF16, F32, FEATURES, I32, I64, LANES, VF, BFloat, Vectors

PANEL = 32
"""Tokens of a panel, and rows of weights that are multiplied with it together."""

ROW_BYTES = 4 * PANEL

FMA, DOT, TILES = range(3)
"""Arithmetics of a product: float32; bf16 dot products of pairs; bf16 matrix tiles. Sums are float32 in all."""

ARITHMETICS = {FMA: "float32", DOT: "bf16 dot products (AVX-512)", TILES: "bf16 matrix tiles (AMX)"}

HAS_DOT = FEATURES.get("avx512bf16", False)

_WIDE = FEATURES.get("avx512f", False)
_TURNS = [(first, 8) for first in range(0, PANEL, 8)]
_NARROW_TURNS = [*((first, 6) for first in range(0, 24, 6)), (24, 4), (28, 4)]
"""First row and number of rows that are multiplied together: as many sums as stay in registers."""

TURN = 8 if _WIDE else 6
"""Rows of one turn."""

_HALVES = (0, 1)
"""A panel's row is two vectors."""


@intrinsic
def multiply_panel(
    _typing: Any, arithmetic: Any, rows: Any, stride: Any, panel: Any, count: Any, out: Any, out_stride: Any
) -> Any:
    """Multiply 32 rows with a packed panel of ``count`` rows; write 32 rows of 32 numbers.

    Args:
        rows: address of the left factor, in float32 for `FMA` and otherwise bf16, rows ``stride`` bytes apart.
        panel: address of the packed panel.
        count: number of packed rows: the number of columns of the left factor, or half of it in bf16.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (arithmetic, *rest) = Vectors(builder), args
        for known, emit in _products().items():
            with builder.if_then(builder.icmp_signed("==", arithmetic, ir.Constant(I64, known))):
                emit(v, *rest)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


def _products() -> dict[int, Callable[..., None]]:
    """The arithmetics that this CPU has, each with the function that emits its product."""
    products: dict[int, Callable[..., None]] = {FMA: _multiply_float32}
    if HAS_DOT:
        products[DOT] = _multiply_pairs
    if tiles.COMPILES:
        products[TILES] = _multiply_tiles
    return products


def _multiply_float32(v: Vectors, *args: Any) -> None:
    turns: Iterable[tuple[int, int]] = _TURNS if _WIDE else _NARROW_TURNS
    for first, rows in turns:
        for halves in halves_in_registers():
            multiply_rows(v, range(first, first + rows), halves, v.fma, *args)


def halves_in_registers() -> tuple[tuple[int, ...], ...]:
    """The vectors of a panel's row that a turn multiplies together: both, or one after the other."""
    return (_HALVES,) if _WIDE else ((0,), (1,))


def _multiply_pairs(v: Vectors, *args: Any) -> None:
    pairs = ir.VectorType(BFloat(), 2 * LANES)

    def add(weights: Any, x: Any, total: Any) -> Any:
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        return v.call(name, VF, total, v.builder.bitcast(weights, pairs), v.builder.bitcast(x, pairs))

    for first, rows in _TURNS:
        multiply_rows(v, range(first, first + rows), _HALVES, add, *args)


def multiply_rows(
    v: Vectors, rows: range, halves: tuple[int, ...], add: Callable[[Any, Any, Any], Any], start: Any, stride: Any,
    panel: Any, count: Any, out: Any, out_stride: Any, panel_stride: Any = None, summands: Any = None,
) -> None:  # fmt: skip
    """Emit a product of some rows with the vectors ``halves`` of a panel; ``add`` adds one product to a sum.

    Args:
        panel_stride: bytes from a row of the panel to the next; by default they are adjacent.
        summands: address of a row of 32 numbers that is added to every row.
    """
    b, row_bytes = v.builder, ir.Constant(I64, ROW_BYTES) if panel_stride is None else panel_stride
    addresses = {row: v.at(start, v.times(stride, row)) for row in rows}
    sums = {(row, half): cgutils.alloca_once(b, VF) for row in rows for half in halves}
    for (_, half), one in sums.items():
        b.store(v.constant(0.0) if summands is None else v.load(v.at(summands, 4 * LANES * half)), one)
    with cgutils.for_range(b, count, intp=I64) as loop:
        x = {half: v.load(v.at(panel, v.at(b.mul(loop.index, row_bytes), 4 * LANES * half))) for half in halves}
        for row in rows:
            weight = v.splat(v.load(v.at(addresses[row], v.times(loop.index, 4)), F32))
            for half in halves:
                b.store(add(weight, x[half], b.load(sums[row, half])), sums[row, half])
    for (row, half), one in sums.items():
        v.store(b.load(one), v.at(v.at(out, v.times(out_stride, row)), 4 * LANES * half))


def _multiply_tiles(
    v: Vectors, start: Any, stride: Any, panel: Any, count: Any, out: Any, out_stride: Any
) -> None:  # fmt: skip
    sums, rows, columns = range(4), (4, 5), (6, 7)  # registers
    for register in sums:
        tiles.clear(v, register)
    steps = v.builder.sdiv(count, ir.Constant(I64, tiles.TILE))
    with cgutils.for_range(v.builder, steps, intp=I64) as loop:
        for block, register in enumerate(rows):
            first = v.at(start, v.times(stride, block * tiles.TILE))
            tiles.load(v, register, v.at(first, v.times(loop.index, 4 * tiles.TILE)), stride)
        for block, register in enumerate(columns):
            first = v.at(panel, v.times(loop.index, ROW_BYTES * tiles.TILE))
            tiles.load(v, register, v.at(first, 4 * tiles.TILE * block), ir.Constant(I64, ROW_BYTES))
        for register in sums:
            tiles.add_product(v, register, rows[register // 2], columns[register % 2])
    for register in sums:
        row, column = divmod(register, 2)
        first = v.at(out, v.times(out_stride, row * tiles.TILE))
        tiles.store(v, register, v.at(first, 4 * tiles.TILE * column), out_stride)


def _pack(v: Vectors, arithmetic: Any, rows: tuple[list[Any], list[Any]], out: Any, index: Any) -> None:
    """Store the ``index``-th pair of a panel's rows, each of two vectors, as a packed panel has them."""
    b = v.builder
    with b.if_else(b.icmp_signed("==", arithmetic, ir.Constant(I64, FMA))) as (float32, bf16):
        with float32:
            for row, halves in enumerate(rows):
                start = v.at(out, v.at(v.times(index, 2 * ROW_BYTES), ROW_BYTES * row))
                for half, value in enumerate(halves):
                    v.store(value, v.at(start, 4 * LANES * half))
        with bf16:
            lanes = [lane // 2 + LANES * (lane % 2) for lane in range(2 * LANES)]
            interleaved = ir.Constant(ir.VectorType(I32, 2 * LANES), lanes)
            for half, values in enumerate(zip(*rows, strict=True)):
                pair = b.shuffle_vector(*map(v.bf16, values), interleaved)
                v.store(pair, v.at(v.at(out, v.times(index, ROW_BYTES)), 4 * LANES * half))


def _row(v: Vectors, start: Any, index: Any) -> list[Any]:
    first = v.at(start, v.times(index, ROW_BYTES))
    return [v.load(v.at(first, 4 * LANES * half)) for half in _HALVES]


@intrinsic
def pack_panel(_typing: Any, arithmetic: Any, rows: Any, count: Any, out: Any) -> Any:
    """Pack ``count`` rows of a panel, an even number, from and to an address."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (arithmetic, rows, count, out) = Vectors(builder), args
        with cgutils.for_range(builder, builder.sdiv(count, ir.Constant(I64, 2)), intp=I64) as loop:
            first = v.times(loop.index, 2)
            _pack(v, arithmetic, (_row(v, rows, first), _row(v, rows, v.at(first, 1))), out, loop.index)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def column_sums_of_squares(_typing: Any, rows: Any, count: Any, out: Any) -> Any:
    """Write the sum of squares of each of the 32 columns of ``count`` rows."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (rows, count, out) = Vectors(builder), args
        _reduce_columns(v, rows, count, out, 0.0, lambda x, total: v.fma(x, x, total))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


@intrinsic
def column_maxima(_typing: Any, rows: Any, count: Any, out: Any) -> Any:
    """Write the maximum of each of the 32 columns of ``count`` rows; NaN is ignored."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (rows, count, out) = Vectors(builder), args
        _reduce_columns(v, rows, count, out, float("-inf"), v.maximum)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


def _reduce_columns(v: Vectors, rows: Any, count: Any, out: Any, first: float, add: Callable[[Any, Any], Any]) -> None:
    b = v.builder
    totals = [cgutils.alloca_once(b, VF) for _ in _HALVES]
    for one in totals:
        b.store(v.constant(first), one)
    with cgutils.for_range(b, count, intp=I64) as loop:
        for one, value in zip(totals, _row(v, rows, loop.index), strict=True):
            b.store(add(value, b.load(one)), one)
    for half, one in enumerate(totals):
        v.store(b.load(one), v.at(out, 4 * LANES * half))


@intrinsic
def exp_columns(_typing: Any, arithmetic: Any, rows: Any, count: Any, maxima: Any, sums: Any, out: Any) -> Any:
    """Pack ``exp(x - maximum of its column)`` of ``count`` rows, an even number, and write the sum of each column."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        b, v, (arithmetic, rows, count, maxima, sums, out) = builder, Vectors(builder), args
        tops = _row(v, maxima, ir.Constant(I64, 0))
        totals = [cgutils.alloca_once(b, VF) for _ in _HALVES]
        for one in totals:
            b.store(v.constant(0.0), one)
        with cgutils.for_range(b, b.sdiv(count, ir.Constant(I64, 2)), intp=I64) as loop:
            packed = []
            for row in range(2):
                x = _row(v, rows, v.at(v.times(loop.index, 2), row))
                values = [_exp_or_zero(v, b.fsub(one, top)) for one, top in zip(x, tops, strict=True)]
                for one, value in zip(totals, values, strict=True):
                    b.store(b.fadd(b.load(one), value), one)
                packed.append(values)
            _pack(v, arithmetic, (packed[0], packed[1]), out, loop.index)
        for half, one in enumerate(totals):
            v.store(b.load(one), v.at(sums, 4 * LANES * half))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen


def _exp_or_zero(v: Vectors, x: Any) -> Any:
    """Return e**x, and exactly zero where it is below the least that `Vectors.exp` returns."""
    return v.builder.select(v.builder.fcmp_ordered("<", x, v.constant(-87.0)), v.constant(0.0), v.exp(x))


@intrinsic
def transpose_block(
    _typing: Any, from_bf16: Any, rows: Any, stride: Any, to_bf16: Any, out: Any, out_stride: Any
) -> Any:  # fmt: skip
    """Transpose 16 rows of 16 numbers; both sides are float32, or bf16 where their flag is `BF16`."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        b, v, (source, rows, stride, target, out, out_stride) = builder, Vectors(builder), args
        buffer = [cgutils.alloca_once(b, VF) for _ in range(LANES)]
        starts = [v.at(rows, v.times(stride, row)) for row in range(LANES)]
        with b.if_else(b.icmp_signed("==", source, ir.Constant(I64, BF16))) as (bf16, float32):
            with bf16:
                for one, start in zip(buffer, starts, strict=True):
                    b.store(v.load_bf16(start), one)
            with float32:
                for one, start in zip(buffer, starts, strict=True):
                    b.store(v.load(start), one)
        columns = tiles.transpose(v, [b.load(one) for one in buffer])
        targets = [v.at(out, v.times(out_stride, column)) for column in range(LANES)]
        with b.if_else(b.icmp_signed("==", target, ir.Constant(I64, BF16))) as (bf16, float32):
            with bf16:
                for column, start in zip(columns, targets, strict=True):
                    v.store(v.bf16(column), start)
            with float32:
                for column, start in zip(columns, targets, strict=True):
                    v.store(column, start)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen


@intrinsic
def to_bf16(_typing: Any, x: Any, out: Any) -> Any:
    """Store a row of a panel as 32 bf16."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (x, out) = Vectors(builder), args
        halves = [v.bf16(value) for value in _row(v, x, ir.Constant(I64, 0))]
        joined = ir.Constant(ir.VectorType(I32, 2 * LANES), list(range(2 * LANES)))
        v.store(builder.shuffle_vector(*halves, joined), out)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 2), codegen
