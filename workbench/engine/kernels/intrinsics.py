"""What the compiled step calls for its inner loops: numba intrinsics over addresses and vectors.

Each intrinsic's signature says what it takes; the instructions are written by its ``codegen``.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from workbench.engine.kernels.simd import (
    BF16,
    BYTES_PER_GROUP,
    F32,
    FLOAT32,
    FP8,
    GROUP,
    I32,
    I64,
    INT4,
    INT8,
    LANES,
    ROWS,
    SCALE_BYTES_PER_GROUP,
    UNPACKED,
    VF,
    VI,
    Vectors,
)  # fmt: skip

_TILES = {8: 2, 4: 4, 2: 4, 1: 4}
"""How many vectors are multiplied at once, and with how many rows, so that all sums stay in registers."""

SUMS = (4, 2, 1)
"""How many weighted sums are taken at once, for the same reason."""

BLOCK = 64
"""Numbers of a long row that share a maximum when the largest ones are looked for."""

AHEAD = 8
"""Rows between the one that is read and the one that is fetched from memory meanwhile."""


@intrinsic
def dots(
    _typing: Any,
    form: Any,
    count: Any,
    data: Any,
    scale: Any,
    groups: Any,
    x: Any,
    x_step: Any,
    out: Any,
    out_step: Any,
) -> Any:
    """``ROWS`` rows of a matrix of a form times ``count`` vectors, ``count`` one of `_TILES`.

    ``data``, ``scale``, ``x`` and ``out`` are addresses; ``x_step`` and ``out_step`` are the bytes from one vector to
    the next; ``groups`` is the length of a row.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        form, count, *rest = args
        for known in BYTES_PER_GROUP:
            with builder.if_then(builder.icmp_signed("==", form, ir.Constant(I64, known))):
                for tile in _TILES:
                    with builder.if_then(builder.icmp_signed("==", count, ir.Constant(I64, tile))):
                        _dots(Vectors(builder), known, tile, *rest)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), codegen


def _dots(
    v: Vectors, form: int, count: int, data: Any, scale: Any, groups: Any, x: Any, x_step: Any, out: Any, out_step: Any
) -> None:
    together = _TILES[count]
    for first in range(0, ROWS, together):
        _dots_of_rows(v, form, count, range(first, first + together), data, scale, groups, x, x_step, out, out_step)


def _dots_of_rows(
    v: Vectors, form: int, count: int, rows: range, data: Any, scale: Any, groups: Any, x: Any, x_step: Any, out: Any,
    out_step: Any,
) -> None:  # fmt: skip
    b = v.builder
    sums = {(row, index): cgutils.alloca_once_value(b, v.all(0.0)) for row in rows for index in range(count)}
    for one in sums.values():
        b.store(v.all(0.0), one)

    def place(start: Any, bytes_per_group: int, row: int, group: Any) -> Any:
        return v.at(v.at(start, v.times(groups, row * bytes_per_group)), v.times(group, bytes_per_group))

    with cgutils.for_range(b, groups, intp=I64) as loop:
        weights = {}
        for row in rows:
            for start, size in ((data, BYTES_PER_GROUP[form]), (scale, SCALE_BYTES_PER_GROUP[form])):
                for line in range(0, 0 if form == UNPACKED else size, 64):
                    v.fetch(v.at(place(start, size, row + AHEAD, loop.index), line))
            weights[row] = v.group(
                form,
                place(data, BYTES_PER_GROUP[form], row, loop.index),
                place(scale, SCALE_BYTES_PER_GROUP[form], row, loop.index),
            )
        for half in range(2):  # one after the other, so that the vectors' halves find room in registers too
            for index in range(count):
                address = v.at(v.at(x, v.times(x_step, index)), v.times(loop.index, 4 * GROUP))
                part = v.load(v.at(address, 4 * LANES * half))
                for row in rows:
                    b.store(v.fma(weights[row][half], part, b.load(sums[row, index])), sums[row, index])
    for (row, index), total in zip(sums, v.sums([b.load(one) for one in sums.values()]), strict=True):
        v.store(total, v.at(v.at(out, v.times(out_step, index)), 4 * row))


@intrinsic
def exponentials(_typing: Any, values: Any, count: Any) -> Any:
    """Replace scores by their exponentials, the largest by 1; the sum. Reads whole vectors: the rest is -inf."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (values, count) = Vectors(builder), args
        best = cgutils.alloca_once_value(builder, v.all(-math.inf))
        with cgutils.for_range(builder, count, intp=I64) as loop:
            address = v.at(values, v.times(loop.index, 4 * LANES))
            builder.store(v.largest(builder.load(best), v.load(address)), best)
        top = v.splat(v.call(f"llvm.vector.reduce.fmax.v{LANES}f32", F32, builder.load(best)))
        total = cgutils.alloca_once_value(builder, v.all(0.0))
        with cgutils.for_range(builder, count, intp=I64) as loop:
            address = v.at(values, v.times(loop.index, 4 * LANES))
            value = v.exp(builder.fsub(v.load(address), top))
            v.store(value, address)
            builder.store(builder.fadd(builder.load(total), value), total)
        return v.sum(builder.load(total))

    return types.float32(types.int64, types.int64), codegen


@intrinsic
def root_mean_square_norm(_typing: Any, x: Any, count: Any, width: Any, weight: Any, eps: Any, out: Any) -> Any:
    """Norm of a row of ``count`` vectors, zeros behind its ``width``; the weight has zeros there too."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (x, count, width, weight, eps, out) = Vectors(builder), args
        squares = cgutils.alloca_once_value(builder, v.all(0.0))
        builder.store(v.all(0.0), squares)
        with cgutils.for_range(builder, count, intp=I64) as loop:
            value = v.load(v.at(x, v.times(loop.index, 4 * LANES)))
            builder.store(v.fma(value, value, builder.load(squares)), squares)
        mean = builder.fdiv(v.sums([builder.load(squares)])[0], width)
        root = v.call("llvm.sqrt.f32", F32, builder.fadd(mean, eps))
        factor = v.splat(builder.fdiv(ir.Constant(F32, 1.0), root))
        with cgutils.for_range(builder, count, intp=I64) as loop:
            offset = v.times(loop.index, 4 * LANES)
            value = builder.fmul(v.load(v.at(x, offset)), factor)
            v.store(builder.fmul(value, v.load(v.at(weight, offset))), v.at(out, offset))
        return context.get_dummy_value()

    f, i = types.float32, types.int64
    return types.void(i, i, f, i, f, i), codegen


@intrinsic
def scaled(_typing: Any, x: Any, factor: Any, count: Any, out: Any) -> Any:
    """``x * factor`` over ``count`` vectors."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (x, factor, count, out) = Vectors(builder), args
        factors = v.splat(factor)
        with cgutils.for_range(builder, count, intp=I64) as loop:
            offset = v.times(loop.index, 4 * LANES)
            v.store(builder.fmul(v.load(v.at(x, offset)), factors), v.at(out, offset))
        return context.get_dummy_value()

    return types.void(types.int64, types.float32, types.int64, types.int64), codegen


@intrinsic
def silu_times(_typing: Any, gate: Any, up: Any, out: Any, count: Any) -> Any:
    """``silu(gate) * up`` over ``count`` vectors."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (gate, up, out, count) = Vectors(builder), args
        with cgutils.for_range(builder, count, intp=I64) as loop:
            offset = v.times(loop.index, 4 * LANES)
            x = v.load(v.at(gate, offset))
            divisor = builder.fadd(v.exp(v.at_most(builder.fneg(x), 88.0)), v.all(1.0))
            v.store(builder.fmul(builder.fdiv(x, divisor), v.load(v.at(up, offset))), v.at(out, offset))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def weighted_sums(
    _typing: Any,
    form: Any,
    count: Any,
    rows: Any,
    step: Any,
    groups: Any,
    weights: Any,
    weights_step: Any,
    length: Any,
    out: Any,
    out_step: Any,
) -> Any:
    """``count`` sums (of `SUMS`) of ``length`` rows, float32 or bf16, each row times its weight; the length is even."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        form, count, *rest = args
        for known in (FLOAT32, BF16):
            with builder.if_then(builder.icmp_signed("==", form, ir.Constant(I64, known))):
                for tile in SUMS:
                    with builder.if_then(builder.icmp_signed("==", count, ir.Constant(I64, tile))):
                        _mix(Vectors(builder), known, tile, *rest)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 10), codegen


def _mix(
    v: Vectors, form: int, count: int, rows: Any, step: Any, groups: Any, weights: Any, weights_step: Any, length: Any,
    out: Any, out_step: Any,
) -> None:  # fmt: skip
    b = v.builder
    parts = [(turn, index, half) for turn in range(2) for index in range(count) for half in range(2)]
    sums = {part: cgutils.alloca_once(b, VF) for part in parts}
    with cgutils.for_range(b, groups, intp=I64) as columns:
        for one in sums.values():
            b.store(v.all(0.0), one)
        base = v.at(rows, v.times(columns.index, BYTES_PER_GROUP[form]))
        with cgutils.for_range(b, b.sdiv(length, ir.Constant(I64, 2)), intp=I64) as loop:
            for turn in range(2):
                row = v.at(v.times(loop.index, 2), turn)
                values = v.group(form, v.at(base, b.mul(step, row)), rows)
                for index in range(count):
                    address = v.at(v.at(weights, v.times(weights_step, index)), v.times(row, 4))
                    weight = v.splat(v.load(address, F32))
                    for half, value in enumerate(values):
                        one = sums[turn, index, half]
                        b.store(v.fma(value, weight, b.load(one)), one)
        for index in range(count):
            for half in range(2):
                total = b.fadd(b.load(sums[0, index, half]), b.load(sums[1, index, half]))
                place = v.at(v.at(out, v.times(out_step, index)), v.times(columns.index, 4 * GROUP))
                v.store(total, v.at(place, 4 * LANES * half))


@intrinsic
def unpacked(_typing: Any, form: Any, data: Any, scale: Any, ahead: Any, scale_ahead: Any, out: Any) -> Any:
    """Store a group of weights as float32, and fetch what lies so many bytes ahead."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (form, data, scale, ahead, scale_ahead, out) = Vectors(builder), args
        v.fetch(v.at(data, ahead))
        v.fetch(v.at(scale, scale_ahead))
        for known in (FLOAT32, BF16, FP8, INT8, INT4):
            with builder.if_then(builder.icmp_signed("==", form, ir.Constant(I64, known))):
                for half, value in enumerate(v.group(known, data, scale)):
                    v.store(value, v.at(out, 4 * LANES * half))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen


@intrinsic
def widened(_typing: Any, form: Any, data: Any, scale: Any, groups: Any, out: Any) -> Any:
    """Store so many groups of weights, one behind the other, as bf16, rounded to nearest."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (form, data, scale, groups, out) = Vectors(builder), args
        for known, size in BYTES_PER_GROUP.items():
            with (
                builder.if_then(builder.icmp_signed("==", form, ir.Constant(I64, known))),
                cgutils.for_range(builder, groups, intp=I64) as loop,
            ):
                scales = v.at(scale, v.times(loop.index, SCALE_BYTES_PER_GROUP[known]))
                group = v.bf16_group(known, v.at(data, v.times(loop.index, size)), scales)
                v.store(group, v.at(out, v.times(loop.index, 2 * GROUP)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


@intrinsic
def block_maxima(_typing: Any, values: Any, blocks: Any, out: Any) -> Any:
    """The largest float32 of each ``BLOCK`` of them; NaN is passed over."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (values, blocks, out) = Vectors(builder), args
        with cgutils.for_range(builder, blocks, intp=I64) as loop:
            start = v.at(values, v.times(loop.index, 4 * BLOCK))
            found = v.load(start)
            for offset in range(LANES, BLOCK, LANES):
                found = v.largest(found, v.load(v.at(start, 4 * offset)))
            top = v.call(f"llvm.vector.reduce.fmax.v{LANES}f32", F32, found)
            v.store(top, v.at(out, v.times(loop.index, 4)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


@intrinsic
def block_sums(_typing: Any, values: Any, blocks: Any, factor: Any, maxima: Any, totals: Any, weighted: Any) -> Any:
    """Of each ``BLOCK`` of float32, as many float32 each: its largest, as `block_maxima` has it, and two sums.

    With d = (x - largest) * factor they are those of e**d and of d * e**d; NaN makes them NaN.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (values, blocks, factor, maxima, totals, weighted) = Vectors(builder), args
        factors, lowest = v.splat(factor), v.all(-87.0)
        least = ir.Constant(F32, float(np.finfo(np.float32).min))  # else a block of minus infinity would have no sums
        with cgutils.for_range(builder, blocks, intp=I64) as loop:
            start, place = v.at(values, v.times(loop.index, 4 * BLOCK)), v.times(loop.index, 4)
            vectors = [v.load(v.at(start, 4 * offset)) for offset in range(0, BLOCK, LANES)]
            top = v.call(f"llvm.vector.reduce.fmax.v{LANES}f32", F32, reduce(v.largest, vectors))
            v.store(top, v.at(maxima, place))
            tops = v.splat(v.call("llvm.maxnum.f32", F32, top, least))
            total, total_weighted = v.all(0.0), v.all(0.0)
            for vector in vectors:
                d = builder.fmul(builder.fsub(vector, tops), factors)
                d = builder.select(builder.fcmp_ordered("<", d, lowest), lowest, d)
                e = v.exp(d)
                total, total_weighted = builder.fadd(total, e), v.fma(e, d, total_weighted)
            for one, out in zip(v.sums([total, total_weighted]), (totals, weighted), strict=True):
                v.store(one, v.at(out, place))
        return context.get_dummy_value()

    i, f = types.int64, types.float32
    return types.void(i, i, f, i, i, i), codegen


@intrinsic
def count_above(_typing: Any, values: Any, count: Any, limit: Any) -> Any:
    """How many numbers of ``count`` vectors are greater than a limit."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (values, count, limit) = Vectors(builder), args
        limits = v.splat(limit)
        total = cgutils.alloca_once_value(builder, v.all(0, VI))
        with cgutils.for_range(builder, count, intp=I64) as loop:
            x = v.load(v.at(values, v.times(loop.index, 4 * LANES)))
            one = builder.zext(builder.fcmp_ordered(">", x, limits), VI)
            builder.store(builder.add(builder.load(total), one), total)
        return builder.zext(v.call(f"llvm.vector.reduce.add.v{LANES}i32", I32, builder.load(total)), I64)

    return types.int64(types.int64, types.int64, types.float32), codegen
