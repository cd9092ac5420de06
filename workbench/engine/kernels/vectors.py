"""What the compiled step calls for its inner loops: numba intrinsics over addresses and vectors.

Each intrinsic's signature says what it takes; the instructions are written by its ``codegen``.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from workbench.engine.kernels.lanes import (
    BF16,
    BYTES_PER_GROUP,
    F32,
    FLOAT32,
    GROUP,
    I16,
    I32,
    I64,
    LANES,
    ROWS,
    SCALE_BYTES_PER_GROUP,
    VF,
    VI,
    Vectors,
)  # fmt: skip

_TILES = {8: 2, 4: 4, 2: 4, 1: 4}
"""How many vectors are multiplied at once, and with how many rows, so that all sums stay in registers."""

_AHEAD = 8
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
        vectors = []
        for index in range(count):
            address = v.at(v.at(x, v.times(x_step, index)), v.times(loop.index, 4 * GROUP))
            vectors.append((v.load(address), v.load(v.at(address, 4 * LANES))))
        for row in rows:
            for start, size in ((data, BYTES_PER_GROUP[form]), (scale, SCALE_BYTES_PER_GROUP[form])):
                for line in range(0, size, 64):
                    v.fetch(v.at(place(start, size, row + _AHEAD, loop.index), line))
            first, second = v.group(
                form,
                place(data, BYTES_PER_GROUP[form], row, loop.index),
                place(scale, SCALE_BYTES_PER_GROUP[form], row, loop.index),
            )
            for index, (left, right) in enumerate(vectors):
                total = v.fma(second, right, v.fma(first, left, b.load(sums[row, index])))
                b.store(total, sums[row, index])
    for (row, index), one in sums.items():
        v.store(v.sum(b.load(one)), v.at(v.at(out, v.times(out_step, index)), 4 * row))


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
def weighted_sum(_typing: Any, form: Any, rows: Any, step: Any, groups: Any, weights: Any, count: Any, out: Any) -> Any:
    """The sum of ``count`` rows (float32 or bf16), each times its weight; ``count`` is a multiple of `ROWS`."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        form, *rest = args
        for known in (FLOAT32, BF16):
            with builder.if_then(builder.icmp_signed("==", form, ir.Constant(I64, known))):
                _mix(Vectors(builder), known, *rest)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


def _mix(v: Vectors, form: int, rows: Any, step: Any, groups: Any, weights: Any, count: Any, out: Any) -> None:
    b = v.builder
    fours = b.sdiv(count, ir.Constant(I64, ROWS))
    with cgutils.for_range(b, groups, intp=I64) as columns:
        sums = [[cgutils.alloca_once(b, VF) for _ in range(2)] for _ in range(ROWS)]
        for pair in sums:
            for one in pair:
                b.store(v.all(0.0), one)
        base = v.at(rows, v.times(columns.index, BYTES_PER_GROUP[form]))
        with cgutils.for_range(b, fours, intp=I64) as loop:
            for index, pair in enumerate(sums):
                row = v.at(v.times(loop.index, ROWS), index)
                values = v.group(form, v.at(base, b.mul(step, row)), rows)
                weight = v.splat(v.load(v.at(weights, v.times(row, 4)), F32))
                for value, one in zip(values, pair, strict=True):
                    b.store(v.fma(value, weight, b.load(one)), one)
        for half in range(2):
            left, right, third, fourth = (b.load(pair[half]) for pair in sums)
            total = b.fadd(b.fadd(left, right), b.fadd(third, fourth))
            v.store(total, v.at(v.at(out, v.times(columns.index, 4 * GROUP)), 4 * LANES * half))


@intrinsic
def widened(_typing: Any, form: Any, data: Any, scale: Any, out: Any) -> Any:
    """Store a group of weights as bf16, rounded to nearest."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (form, data, scale, out) = Vectors(builder), args
        for known in BYTES_PER_GROUP:
            with builder.if_then(builder.icmp_signed("==", form, ir.Constant(I64, known))):
                for half, value in enumerate(v.group(known, data, scale)):
                    bits = builder.add(builder.bitcast(value, VI), v.all(0x8000, VI))
                    short = builder.trunc(builder.lshr(bits, v.all(16, VI)), ir.VectorType(I16, LANES))
                    v.store(short, v.at(out, 2 * LANES * half))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def read(_typing: Any, address: Any) -> Any:
    """A number that another thread may change."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(args[0], I64.as_pointer()), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def write(_typing: Any, address: Any, value: Any) -> Any:
    """Set a number that another thread waits for; all that was written before is seen with it."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], builder.inttoptr(args[0], I64.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def add(_typing: Any, address: Any, value: Any) -> Any:
    """Add to a number that other threads add to; what it was before."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(args[0], I64.as_pointer()), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def put(_typing: Any, form: Any, address: Any, value: Any) -> Any:
    """Store a float32 at an address, rounded to bf16 where that is the form."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        b, (form, address, value) = builder, args
        with b.if_else(b.icmp_signed("==", form, ir.Constant(I64, BF16))) as (bf16, float32):
            with bf16:
                bits = b.bitcast(value, I32)
                even = b.and_(b.lshr(bits, ir.Constant(I32, 16)), ir.Constant(I32, 1))
                rounded = b.lshr(b.add(b.add(bits, even), ir.Constant(I32, 0x7FFF)), ir.Constant(I32, 16))
                b.store(b.trunc(rounded, I16), b.inttoptr(address, I16.as_pointer()))
            with float32:
                b.store(value, b.inttoptr(address, F32.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), codegen


@intrinsic
def get(_typing: Any, address: Any) -> Any:
    """The float32 at an address."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], F32.as_pointer()))

    return types.float32(types.int64), codegen
