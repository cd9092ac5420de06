"""Numba intrinsics that read matrices of any weight format: dot products, weighted sums of rows, dequantization.

An intrinsic's signature lists its parameters; its ``codegen`` emits the LLVM instructions. Pointers are int64. Formats
of matrices are constants, so that each function has the instructions of one format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from workbench.engine.kernels.file_blocks import FILE_FORMATS, load_file_block
from workbench.engine.kernels.simd import (
    BF16,
    DEQUANTIZED,
    F32,
    FLOAT32,
    GROUP,
    HAS_PERMUTE,
    I64,
    INT4,
    JOIN,
    LANES,
    LAYOUTS,
    ROWS,
    VF,
    VHH,
    Vectors,
)  # fmt: skip

_REGISTER_ROWS = {8: 2, 4: 4, 2: 4, 1: 4}
"""Number of vectors to the number of rows multiplied together, chosen so that all sums stay in registers."""

_SUM_COUNTS = (4, 2, 1)
"""Numbers of weighted sums computed together, chosen for the same reason."""

PREFETCH_ROWS = 16
"""Distance in rows from the row that is read to the row that is prefetched."""


@intrinsic(prefer_literal=True)
def dot_products(
    _typing: Any, weight_format: Any, count: Any, data: Any, scale: Any, groups: Any, x: Any, x_stride: Any,
    out: Any, out_stride: Any,
) -> Any:  # fmt: skip
    """Multiply ``ROWS`` matrix rows with ``count`` float32 vectors; ``count`` is a key of `_REGISTER_ROWS`.

    ``weight_format`` is a constant. ``data``, ``scale``, ``x`` and ``out`` are addresses. Strides are the bytes from
    one vector to the next. Rows have ``groups`` groups.
    """
    known = weight_format.literal_value

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        _, count, *rest = args
        for known_count in _REGISTER_ROWS:
            with builder.if_then(builder.icmp_signed("==", count, ir.Constant(I64, known_count))):
                _emit_dot_products(Vectors(builder), known, known_count, *rest)
        return context.get_dummy_value()

    return types.void(weight_format, *[types.int64] * 8), codegen


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
    data_stride, scale_stride = _row_bytes(v, weight_format, groups)
    starts = {row: (v.at(data, v.times(data_stride, row)), v.at(scale, v.times(scale_stride, row))) for row in rows}
    with cgutils.for_range(b, _blocks(v, weight_format, groups), intp=I64) as loop:
        blocks = {row: _load_block(v, weight_format, *starts[row], loop.index) for row in rows}
        for inner in range(LAYOUTS[weight_format].groups):
            group = v.at(v.times(loop.index, LAYOUTS[weight_format].groups), inner)
            if weight_format != DEQUANTIZED:
                _prefetch_rows(v, weight_format, rows, (data, data_stride), (scale, scale_stride), group)
            weights = {row: next(blocks[row]) for row in rows}
            for half in range(2):  # one after the other, so that the halves of x fit into registers too
                for index in range(count):
                    address = v.at(v.at(x, v.times(x_stride, index)), v.times(group, 4 * GROUP))
                    part = v.load(v.at(address, 4 * LANES * half))
                    for row in rows:
                        b.store(v.fma(weights[row][half], part, b.load(sums[row, index])), sums[row, index])
    for (row, index), total in zip(sums, v.sums([b.load(one) for one in sums.values()]), strict=True):
        v.store(total, v.at(v.at(out, v.times(out_stride, index)), 4 * row))


def _row_bytes(v: Vectors, weight_format: int, groups: Any) -> tuple[Any, Any]:
    """Return the bytes of a row's weights and of its scales."""
    layout = LAYOUTS[weight_format]
    return v.times(_blocks(v, weight_format, groups), layout.weight_bytes), v.times(groups, layout.scale_bytes)


def _blocks(v: Vectors, weight_format: int, groups: Any) -> Any:
    """Return the number of blocks with a number of groups, rounded down."""
    return v.builder.lshr(groups, ir.Constant(I64, LAYOUTS[weight_format].groups.bit_length() - 1))


def _load_block(v: Vectors, weight_format: int, data: Any, scale: Any, block: Any) -> Iterator[tuple[Any, Any]]:
    """Load the groups of the ``block``-th block from two addresses on, each as two float32 vectors."""
    layout = LAYOUTS[weight_format]
    start = v.at(data, v.times(block, layout.weight_bytes))
    if weight_format in FILE_FORMATS:
        yield from load_file_block(v, weight_format, start)
    else:
        yield v.load_group(weight_format, start, v.at(scale, v.times(block, layout.scale_bytes)))


def _load_block_bf16(v: Vectors, weight_format: int, data: Any, scale: Any, block: Any) -> Iterator[Any]:
    """Load the groups of the ``block``-th block from two addresses on as the bits of bf16, rounded to nearest."""
    layout = LAYOUTS[weight_format]
    start = v.at(data, v.times(block, layout.weight_bytes))
    if weight_format == BF16:
        yield v.load(start, VHH)
    elif weight_format == INT4 and HAS_PERMUTE:
        yield v.load_int4_bf16(start, v.at(scale, v.times(block, layout.scale_bytes)))
    else:
        for first, second in _load_block(v, weight_format, data, scale, block):
            yield v.builder.shuffle_vector(v.bf16(first), v.bf16(second), JOIN)


def _prefetch_rows(
    v: Vectors, weight_format: int, rows: range, data: tuple[Any, Any], scale: tuple[Any, Any], group: Any
) -> None:
    """Prefetch the ``group``-th part, of one part for each group, of the rows `PREFETCH_ROWS` after ``rows``.

    Args:
        data, scale: addresses, and the bytes of a row there.
    """
    layout = LAYOUTS[weight_format]
    for (start, stride), size, groups in (
        (data, len(rows) * layout.weight_bytes, layout.groups),
        (scale, len(rows) * layout.scale_bytes, 1),
    ):
        ahead = v.at(start, v.times(stride, rows[0] + PREFETCH_ROWS))
        part = v.builder.lshr(v.times(group, size), ir.Constant(I64, groups.bit_length() - 1))
        for line in range(0, -(-size // groups), 64):
            v.prefetch(v.at(v.at(ahead, part), line))


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
        base = v.at(rows, v.times(columns.index, LAYOUTS[weight_format].weight_bytes))
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


@intrinsic(prefer_literal=True)
def dequantize_blocks(
    _typing: Any, weight_format: Any, data: Any, scale: Any, blocks: Any, ahead: Any, out: Any
) -> Any:
    """Store consecutive blocks of weights as float32, and prefetch those ``ahead`` blocks on.

    ``weight_format`` is a constant; ``data``, ``scale`` and ``out`` are addresses.
    """
    known = weight_format.literal_value

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (_, data, scale, blocks, ahead, out) = Vectors(builder), args
        layout = LAYOUTS[known]
        with cgutils.for_range(builder, blocks, intp=I64) as loop:
            later = v.at(loop.index, ahead)
            for line in range(0, layout.weight_bytes, 64):
                v.prefetch(v.at(v.at(data, v.times(later, layout.weight_bytes)), line))
            v.prefetch(v.at(scale, v.times(later, layout.scale_bytes)))
            start = v.at(out, v.times(loop.index, 4 * GROUP * layout.groups))
            for inner, group in enumerate(_load_block(v, known, data, scale, loop.index)):
                for half, value in enumerate(group):
                    v.store(value, v.at(start, 4 * (GROUP * inner + LANES * half)))
        return context.get_dummy_value()

    return types.void(weight_format, *[types.int64] * 5), codegen


@intrinsic(prefer_literal=True)
def dequantize_to_bf16(_typing: Any, weight_format: Any, data: Any, scale: Any, blocks: Any, out: Any) -> Any:
    """Store consecutive blocks of weights as bf16, rounded to nearest; ``weight_format`` is a constant."""
    known = weight_format.literal_value

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (_, data, scale, blocks, out) = Vectors(builder), args
        size = 2 * GROUP * LAYOUTS[known].groups
        with cgutils.for_range(builder, blocks, intp=I64) as loop:
            for inner, group in enumerate(_load_block_bf16(v, known, data, scale, loop.index)):
                v.store(group, v.at(v.at(out, v.times(loop.index, size)), 2 * GROUP * inner))
        return context.get_dummy_value()

    return types.void(weight_format, *[types.int64] * 4), codegen


KERNEL_PARAMETERS = 12
"""Parameters of the functions that `call_kernel` calls, all int64."""


@intrinsic
def call_kernel(
    _typing: Any, kernel: Any, operation: Any, data: Any, scale: Any, groups: Any, first: Any, last: Any, x: Any,
    x_stride: Any, count: Any, out: Any, out_stride: Any, memory: Any,
) -> Any:  # fmt: skip
    """Call the function at an address that `matrix_kernel` returned."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kernel, *rest = args
        kind = ir.FunctionType(I64, [I64] * KERNEL_PARAMETERS)
        return builder.call(builder.inttoptr(kernel, kind.as_pointer()), rest)

    return types.int64(*[types.int64] * (1 + KERNEL_PARAMETERS)), codegen
