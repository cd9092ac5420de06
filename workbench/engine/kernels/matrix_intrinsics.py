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
    DEQUANTIZED,
    F32,
    FLOAT32,
    GROUP,
    I64,
    LANES,
    ROWS,
    SCALE_BYTES,
    VF,
    WEIGHT_BYTES,
    Vectors,
)  # fmt: skip

_REGISTER_ROWS = {8: 2, 4: 4, 2: 4, 1: 4}
"""Number of vectors to the number of rows multiplied together, chosen so that all sums stay in registers."""

_SUM_COUNTS = (4, 2, 1)
"""Numbers of weighted sums computed together, chosen for the same reason."""

PREFETCH_ROWS = 16
"""Distance in rows from the row that is read to the row that is prefetched."""


@intrinsic
def dot_products(
    _typing: Any, weight_format: Any, count: Any, data: Any, scale: Any, groups: Any, x: Any, x_stride: Any,
    out: Any, out_stride: Any,
) -> Any:  # fmt: skip
    """Multiply ``ROWS`` matrix rows with ``count`` float32 vectors; ``count`` is a key of `_REGISTER_ROWS`.

    ``data``, ``scale``, ``x`` and ``out`` are addresses. Strides are the bytes from one vector to the next. Rows have
    ``groups`` groups.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        weight_format, count, *rest = args
        for known in range(len(WEIGHT_BYTES)):
            with builder.if_then(builder.icmp_signed("==", weight_format, ir.Constant(I64, known))):
                for known_count in _REGISTER_ROWS:
                    with builder.if_then(builder.icmp_signed("==", count, ir.Constant(I64, known_count))):
                        _emit_dot_products(Vectors(builder), known, known_count, *rest)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), codegen


def _emit_dot_products(
    v: Vectors,
    weight_format: int,
    count: int,
    data: Any,
    scale: Any,
    groups: Any,
    x: Any,
    x_stride: Any,
    out: Any,
    out_stride: Any,
) -> None:
    together = _REGISTER_ROWS[count]
    for first in range(0, ROWS, together):
        _emit_rows(
            v, weight_format, count, range(first, first + together), data, scale, groups, x, x_stride, out, out_stride
        )


def _emit_rows(
    v: Vectors, weight_format: int, count: int, rows: range, data: Any, scale: Any, groups: Any, x: Any, x_stride: Any,
    out: Any, out_stride: Any,
) -> None:  # fmt: skip
    b = v.builder
    sums = {(row, index): cgutils.alloca_once_value(b, v.constant(0.0)) for row in rows for index in range(count)}
    for one in sums.values():
        b.store(v.constant(0.0), one)

    def address_of(start: Any, bytes_per_group: int, row: int, group: Any) -> Any:
        return v.at(v.at(start, v.times(groups, row * bytes_per_group)), v.times(group, bytes_per_group))

    with cgutils.for_range(b, groups, intp=I64) as loop:
        weights = {}
        if weight_format != DEQUANTIZED:
            _prefetch_rows(v, weight_format, rows, data, scale, groups, loop.index)
        for row in rows:
            weights[row] = v.load_group(
                weight_format,
                address_of(data, WEIGHT_BYTES[weight_format], row, loop.index),
                address_of(scale, SCALE_BYTES[weight_format], row, loop.index),
            )
        for half in range(2):  # one after the other, so that the halves of x fit into registers too
            for index in range(count):
                address = v.at(v.at(x, v.times(x_stride, index)), v.times(loop.index, 4 * GROUP))
                part = v.load(v.at(address, 4 * LANES * half))
                for row in rows:
                    b.store(v.fma(weights[row][half], part, b.load(sums[row, index])), sums[row, index])
    for (row, index), total in zip(sums, v.sums([b.load(one) for one in sums.values()]), strict=True):
        v.store(total, v.at(v.at(out, v.times(out_stride, index)), 4 * row))


def _prefetch_rows(v: Vectors, weight_format: int, rows: range, data: Any, scale: Any, groups: Any, group: Any) -> None:
    """Prefetch the ``group``-th part, of one part for each group, of the rows `PREFETCH_ROWS` after ``rows``."""
    for start, size in ((data, WEIGHT_BYTES[weight_format]), (scale, SCALE_BYTES[weight_format])):
        ahead, part = v.at(start, v.times(groups, (rows[0] + PREFETCH_ROWS) * size)), len(rows) * size
        for line in range(0, part, 64):
            v.prefetch(v.at(v.at(ahead, v.times(group, part)), line))


@intrinsic
def weighted_sums(
    _typing: Any, weight_format: Any, count: Any, rows: Any, stride: Any, groups: Any, weights: Any,
    weights_stride: Any, length: Any, out: Any, out_stride: Any,
) -> Any:  # fmt: skip
    """Compute ``count`` (of `_SUM_COUNTS`) weighted sums of ``length`` float32 or bf16 rows; ``length`` is even."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        weight_format, count, *rest = args
        for known in (FLOAT32, BF16):
            with builder.if_then(builder.icmp_signed("==", weight_format, ir.Constant(I64, known))):
                for known_count in _SUM_COUNTS:
                    with builder.if_then(builder.icmp_signed("==", count, ir.Constant(I64, known_count))):
                        _emit_weighted_sums(Vectors(builder), known, known_count, *rest)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 10), codegen


def _emit_weighted_sums(
    v: Vectors, weight_format: int, count: int, rows: Any, stride: Any, groups: Any, weights: Any, weights_stride: Any,
    length: Any, out: Any, out_stride: Any,
) -> None:  # fmt: skip
    b = v.builder
    parts = [(turn, index, half) for turn in range(2) for index in range(count) for half in range(2)]
    sums = {part: cgutils.alloca_once(b, VF) for part in parts}
    with cgutils.for_range(b, groups, intp=I64) as columns:
        for one in sums.values():
            b.store(v.constant(0.0), one)
        base = v.at(rows, v.times(columns.index, WEIGHT_BYTES[weight_format]))
        with cgutils.for_range(b, b.sdiv(length, ir.Constant(I64, 2)), intp=I64) as loop:
            for turn in range(2):
                row = v.at(v.times(loop.index, 2), turn)
                values = v.load_group(weight_format, v.at(base, b.mul(stride, row)), rows)
                for index in range(count):
                    address = v.at(v.at(weights, v.times(weights_stride, index)), v.times(row, 4))
                    weight = v.splat(v.load(address, F32))
                    for half, value in enumerate(values):
                        one = sums[turn, index, half]
                        b.store(v.fma(value, weight, b.load(one)), one)
        for index in range(count):
            for half in range(2):
                total = b.fadd(b.load(sums[0, index, half]), b.load(sums[1, index, half]))
                target = v.at(v.at(out, v.times(out_stride, index)), v.times(columns.index, 4 * GROUP))
                v.store(total, v.at(target, 4 * LANES * half))


@intrinsic
def dequantize_group(
    _typing: Any, weight_format: Any, data: Any, scale: Any, ahead: Any, scale_ahead: Any, out: Any
) -> Any:
    """Store a group of weights as float32, and prefetch the weights ``ahead`` and scales ``scale_ahead`` bytes on."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (weight_format, data, scale, ahead, scale_ahead, out) = Vectors(builder), args
        v.prefetch(v.at(data, ahead))
        v.prefetch(v.at(scale, scale_ahead))
        for known in range(DEQUANTIZED):
            with builder.if_then(builder.icmp_signed("==", weight_format, ir.Constant(I64, known))):
                for half, value in enumerate(v.load_group(known, data, scale)):
                    v.store(value, v.at(out, 4 * LANES * half))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen


@intrinsic
def dequantize_to_bf16(_typing: Any, weight_format: Any, data: Any, scale: Any, groups: Any, out: Any) -> Any:
    """Store consecutive groups of weights as bf16, rounded to nearest."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (weight_format, data, scale, groups, out) = Vectors(builder), args
        for known, size in enumerate(WEIGHT_BYTES):
            with (
                builder.if_then(builder.icmp_signed("==", weight_format, ir.Constant(I64, known))),
                cgutils.for_range(builder, groups, intp=I64) as loop,
            ):
                scales = v.at(scale, v.times(loop.index, SCALE_BYTES[known]))
                group = v.load_group_bf16(known, v.at(data, v.times(loop.index, size)), scales)
                v.store(group, v.at(out, v.times(loop.index, 2 * GROUP)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen
