"""Loads of 32 weights from the blocks of GGUF files, with exactly the numbers that the files stand for.

The formats are those of llama.cpp. All numbers of a block are little-endian; ``d`` and ``m`` are float16:

======  =======  ==========================================================  ==========================================
format  weights  block                                                       a weight is
======  =======  ==========================================================  ==========================================
Q4_0    32       d, 16 bytes with two q each                                 ``d * (q - 8)``
Q4_1    32       d, m, 16 bytes with two q each                              ``d * q + m``
Q5_0    32       d, 32 fifth bits, 16 bytes with two q each                  ``d * (q - 16)``
Q5_1    32       d, m, 32 fifth bits, 16 bytes with two q each               ``d * q + m``
Q8_0    32       d, 32 bytes                                                 ``d * q``
Q2_K    256      16 bytes with s and n, 64 bytes with four q each, d, m      ``(d * s) * q - m * n``, s and n per 16
Q3_K    256      32 bytes of third bits, 64 bytes with four q each, 16 s of  ``(d * (s - 32)) * (q - 4)``, s per 16
                 6 bits in 12 bytes, d
Q4_K    256      d, m, 8 s and n of 6 bits in 12 bytes, 128 bytes with two   ``(d * s) * q - m * n``, s and n per 32
                 q each
Q5_K    256      d, m, 8 s and n of 6 bits in 12 bytes, 32 bytes of fifth    ``(d * s) * q - m * n``, s and n per 32
                 bits, 128 bytes with two q each
Q6_K    256      128 bytes with two q each, 64 bytes with four pairs of      ``(d * s) * (q - 32)``, s per 16
                 high bits each, 16 s of 8 bits, d
======  =======  ==========================================================  ==========================================

Products with scales are exact in float32, and the rest is rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir

from workbench.engine.kernels.simd import (
    GROUP,
    HAS_PERMUTE,
    I8,
    I16,
    I32,
    LANES,
    Q2_K,
    Q3_K,
    Q4_0,
    Q4_1,
    Q4_K,
    Q5_0,
    Q5_1,
    Q5_K,
    Q6_K,
    Q8_0,
    VF,
    VI,
    Vectors,
)  # fmt: skip

_BYTES, _GROUP_BYTES = ir.VectorType(I8, LANES), ir.VectorType(I8, GROUP)
_FLAGS = ir.VectorType(ir.IntType(1), LANES)

_HALVES = (0, 1)
"""A group is two vectors of 16 weights."""

_GROUPS = range(8)
"""Groups of a block of 256 weights."""

Weights = tuple[Any, Any]
"""A group of weights, as two float32 vectors."""


def load_file_block(v: Vectors, weight_format: int, block: Any) -> Iterator[Weights]:
    """Load the groups of a block, one after the other; ``block`` is its address."""
    return _LOADERS[weight_format](v, block)


def _q4_0(v: Vectors, block: Any) -> Iterator[Weights]:
    scale = v.splat_float16(block)
    offsets = ir.Constant(VF, [float(q - 8) for q in range(LANES)])
    yield _four_bits(v, v.at(block, 2), v.builder.fmul(offsets, scale), lambda q: v.builder.fmul(_less(v, q, 8), scale))


def _q4_1(v: Vectors, block: Any) -> Iterator[Weights]:
    scale, minimum = v.splat_float16(block), v.splat_float16(v.at(block, 2))
    values = v.fma(ir.Constant(VF, [float(q) for q in range(LANES)]), scale, minimum)
    yield _four_bits(v, v.at(block, 4), values, lambda q: v.fma(_float(v, q), scale, minimum))


def _q5_0(v: Vectors, block: Any) -> Iterator[Weights]:
    scale = v.splat_float16(block)
    first, second = (v.builder.fmul(_float(v, q), scale) for q in _five_bits(v, v.at(block, 2), 16))
    yield first, second


def _q5_1(v: Vectors, block: Any) -> Iterator[Weights]:
    scale, minimum = v.splat_float16(block), v.splat_float16(v.at(block, 2))
    first, second = (v.fma(_float(v, q), scale, minimum) for q in _five_bits(v, v.at(block, 4), 0))
    yield first, second


def _q8_0(v: Vectors, block: Any) -> Iterator[Weights]:
    b, scale = v.builder, v.splat_float16(block)
    numbers = (b.sext(v.load(v.at(block, 2 + LANES * half), _BYTES), VI) for half in _HALVES)
    first, second = (b.fmul(_float(v, q), scale) for q in numbers)
    yield first, second


def _q2_k(v: Vectors, block: Any) -> Iterator[Weights]:
    b = v.builder
    pairs = b.zext(v.load(block, _BYTES), VI)
    scales = b.fmul(_float(v, b.and_(pairs, v.constant(15, VI))), v.splat_float16(v.at(block, 80)))
    minima = b.fmul(_float(v, b.lshr(pairs, v.constant(4, VI))), b.fneg(v.splat_float16(v.at(block, 82))))
    for group in _GROUPS:
        q = _masked(v, _shifted(v, _quarter(v, v.at(block, 16), group), -2 * (group % 4)), 3)
        first, second = (
            v.fma(_float(v, part), v.lane(scales, 2 * group + half), v.lane(minima, 2 * group + half))
            for half, part in enumerate(_wide(v, q, v.builder.zext))
        )
        yield first, second


def _q3_k(v: Vectors, block: Any) -> Iterator[Weights]:
    b = v.builder
    scales = b.fmul(_float(v, _q3_scales(v, v.at(block, 96))), v.splat_float16(v.at(block, 108)))
    thirds = v.load(block, _GROUP_BYTES)
    for group in _GROUPS:
        low = _masked(v, _shifted(v, _quarter(v, v.at(block, 32), group), -2 * (group % 4)), 3)
        third = _masked(v, _shifted(v, thirds, 2 - group), 4)
        yield _scaled(v, b.sub(b.or_(low, third), _bytes(4)), scales, group)


def _q4_k(v: Vectors, block: Any) -> Iterator[Weights]:
    b, scales = v.builder, _k_scales(v, block)
    steps, four = ir.Constant(VF, [float(q) for q in range(LANES)]), v.constant(4, VI)
    for pair in range(len(_GROUPS) // 2):
        parts = [b.zext(v.load(v.at(block, 16 + GROUP * pair + LANES * half), _BYTES), VI) for half in _HALVES]
        for group in (2 * pair, 2 * pair + 1):
            q = parts if group % 2 == 0 else [b.lshr(part, four) for part in parts]
            scale, minimum = v.lane(scales, group), v.lane(scales, 8 + group)
            if HAS_PERMUTE:
                values = v.fma(steps, scale, minimum)
                yield v.permute(values, q[0]), v.permute(values, q[1])
            else:
                first, second = (v.fma(_float(v, b.and_(part, v.constant(15, VI))), scale, minimum) for part in q)
                yield first, second


def _q5_k(v: Vectors, block: Any) -> Iterator[Weights]:
    b, scales = v.builder, _k_scales(v, block)
    fifths = v.load(v.at(block, 16), _GROUP_BYTES)
    for group in _GROUPS:
        low = _masked(
            v, _shifted(v, v.load(v.at(block, 48 + GROUP * (group // 2)), _GROUP_BYTES), -4 * (group % 2)), 15
        )
        q = b.or_(low, _masked(v, _shifted(v, fifths, 4 - group), 16))
        scale, minimum = v.lane(scales, group), v.lane(scales, 8 + group)
        first, second = (v.fma(_float(v, part), scale, minimum) for part in _wide(v, q, b.zext))
        yield first, second


def _q6_k(v: Vectors, block: Any) -> Iterator[Weights]:
    b = v.builder
    own = b.sext(v.load(v.at(block, 192), _BYTES), VI)
    scales = b.fmul(_float(v, own), v.splat_float16(v.at(block, 208)))
    for group in _GROUPS:
        half, quarter = divmod(group, 4)
        low = v.load(v.at(block, 64 * half + GROUP * (quarter % 2)), _GROUP_BYTES)
        low = _masked(v, _shifted(v, low, -4 * (quarter // 2)), 15)
        high = _masked(v, _shifted(v, _quarter(v, v.at(block, 128), group), 4 - 2 * quarter), 48)
        yield _scaled(v, b.sub(b.or_(low, high), _bytes(32)), scales, group)


_LOADERS: dict[int, Callable[[Vectors, Any], Iterator[Weights]]] = {
    Q4_0: _q4_0,
    Q4_1: _q4_1,
    Q5_0: _q5_0,
    Q5_1: _q5_1,
    Q8_0: _q8_0,
    Q2_K: _q2_k,
    Q3_K: _q3_k,
    Q4_K: _q4_k,
    Q5_K: _q5_k,
    Q6_K: _q6_k,
}

FILE_FORMATS = frozenset(_LOADERS)


def _float(v: Vectors, integers: Any) -> Any:
    return v.builder.sitofp(integers, VF)


def _less(v: Vectors, integers: Any, offset: int) -> Any:
    return _float(v, v.builder.sub(integers, v.constant(offset, VI)))


def _bytes(number: int) -> Any:
    return ir.Constant(_GROUP_BYTES, [number] * GROUP)


def _masked(v: Vectors, numbers: Any, mask: int) -> Any:
    return v.builder.and_(numbers, _bytes(mask))


def _shifted(v: Vectors, numbers: Any, places: int) -> Any:
    """Shift each byte to the left, or to the right by a negative number of places."""
    if places < 0:
        return v.builder.lshr(numbers, _bytes(-places))
    return v.builder.shl(numbers, _bytes(places)) if places else numbers


def _wide(v: Vectors, numbers: Any, extend: Callable[[Any, Any], Any]) -> list[Any]:
    """Return the bytes of a group as two vectors of int32."""
    halves = (ir.Constant(VI, list(range(LANES * half, LANES * (half + 1)))) for half in _HALVES)
    return [extend(v.builder.shuffle_vector(numbers, numbers, half), VI) for half in halves]


def _scaled(v: Vectors, numbers: Any, scales: Any, group: int) -> Weights:
    """Return signed bytes times the two scales of a group, which are lanes of ``scales``."""
    first, second = (
        v.builder.fmul(_float(v, part), v.lane(scales, 2 * group + half))
        for half, part in enumerate(_wide(v, numbers, v.builder.sext))
    )
    return first, second


def _quarter(v: Vectors, address: Any, group: int) -> Any:
    """Load the 32 bytes that have two bits of each of four groups, among them ``group``."""
    return v.load(v.at(address, GROUP * (group // 4)), _GROUP_BYTES)


def _four_bits(v: Vectors, address: Any, values: Any, value: Callable[[Any], Any]) -> Weights:
    """Load 32 numbers of 4 bits: the low halves of 16 bytes are the first 16, the high halves the others.

    Args:
        values: the 16 values that a number stands for.
        value: function that computes the same from numbers, for processors that cannot look them up.
    """
    b, pairs = v.builder, v.builder.zext(v.load(address, _BYTES), VI)
    high = b.lshr(pairs, v.constant(4, VI))
    if HAS_PERMUTE:
        return v.permute(values, pairs), v.permute(values, high)
    return value(b.and_(pairs, v.constant(15, VI))), value(high)


def _five_bits(v: Vectors, address: Any, offset: int) -> list[Any]:
    """Load 32 fifth bits, and the other bits of 32 numbers behind them; subtract ``offset``, 16 or 0, from each."""
    b = v.builder
    fifths, pairs = v.load(address, I32), b.zext(v.load(v.at(address, 4), _BYTES), VI)
    parts = (b.trunc(b.lshr(fifths, ir.Constant(I32, shift)), I16) for shift in (0, LANES))
    numbers = (b.and_(pairs, v.constant(15, VI)), b.lshr(pairs, v.constant(4, VI)))
    changed = []
    for part, low in zip(parts, numbers, strict=True):
        flags = b.bitcast(part, _FLAGS)
        # Of a number below 16, the complement of its four bits is that number less 16.
        one, other = (low, b.or_(low, v.constant(-16, VI))) if offset else (b.or_(low, v.constant(16, VI)), low)
        changed.append(b.select(flags, one, other))
    return changed


def _k_scales(v: Vectors, block: Any) -> Any:
    """Return the scales of the eight groups of a block of Q4_K or Q5_K, and then the minima.

    The first 16 bytes are d and m, four bytes of scales, four of minima, and four with the low bits of the scales and
    minima of the last four groups, whose high bits are those of the first eight.
    """
    b = v.builder
    lanes = b.zext(v.load(block, _BYTES), VI)

    def shuffled(*starts: int) -> Any:
        return b.shuffle_vector(lanes, lanes, ir.Constant(VI, [start + lane for start in starts for lane in range(4)]))

    def constants(*numbers: int) -> Any:
        return ir.Constant(VI, [number for number in numbers for _ in range(4)])

    low = b.and_(b.lshr(shuffled(4, 12, 8, 12), constants(0, 0, 0, 4)), constants(63, 15, 63, 15))
    high = b.lshr(b.and_(shuffled(4, 4, 8, 8), constants(0, 192, 0, 192)), v.constant(2, VI))
    first, second = v.splat_float16(block), b.fneg(v.splat_float16(v.at(block, 2)))
    halves = ir.Constant(VI, [lane + (LANES if lane >= 8 else 0) for lane in range(LANES)])
    return b.fmul(_float(v, b.or_(low, high)), b.shuffle_vector(first, second, halves))


def _q3_scales(v: Vectors, address: Any) -> Any:
    """Return the 16 scales of a block of Q3_K: four bits each in 8 bytes, two more bits in 4 bytes behind them."""
    b = v.builder
    words = [v.load(v.at(address, 4 * part), ir.VectorType(I8, 4)) for part in range(3)]
    both = b.shuffle_vector(words[0], words[1], ir.Constant(VI, [*range(8)] * 2))
    low = b.lshr(b.zext(both, VI), ir.Constant(VI, [0] * 8 + [4] * 8))
    rest = b.shuffle_vector(words[2], words[2], ir.Constant(VI, [*range(4)] * 4))
    shifts = ir.Constant(VI, [2 * (lane // 4) for lane in range(LANES)])
    high = b.shl(b.and_(b.lshr(b.zext(rest, VI), shifts), v.constant(3, VI)), v.constant(4, VI))
    return b.sub(b.or_(b.and_(low, v.constant(15, VI)), high), v.constant(32, VI))
