"""Numba intrinsics over rows of float32: norms, softmax, soft cap, and the block reductions of logits.

Pointers are int64; a ``count`` is in vectors of `LANES` numbers, so rows are padded to whole vectors.
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

from workbench.engine.kernels.simd import F32, I32, I64, LANES, VI, Vectors

BLOCK = 64
"""Logits per block; a search for the largest logits skips blocks by their maximum."""


@intrinsic
def exp_and_sum(_typing: Any, values: Any, count: Any) -> Any:
    """Replace scores by ``exp(score - max)`` and return their sum; pad the last vector with -inf."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (values, count) = Vectors(builder), args
        maximum = cgutils.alloca_once_value(builder, v.constant(-math.inf))
        with cgutils.for_range(builder, count, intp=I64) as loop:
            address = v.at(values, v.times(loop.index, 4 * LANES))
            builder.store(v.maximum(builder.load(maximum), v.load(address)), maximum)
        top = v.splat(v.call(f"llvm.vector.reduce.fmax.v{LANES}f32", F32, builder.load(maximum)))
        total = cgutils.alloca_once_value(builder, v.constant(0.0))
        with cgutils.for_range(builder, count, intp=I64) as loop:
            address = v.at(values, v.times(loop.index, 4 * LANES))
            value = v.exp(builder.fsub(v.load(address), top))
            v.store(value, address)
            builder.store(builder.fadd(builder.load(total), value), total)
        return v.sum(builder.load(total))

    return types.float32(types.int64, types.int64), codegen


@intrinsic
def rms_norm(_typing: Any, x: Any, count: Any, width: Any, weight: Any, eps: Any, out: Any) -> Any:
    """Write the RMS norm of ``width`` numbers, padded with zeros to ``count`` vectors, as the weight is."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (x, count, width, weight, eps, out) = Vectors(builder), args
        squares = cgutils.alloca_once_value(builder, v.constant(0.0))
        builder.store(v.constant(0.0), squares)
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
def layer_norm(_typing: Any, x: Any, count: Any, width: Any, weight: Any, bias: Any, eps: Any, out: Any) -> Any:
    """Write the layer norm of ``width`` numbers; rows, weight and bias are padded with zeros to ``count`` vectors.

    ``bias`` is an address, or 0 for none.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (x, count, width, weight, bias, eps, out) = Vectors(builder), args
        size = builder.sitofp(width, F32)
        lanes, end = ir.Constant(VI, list(range(LANES))), v.splat_int(builder.trunc(width, I32))
        total = cgutils.alloca_once_value(builder, v.constant(0.0))
        builder.store(v.constant(0.0), total)
        with cgutils.for_range(builder, count, intp=I64) as loop:
            value = v.load(v.at(x, v.times(loop.index, 4 * LANES)))
            builder.store(builder.fadd(builder.load(total), value), total)
        mean = v.splat(builder.fdiv(v.sum(builder.load(total)), size))
        builder.store(v.constant(0.0), total)
        with cgutils.for_range(builder, count, intp=I64) as loop:
            value = builder.fsub(v.load(v.at(x, v.times(loop.index, 4 * LANES))), mean)
            index = builder.add(v.splat_int(builder.trunc(v.times(loop.index, LANES), I32)), lanes)
            value = builder.select(builder.icmp_signed("<", index, end), value, v.constant(0.0))
            builder.store(v.fma(value, value, builder.load(total)), total)
        variance = builder.fdiv(v.sum(builder.load(total)), size)
        root = v.call("llvm.sqrt.f32", F32, builder.fadd(variance, eps))
        factor = v.splat(builder.fdiv(ir.Constant(F32, 1.0), root))
        with cgutils.for_range(builder, count, intp=I64) as loop:
            offset = v.times(loop.index, 4 * LANES)
            value = builder.fmul(builder.fsub(v.load(v.at(x, offset)), mean), factor)
            v.store(builder.fmul(value, v.load(v.at(weight, offset))), v.at(out, offset))
        has_bias = builder.icmp_signed("!=", bias, ir.Constant(I64, 0))
        with builder.if_then(has_bias), cgutils.for_range(builder, count, intp=I64) as loop:
            offset = v.times(loop.index, 4 * LANES)
            v.store(builder.fadd(v.load(v.at(out, offset)), v.load(v.at(bias, offset))), v.at(out, offset))
        return context.get_dummy_value()

    f, i = types.float32, types.int64
    return types.void(i, i, i, i, i, f, i), codegen


@intrinsic
def scale_row(_typing: Any, x: Any, factor: Any, count: Any, out: Any) -> Any:
    """Write ``x * factor``."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (x, factor, count, out) = Vectors(builder), args
        factors = v.splat(factor)
        with cgutils.for_range(builder, count, intp=I64) as loop:
            offset = v.times(loop.index, 4 * LANES)
            v.store(builder.fmul(v.load(v.at(x, offset)), factors), v.at(out, offset))
        return context.get_dummy_value()

    return types.void(types.int64, types.float32, types.int64, types.int64), codegen


@intrinsic
def add_row(_typing: Any, x: Any, factor: Any, count: Any, out: Any) -> Any:
    """Add ``x * factor`` to ``out``."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (x, factor, count, out) = Vectors(builder), args
        factors = v.splat(factor)
        with cgutils.for_range(builder, count, intp=I64) as loop:
            offset = v.times(loop.index, 4 * LANES)
            value = builder.fmul(v.load(v.at(x, offset)), factors)
            v.store(builder.fadd(v.load(v.at(out, offset)), value), v.at(out, offset))
        return context.get_dummy_value()

    return types.void(types.int64, types.float32, types.int64, types.int64), codegen


@intrinsic
def multiply_row(_typing: Any, x: Any, y: Any, count: Any) -> Any:
    """Multiply ``x`` by ``y``, in place."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (x, y, count) = Vectors(builder), args
        with cgutils.for_range(builder, count, intp=I64) as loop:
            offset = v.times(loop.index, 4 * LANES)
            v.store(builder.fmul(v.load(v.at(x, offset)), v.load(v.at(y, offset))), v.at(x, offset))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


@intrinsic
def soft_cap(_typing: Any, x: Any, cap: Any, count: Any) -> Any:
    """Replace numbers by ``cap * tanh(x / cap)``."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (x, cap, count) = Vectors(builder), args
        caps = v.splat(cap)
        with cgutils.for_range(builder, count, intp=I64) as loop:
            address = v.at(x, v.times(loop.index, 4 * LANES))
            v.store(builder.fmul(v.tanh(builder.fdiv(v.load(address), caps)), caps), address)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32, types.int64), codegen


@intrinsic
def block_maxima(_typing: Any, values: Any, blocks: Any, out: Any) -> Any:
    """Write the maximum of each block of ``BLOCK`` float32; NaN is ignored."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (values, blocks, out) = Vectors(builder), args
        with cgutils.for_range(builder, blocks, intp=I64) as loop:
            start = v.at(values, v.times(loop.index, 4 * BLOCK))
            found = v.load(start)
            for offset in range(LANES, BLOCK, LANES):
                found = v.maximum(found, v.load(v.at(start, 4 * offset)))
            top = v.call(f"llvm.vector.reduce.fmax.v{LANES}f32", F32, found)
            v.store(top, v.at(out, v.times(loop.index, 4)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


@intrinsic
def block_sums(_typing: Any, values: Any, blocks: Any, factor: Any, maxima: Any, totals: Any, weighted: Any) -> Any:
    """Write three float32 for each block: its maximum, as in `block_maxima`, and the sums of e**d and of d * e**d.

    Here d = (x - maximum) * factor. NaN makes the sums NaN.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (values, blocks, factor, maxima, totals, weighted) = Vectors(builder), args
        factors, lowest = v.splat(factor), v.constant(-87.0)
        least = ir.Constant(F32, float(np.finfo(np.float32).min))  # otherwise the sums of a block of -inf would be NaN
        with cgutils.for_range(builder, blocks, intp=I64) as loop:
            start, offset = v.at(values, v.times(loop.index, 4 * BLOCK)), v.times(loop.index, 4)
            vectors = [v.load(v.at(start, 4 * lane)) for lane in range(0, BLOCK, LANES)]
            top = v.call(f"llvm.vector.reduce.fmax.v{LANES}f32", F32, reduce(v.maximum, vectors))
            v.store(top, v.at(maxima, offset))
            tops = v.splat(v.call("llvm.maxnum.f32", F32, top, least))
            total, total_weighted = v.constant(0.0), v.constant(0.0)
            for vector in vectors:
                d = builder.fmul(builder.fsub(vector, tops), factors)
                d = builder.select(builder.fcmp_ordered("<", d, lowest), lowest, d)
                e = v.exp(d)
                total, total_weighted = builder.fadd(total, e), v.fma(e, d, total_weighted)
            for one, out in zip(v.sums([total, total_weighted]), (totals, weighted), strict=True):
                v.store(one, v.at(out, offset))
        return context.get_dummy_value()

    i, f = types.int64, types.float32
    return types.void(i, i, f, i, i, i), codegen


@intrinsic
def count_above(_typing: Any, values: Any, count: Any, limit: Any) -> Any:
    """Return how many numbers are greater than ``limit``."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (values, count, limit) = Vectors(builder), args
        limits = v.splat(limit)
        total = cgutils.alloca_once_value(builder, v.constant(0, VI))
        with cgutils.for_range(builder, count, intp=I64) as loop:
            x = v.load(v.at(values, v.times(loop.index, 4 * LANES)))
            one = builder.zext(builder.fcmp_ordered(">", x, limits), VI)
            builder.store(builder.add(builder.load(total), one), total)
        return builder.zext(v.call(f"llvm.vector.reduce.add.v{LANES}i32", I32, builder.load(total)), I64)

    return types.int64(types.int64, types.int64, types.float32), codegen
