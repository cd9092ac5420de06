"""LLVM instructions over vectors of 16 float32, and the formats in which weights are stored.

LLVM maps a vector to the registers of the CPU, from two of eight lanes to one of sixteen. Weights are dequantized to
float32 in registers. Sums are computed in one fixed order.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from llvmlite import binding, ir
from numba.core import cgutils, config

FLOAT32, BF16, FP8, INT8, INT4, DEQUANTIZED, FLOAT16 = range(7)
"""Formats of a matrix row. fp8, int8 and int4 have a float32 scale for each group, int4 a minimum too. `DEQUANTIZED` is
float32 that the step has just written: it is still cached, so it is not prefetched."""

Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K = range(7, 17)
"""Formats of GGUF files, which are read as the files have them, see `file_blocks`."""

FORMAT_NAMES = (
    *("float32", "bf16", "fp8", "int8", "int4", "dequantized", "float16"),
    *("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
)
"""Names by weight format."""

GROUP = 32
"""Columns that share a scale and are loaded together; rows are padded to a multiple."""

ROWS = 4
"""Matrix rows that are multiplied together; matrices are padded to a multiple."""

LANES = 16

_TANH_SERIES = (-1 / 3, 2 / 15, -17 / 315, 62 / 2835, -1382 / 155_925, 21_844 / 6_081_075, -929_569 / 638_512_875)
"""Coefficients of x**3, x**5 and so on in the Taylor series of tanh."""


class Layout(NamedTuple):
    """How a matrix row is stored: blocks of consecutive weights, which follow each other, and scales beside them."""

    weight_bytes: int
    """Bytes of a block; in files these include its scales."""
    scale_bytes: int = 0
    """Bytes of a block's scales."""
    groups: int = 1
    """Groups of a block, a power of two."""


LAYOUTS: dict[int, Layout] = {
    FLOAT32: Layout(4 * GROUP),
    BF16: Layout(2 * GROUP),
    FP8: Layout(GROUP, 4),
    INT8: Layout(GROUP, 4),
    INT4: Layout(GROUP // 2, 8),
    DEQUANTIZED: Layout(4 * GROUP),
    FLOAT16: Layout(2 * GROUP),
    Q4_0: Layout(18),
    Q4_1: Layout(20),
    Q5_0: Layout(22),
    Q5_1: Layout(24),
    Q8_0: Layout(34),
    Q2_K: Layout(84, groups=8),
    Q3_K: Layout(110, groups=8),
    Q4_K: Layout(144, groups=8),
    Q5_K: Layout(176, groups=8),
    Q6_K: Layout(210, groups=8),
}
"""Layouts by weight format."""

I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
VF, VI = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)
VH, VHH = ir.VectorType(I16, LANES), ir.VectorType(I16, 2 * LANES)

JOIN = ir.Constant(ir.VectorType(I32, 2 * LANES), list(range(2 * LANES)))
"""Shuffle mask that joins two vectors into one."""


def _features() -> dict[str, bool]:
    """Return the CPU's features; none if numba is configured to compile for another CPU."""
    if config.CPU_NAME or config.CPU_FEATURES:
        return {}
    return dict(binding.get_host_cpu_features())


FEATURES = _features()
HAS_PERMUTE = FEATURES.get("avx512f", False) and FEATURES.get("avx512bw", False)
"""Whether one instruction gathers the lanes of a vector by index (AVX-512)."""


class BFloat(ir.types.Type):  # type: ignore[misc]
    """LLVM's bf16 type, which llvmlite lacks."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BFloat)

    def __hash__(self) -> int:
        return hash(BFloat)


class Vectors:
    """Emitter of instructions on vectors of 16 float32; addresses are int64."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def at(self, address: Any, offset: Any) -> Any:
        """Return ``address + offset``, in bytes."""
        return self.builder.add(address, offset if hasattr(offset, "type") else ir.Constant(I64, offset))

    def times(self, value: Any, factor: int) -> Any:
        return self.builder.mul(value, ir.Constant(I64, factor))

    def load(self, address: Any, kind: Any = VF) -> Any:
        value = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        value.align = 1
        return value

    def store(self, value: Any, address: Any) -> None:
        self.builder.store(value, self.builder.inttoptr(address, value.type.as_pointer())).align = 1

    def constant(self, value: float, kind: Any = VF) -> Any:
        return ir.Constant(kind, [value] * LANES)

    def splat(self, value: Any) -> Any:
        undefined = ir.Constant(VF, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(I32, 0))
        return self.builder.shuffle_vector(first, undefined, self.constant(0, VI))

    def splat_int(self, value: Any) -> Any:
        """Return a vector of 16 int32, all ``value``."""
        undefined = ir.Constant(VI, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(I32, 0))
        return self.builder.shuffle_vector(first, undefined, self.constant(0, VI))

    def call(self, name: str, result: Any, *arguments: Any) -> Any:
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def prefetch(self, address: Any) -> None:
        """Prefetch a cache line into the second-level cache; any address is safe.

        The first level has room for fewer lines on their way: with it, one core reads memory half as fast.
        """
        b, pointer = self.builder, I8.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
        function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0i8")
        b.call(function, [b.inttoptr(address, pointer), *(ir.Constant(I32, setting) for setting in (0, 2, 1))])

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        return self.call(f"llvm.fma.v{LANES}f32", VF, x, y, z)

    def maximum(self, x: Any, y: Any) -> Any:
        return self.call(f"llvm.maxnum.v{LANES}f32", VF, x, y)

    def clamp_max(self, x: Any, limit: float) -> Any:
        """Return ``min(x, limit)``; NaN stays NaN."""
        most = self.constant(limit)
        return self.builder.select(self.builder.fcmp_ordered(">", x, most), most, x)

    def sum(self, x: Any) -> Any:
        return self.sums([x])[0]

    def sums(self, vectors: list[Any]) -> list[Any]:
        """Return the sum of each of 1, 2, 4, 8 or 16 vectors.

        Each vector is folded in half until one number is left. Two vectors are folded into one register, which does not
        change the order of the additions.
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
        """Return e**x for x up to 88, within 2 ulp: 2**n times a polynomial around 0."""
        b = self.builder
        lowest = self.constant(-87.0)
        x = b.select(b.fcmp_ordered("<", x, lowest), lowest, x)
        n = self.call(f"llvm.rint.v{LANES}f32", VF, b.fmul(x, self.constant(1 / math.log(2))))
        rest = self.fma(n, self.constant(-0.693359375), x)
        rest = self.fma(n, self.constant(2.12194440e-4), rest)  # ln 2 in two parts, for full precision
        value = self.constant(1 / 5040)
        for divisor in (720, 120, 24, 6, 2, 1, 1):
            value = self.fma(value, rest, self.constant(1 / divisor))
        power = b.shl(b.add(b.fptosi(n, VI), self.constant(127, VI)), self.constant(23, VI))
        return b.fmul(value, b.bitcast(power, VF))

    def tanh(self, x: Any) -> Any:
        """Return the hyperbolic tangent within 4 ulp: its series near 0, where the quotient would cancel."""
        b = self.builder
        square = b.fmul(x, x)
        series = self.constant(_TANH_SERIES[-1])
        for coefficient in reversed(_TANH_SERIES[:-1]):
            series = self.fma(series, square, self.constant(coefficient))
        power = self.exp(self.clamp_max(b.fadd(x, x), 88.0))
        quotient = b.fsub(self.constant(1.0), b.fdiv(self.constant(2.0), b.fadd(power, self.constant(1.0))))
        is_small = b.fcmp_ordered("<", square, self.constant(0.25))
        return b.select(is_small, self.fma(series, b.fmul(square, x), x), quotient)

    def load_group(self, weight_format: int, data: Any, scale: Any) -> tuple[Any, Any]:
        """Load a group of 32 weights as two float32 vectors; ``data`` and ``scale`` are addresses."""
        b = self.builder
        if weight_format in {FLOAT32, DEQUANTIZED}:
            return self.load(data), self.load(self.at(data, 4 * LANES))
        if weight_format == BF16:
            return self.load_bf16(data), self.load_bf16(self.at(data, 2 * LANES))
        if weight_format == FLOAT16:
            return self.load_float16(data), self.load_float16(self.at(data, 2 * LANES))
        scales = self.splat(self.load(scale, F32))
        bytes_ = ir.VectorType(I8, LANES)
        if weight_format == INT4:
            pairs = b.zext(self.load(data, bytes_), VI)
            high = b.lshr(pairs, self.constant(4, VI))
            minimum = self.splat(self.load(self.at(scale, 4), F32))
            if not HAS_PERMUTE:
                low = b.and_(pairs, self.constant(15, VI))
                return self.fma(b.uitofp(low, VF), scales, minimum), self.fma(b.uitofp(high, VF), scales, minimum)
            table = self._int4_values(scales, minimum)
            return self.permute(table, pairs), self.permute(table, high)
        halves = (self.load(data, bytes_), self.load(self.at(data, LANES), bytes_))
        if weight_format == INT8:
            first, second = (b.sitofp(b.sext(half, VI), VF) for half in halves)
        else:
            first, second = (self._from_e4m3(half) for half in halves)
        return b.fmul(first, scales), b.fmul(second, scales)

    def _int4_values(self, scales: Any, minimum: Any) -> Any:
        """Return the 16 values of an int4 group, indexed by the four bits of a weight."""
        return self.fma(ir.Constant(VF, list(range(LANES))), scales, minimum)

    def load_int4_bf16(self, data: Any, scale: Any) -> Any:
        """Load a group of 32 weights in int4 as the bits of bf16, rounded to nearest; needs `HAS_PERMUTE`."""
        b = self.builder
        scales, minimum = (self.splat(self.load(self.at(scale, offset), F32)) for offset in (0, 4))
        values = self.bf16(self._int4_values(scales, minimum))
        twice = b.shuffle_vector(values, values, JOIN)
        pairs = b.zext(self.load(data, ir.VectorType(I8, LANES)), VH)
        indices = b.shuffle_vector(pairs, b.lshr(pairs, ir.Constant(VH, [4] * LANES)), JOIN)
        return self.call("llvm.x86.avx512.permvar.hi.512", VHH, twice, indices)

    def load_bf16(self, address: Any) -> Any:
        b = self.builder
        wide = b.zext(self.load(address, ir.VectorType(I16, LANES)), VI)
        return b.bitcast(b.shl(wide, self.constant(16, VI)), VF)

    def load_float16(self, address: Any) -> Any:
        """Load 16 float16 as float32."""
        return self._from_float16(self.load(address, VH))

    def splat_float16(self, address: Any) -> Any:
        """Return a vector of 16 times the float16 at an address.

        It is converted as a vector, because LLVM would merge a single one into a register that is in use, and wait.
        """
        undefined = ir.Constant(VH, ir.Undefined)
        first = self.builder.insert_element(undefined, self.load(address, I16), ir.Constant(I32, 0))
        return self._from_float16(self.builder.shuffle_vector(first, undefined, self.constant(0, VI)))

    def _from_float16(self, bits: Any) -> Any:
        """Convert float16 to float32.

        Without an instruction for it: the shifted bits are 2**-112 times the number, as the exponent biases differ.
        """
        b = self.builder
        if FEATURES.get("f16c"):
            return b.fpext(b.bitcast(bits, ir.VectorType(ir.HalfType(), LANES)), VF)
        wide = b.zext(bits, VI)
        size = b.shl(b.and_(wide, self.constant(0x7FFF, VI)), self.constant(13, VI))
        is_finite = b.icmp_unsigned("<", size, self.constant(0x7C00 << 13, VI))
        finite = b.bitcast(b.fmul(b.bitcast(size, VF), self.constant(2.0**112)), VI)
        absolute = b.select(is_finite, finite, b.or_(size, self.constant(0x7F800000, VI)))
        sign = b.shl(b.and_(wide, self.constant(0x8000, VI)), self.constant(16, VI))
        return b.bitcast(b.or_(absolute, sign), VF)

    def lane(self, x: Any, index: int) -> Any:
        """Return a vector of 16 times one number of a vector."""
        return self.builder.shuffle_vector(x, x, self.constant(index, VI))

    def permute(self, values: Any, indices: Any) -> Any:
        """Look up values by the four lowest bits of int32; needs `HAS_PERMUTE`."""
        return self.call("llvm.x86.avx512.permvar.sf.512", VF, values, indices)

    def _from_e4m3(self, value: Any) -> Any:
        """Convert e4m3 to float32: its shifted bits are 2**-120 times the value, because the exponent biases differ."""
        b = self.builder
        wide = b.zext(value, VI)
        sign = b.shl(b.and_(wide, self.constant(0x80, VI)), self.constant(24, VI))
        rest = b.shl(b.and_(wide, self.constant(0x7F, VI)), self.constant(20, VI))
        return b.fmul(b.bitcast(b.or_(sign, rest), VF), self.constant(2.0**120))

    def bf16(self, x: Any) -> Any:
        """Return the bits of x rounded to bf16; NaN stays NaN."""
        b = self.builder
        if FEATURES.get("avx512bf16"):
            return b.bitcast(b.fptrunc(x, ir.VectorType(BFloat(), LANES)), VH)
        bits = b.bitcast(x, VI)
        even = b.and_(b.lshr(bits, self.constant(16, VI)), self.constant(1, VI))
        rounded = b.lshr(b.add(b.add(bits, even), self.constant(0x7FFF, VI)), self.constant(16, VI))
        quiet = b.or_(b.lshr(bits, self.constant(16, VI)), self.constant(0x40, VI))
        return b.trunc(b.select(b.fcmp_unordered("uno", x, x), quiet, rounded), VH)
