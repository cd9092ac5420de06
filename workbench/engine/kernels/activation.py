"""Activation functions of MLPs, as one numba intrinsic over rows of float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from workbench.engine.kernels.simd import I64, LANES, Vectors

_ERFC = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
"""Coefficients of t**5 to t in Abramowitz and Stegun's approximation 7.1.26 of the error function, with an absolute
error of at most 1.5e-7."""


def _sigmoid_times(v: Vectors, x: Any, z: Any) -> Any:
    """Return ``x / (1 + e**-z)``."""
    b = v.builder
    divisor = b.fadd(v.exp(v.clamp_max(b.fneg(z), 88.0)), v.constant(1.0))
    return b.fdiv(x, divisor)


def _silu(v: Vectors, x: Any) -> Any:
    return _sigmoid_times(v, x, x)


def _gelu_tanh(v: Vectors, x: Any) -> Any:
    """Return GELU by its tanh approximation, ``x * (1 + tanh(z)) / 2``, which is ``x * sigmoid(2 * z)``."""
    b, factor = v.builder, 2.0 * math.sqrt(2.0 / math.pi)
    cubic = v.fma(b.fmul(x, x), v.constant(factor * 0.044715), v.constant(factor))
    return _sigmoid_times(v, x, b.fmul(x, cubic))


def _gelu(v: Vectors, x: Any) -> Any:
    """Return ``x * (1 + erf(x / sqrt(2))) / 2``, which is ``max(x, 0) - abs(x) * erfc(abs(x) / sqrt(2)) / 2``."""
    b = v.builder
    size = b.select(b.fcmp_ordered("<", x, v.constant(0.0)), b.fneg(x), x)
    z = b.fmul(size, v.constant(math.sqrt(0.5)))
    t = b.fdiv(v.constant(1.0), v.fma(z, v.constant(0.3275911), v.constant(1.0)))
    polynomial = v.constant(_ERFC[0])
    for coefficient in _ERFC[1:]:
        polynomial = v.fma(polynomial, t, v.constant(coefficient))
    complement = b.fmul(b.fmul(polynomial, t), v.exp(b.fneg(b.fmul(z, z))))
    return v.fma(b.fmul(size, v.constant(-0.5)), complement, _relu(v, x))


def _relu(v: Vectors, x: Any) -> Any:
    return v.builder.select(v.builder.fcmp_ordered("<", x, v.constant(0.0)), v.constant(0.0), x)


def _relu2(v: Vectors, x: Any) -> Any:
    positive = _relu(v, x)
    return v.builder.fmul(positive, positive)


_EMITTERS: dict[str, Callable[[Vectors, Any], Any]] = {
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
    "relu2": _relu2,
}

ACTIVATION_IDS = {name: index for index, name in enumerate(_EMITTERS)}
"""Numbers by which kernels name activations."""


@intrinsic
def activate(_typing: Any, activation: Any, x: Any, out: Any, count: Any) -> Any:
    """Write an activation, a value of `ACTIVATION_IDS`, of ``count`` vectors at an address."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (activation, x, out, count) = Vectors(builder), args
        for name, number in ACTIVATION_IDS.items():
            is_this = builder.icmp_signed("==", activation, ir.Constant(I64, number))
            with builder.if_then(is_this), cgutils.for_range(builder, count, intp=I64) as loop:
                offset = v.times(loop.index, 4 * LANES)
                v.store(_EMITTERS[name](v, v.load(v.at(x, offset))), v.at(out, offset))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen
