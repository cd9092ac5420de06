"""Numba intrinsics that read matrices of any weight format: dot products, weighted sums of rows, dequantization.

An intrinsic's signature lists its parameters; its ``codegen`` emits the LLVM instructions. Pointers are int64.
"""

from __future__ import annotations

from typing import Any

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
    I64,
    INT4,
    INT8,
    LANES,
    ROWS,
    SCALE_BYTES_PER_GROUP,
    UNPACKED,
    VF,
    Vectors,
)  # fmt: skip

_TILES = {8: 2, 4: 4, 2: 4, 1: 4}
"""How many vectors are multiplied at once, and with how many rows, so that all sums stay in registers."""

SUMS = (4, 2, 1)
"""How many weighted sums are taken at once, for the same reason."""

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
