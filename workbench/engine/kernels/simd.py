"""Vectors of 16 floats in LLVM's instructions, and the forms in which weights stand in memory.

LLVM maps the vectors to whatever the processor has, from two registers of eight lanes to one of sixteen. Weights are
widened to float32 in registers. Sums are taken in one fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, config

FLOAT32, BF16, FP8, INT8, INT4, UNPACKED = range(6)
"""Forms of a matrix row. fp8, int8 and int4 come in groups with a float32 scale, the last with a minimum too; unpacked
is float32 that was written a moment ago, and need not be fetched."""

GROUP = 32
"""Columns that are read together; rows are padded to a multiple."""

ROWS = 4
"""Matrix rows that are read together; matrices are padded to a multiple."""

LANES = 16

BYTES_PER_GROUP = {FLOAT32: 4 * GROUP, BF16: 2 * GROUP, FP8: GROUP, INT8: GROUP, INT4: GROUP // 2, UNPACKED: 4 * GROUP}
SCALE_BYTES_PER_GROUP = {FLOAT32: 0, BF16: 0, FP8: 4, INT8: 4, INT4: 8, UNPACKED: 0}
I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
VF, VI = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)
VH, VHH = ir.VectorType(I16, LANES), ir.VectorType(I16, 2 * LANES)


def _features() -> dict[str, bool]:
    """The processor's instructions; none but the common ones where numba was told to write for another processor."""
    if config.CPU_NAME or config.CPU_FEATURES:
        return {}
    return dict(binding.get_host_cpu_features())


FEATURES = _features()
PICKS = FEATURES.get("avx512f", False) and FEATURES.get("avx512bw", False)
"""Whether one instruction picks numbers from a vector by their places."""


class _BFloat(ir.types.Type):  # type: ignore[misc]
    """LLVM's bf16, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


class Vectors:
    """Writes operations on vectors of 16 floats; addresses are integers."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def at(self, address: Any, offset: Any) -> Any:
        return self.builder.add(address, offset if hasattr(offset, "type") else ir.Constant(I64, offset))

    def times(self, value: Any, factor: int) -> Any:
        return self.builder.mul(value, ir.Constant(I64, factor))

    def load(self, address: Any, kind: Any = VF) -> Any:
        value = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        value.align = 1
        return value

    def store(self, value: Any, address: Any) -> None:
        self.builder.store(value, self.builder.inttoptr(address, value.type.as_pointer())).align = 1

    def all(self, value: float, kind: Any = VF) -> Any:
        return ir.Constant(kind, [value] * LANES)

    def splat(self, value: Any) -> Any:
        undefined = ir.Constant(VF, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(I32, 0))
        return self.builder.shuffle_vector(first, undefined, self.all(0, VI))

    def call(self, name: str, result: Any, *arguments: Any) -> Any:
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def fetch(self, address: Any) -> None:
        """Ask for a cache line that will be read soon; harmless where there is none."""
        b, pointer, number = self.builder, I8.as_pointer(), (I32, I32, I32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, *number])
        fetch = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0i8")
        b.call(fetch, [b.inttoptr(address, pointer), *(ir.Constant(I32, setting) for setting in (0, 3, 1))])

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        return self.call(f"llvm.fma.v{LANES}f32", VF, x, y, z)

    def largest(self, x: Any, y: Any) -> Any:
        return self.call(f"llvm.maxnum.v{LANES}f32", VF, x, y)

    def at_most(self, x: Any, limit: float) -> Any:
        """NaN stays NaN."""
        most = self.all(limit)
        return self.builder.select(self.builder.fcmp_ordered(">", x, most), most, x)

    def sum(self, x: Any) -> Any:
        return self.sums([x])[0]

    def sums(self, vectors: list[Any]) -> list[Any]:
        """The sum of each of 1, 2, 4, 8 or 16 vectors.

        Each is folded in half until one number is left, in the same order whoever is beside it; two vectors share the
        register into which they are folded as long as there are two.
        """
        b, count, width = self.builder, len(vectors), LANES
        while width > 1:
            width //= 2
            first = [start + lane for start in range(0, LANES, 2 * width) for lane in range(width)]
            low = [*first, *(lane + LANES for lane in first)]
            lows, highs = (ir.Constant(VI, lanes) for lanes in (low, [lane + width for lane in low]))
            pairs = zip(vectors[::2], vectors[1::2] or vectors, strict=True)
            vectors = [b.fadd(b.shuffle_vector(x, y, lows), b.shuffle_vector(x, y, highs)) for x, y in pairs]
        return [b.extract_element(vectors[0], ir.Constant(I32, index)) for index in range(count)]

    def exp(self, x: Any) -> Any:
        """E to the x for x up to 88, within 2 units in the last place: 2**n times a polynomial around 0."""
        b = self.builder
        lowest = self.all(-87.0)
        x = b.select(b.fcmp_ordered("<", x, lowest), lowest, x)
        n = self.call(f"llvm.rint.v{LANES}f32", VF, b.fmul(x, self.all(1 / math.log(2))))
        rest = self.fma(n, self.all(-0.693359375), x)
        rest = self.fma(n, self.all(2.12194440e-4), rest)  # ln 2 in two parts, so that nothing is lost
        value = self.all(1 / 5040)
        for divisor in (720, 120, 24, 6, 2, 1, 1):
            value = self.fma(value, rest, self.all(1 / divisor))
        power = b.shl(b.add(b.fptosi(n, VI), self.all(127, VI)), self.all(23, VI))
        return b.fmul(value, b.bitcast(power, VF))

    def group(self, form: int, data: Any, scale: Any) -> tuple[Any, Any]:
        """One group of 32 weights as two vectors; ``data`` and ``scale`` are addresses."""
        b = self.builder
        if form in {FLOAT32, UNPACKED}:
            return self.load(data), self.load(self.at(data, 4 * LANES))
        if form == BF16:
            return self._widened(data), self._widened(self.at(data, 2 * LANES))
        by = self.splat(self.load(scale, F32))
        bytes_ = ir.VectorType(I8, LANES)
        if form == INT4:
            pairs = b.zext(self.load(data, bytes_), VI)
            high = b.lshr(pairs, self.all(4, VI))
            minimum = self.splat(self.load(self.at(scale, 4), F32))
            if not PICKS:
                low = b.and_(pairs, self.all(15, VI))
                return self.fma(b.uitofp(low, VF), by, minimum), self.fma(b.uitofp(high, VF), by, minimum)
            values = self._values(by, minimum)
            first, second = (self.call("llvm.x86.avx512.permvar.sf.512", VF, values, place) for place in (pairs, high))
            return first, second
        halves = (self.load(data, bytes_), self.load(self.at(data, LANES), bytes_))
        if form == INT8:
            first, second = (b.sitofp(b.sext(half, VI), VF) for half in halves)
        else:
            first, second = (self._from_e4m3(half) for half in halves)
        return b.fmul(first, by), b.fmul(second, by)

    def _values(self, by: Any, minimum: Any) -> Any:
        """All that the numbers of an int4 group can be, to pick from by their four bits."""
        return self.fma(ir.Constant(VF, list(range(LANES))), by, minimum)

    def bf16_group(self, form: int, data: Any, scale: Any) -> Any:
        """One group of 32 weights as bits of bf16, rounded to nearest."""
        b = self.builder
        if form == BF16:
            return self.load(data, VHH)
        if form == INT4 and PICKS:
            by, minimum = (self.splat(self.load(self.at(scale, place), F32)) for place in (0, 4))
            values = self.bf16(self._values(by, minimum))
            twice = b.shuffle_vector(values, values, _places(range(2 * LANES)))
            pairs = b.zext(self.load(data, ir.VectorType(I8, LANES)), VH)
            places = b.shuffle_vector(pairs, b.lshr(pairs, ir.Constant(VH, [4] * LANES)), _places(range(2 * LANES)))
            return self.call("llvm.x86.avx512.permvar.hi.512", VHH, twice, places)
        first, second = (self.bf16(half) for half in self.group(form, data, scale))
        return b.shuffle_vector(first, second, _places(range(2 * LANES)))

    def _widened(self, address: Any) -> Any:
        b = self.builder
        wide = b.zext(self.load(address, ir.VectorType(I16, LANES)), VI)
        return b.bitcast(b.shl(wide, self.all(16, VI)), VF)

    def _from_e4m3(self, value: Any) -> Any:
        """e4m3 is a float32 with fewer bits and another bias: moved into place it is 2**-120 of its value."""
        b = self.builder
        wide = b.zext(value, VI)
        sign = b.shl(b.and_(wide, self.all(0x80, VI)), self.all(24, VI))
        rest = b.shl(b.and_(wide, self.all(0x7F, VI)), self.all(20, VI))
        return b.fmul(b.bitcast(b.or_(sign, rest), VF), self.all(2.0**120))

    def bf16(self, x: Any) -> Any:
        """Bits of x rounded to bf16; NaN stays NaN."""
        b = self.builder
        if FEATURES.get("avx512bf16"):
            return b.bitcast(b.fptrunc(x, ir.VectorType(_BFloat(), LANES)), VH)
        bits = b.bitcast(x, VI)
        even = b.and_(b.lshr(bits, self.all(16, VI)), self.all(1, VI))
        rounded = b.lshr(b.add(b.add(bits, even), self.all(0x7FFF, VI)), self.all(16, VI))
        quiet = b.or_(b.lshr(bits, self.all(16, VI)), self.all(0x40, VI))
        return b.trunc(b.select(b.fcmp_unordered("uno", x, x), quiet, rounded), VH)


def _places(places: Iterable[int]) -> Any:
    """Of the numbers that a shuffle takes."""
    taken = list(places)
    return ir.Constant(ir.VectorType(I32, len(taken)), taken)
