"""Precisions of the general decoder's weights, and linear layers that multiply them.

A decode step multiplies every weight with one row, so it is bound by memory bandwidth: the fewer bits, the faster. A
prefill multiplies the weights with hundreds of rows and is bound by arithmetic, which is fastest in bf16. Layers of 4
and 8 bits therefore also hold bf16 weights for many rows, unless memory is short.

===========  ==========================================  =====================================================
precision    weights for one row                         weights for many rows
===========  ==========================================  =====================================================
``float32``  the file's                                  the same
``bf16``     bf16, packed once                           the same
``fp8``      e4m3 with a scale per row                   the same, converted to bf16 at each use
``int8``     int8 with a scale per row                   bf16 in addition
``int4``     4-bit groups of 32, scale and zero in bf16  bf16 in addition
===========  ==========================================  =====================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.engine.weight_sizes import GROUP, fits_int4, fits_int8
from workbench.engine.weights import Blocks

Precision = Literal["float32", "bf16", "fp8", "int8", "int4", "file"]
"""``file`` is that of each tensor as it is stored, in a GGUF file mostly; the general decoder computes it as bf16."""

PRECISIONS: tuple[Precision, ...] = ("float32", "bf16", "fp8", "int8", "int4")
"""Precisions that a person asks for."""

MANY_ROWS = 9
"""Number of rows from which bf16 weights are faster than int4 and int8 ones."""


class Linear(Protocol):
    """Interface of a linear layer."""

    nbytes: int
    """Size of the weights in bytes."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x @ weight.T + bias``, shape (rows, in) to (rows, out)."""


class DenseLinear:
    """Unpacked weights: float32, or bf16 if oneDNN does not support it."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = weight
        self.bias = bias
        self.nbytes = weight.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class PackedBf16Linear:
    """bf16 weights in oneDNN's layout; unpacked ones would be reordered at every call."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        weight = weight.to(torch.bfloat16)
        self.nbytes = weight.nbytes
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
        self._bias = None if bias is None else bias.to(torch.bfloat16)

    def __call__(self, x: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")
        return product


class Fp8Linear:
    """e4m3 weights with one scale per row, converted to bf16 at each use: half the memory of bf16, but slower."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        weight = weight.float()
        largest = torch.finfo(torch.float8_e4m3fn).max
        scale = (weight.abs().amax(1, keepdim=True) / largest).clamp_min(1e-12)  # (rows, 1)
        self._weight = (weight / scale).to(torch.float8_e4m3fn)
        self._scale = scale.squeeze(1).to(torch.bfloat16)
        self._bias = None if bias is None else bias.to(torch.bfloat16)
        self.nbytes = self._weight.nbytes + self._scale.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        product = F.linear(x, self._weight.to(torch.bfloat16)) * self._scale
        return product if self._bias is None else product + self._bias


class Int8Linear:
    """int8 weights with one scale per row."""

    def __init__(self, weight: Tensor, bias: Tensor | None, many: Linear | None) -> None:
        weight = weight.float()
        scale = (weight.abs().amax(1, keepdim=True) / 127).clamp_min(1e-12)  # (rows, 1)
        self._weight = (weight / scale).round_().to(torch.int8)
        self._scale = scale.squeeze(1).to(torch.bfloat16)
        self._bias = None if bias is None else bias.to(torch.bfloat16)
        self._many = many
        self.nbytes = self._weight.nbytes + self._scale.nbytes + (many.nbytes if many else 0)

    def __call__(self, x: Tensor) -> Tensor:
        if self._many is not None and len(x) >= MANY_ROWS:
            return self._many(x)
        product: Tensor = torch.ops.aten._weight_int8pack_mm(x, self._weight, self._scale)
        return product if self._bias is None else product + self._bias


class Int4Linear:
    """4-bit weights in groups of 32.

    The kernel's format, ``scale * (q - 8) + zero``, represents GGUF's Q4_1 blocks exactly.
    """

    def __init__(self, blocks: Blocks, bias: Tensor | None, many: Linear | None) -> None:
        zero = blocks.minimum + 8 * blocks.scale
        self._packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(blocks.q.to(torch.int32), 1)
        self._scale_and_zero = (
            torch.stack((blocks.scale, zero), dim=-1).transpose(0, 1).to(torch.bfloat16).contiguous()
        )  # (columns / 32, rows, 2)
        self._bias = None if bias is None else bias.to(torch.bfloat16)
        self._many = many
        self.nbytes = self._packed.nbytes + self._scale_and_zero.nbytes + (many.nbytes if many else 0)

    def __call__(self, x: Tensor) -> Tensor:
        if self._many is not None and len(x) >= MANY_ROWS:
            return self._many(x)
        product: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, self._packed, GROUP, self._scale_and_zero)
        return product if self._bias is None else product + self._bias


def quantize(
    weight: Tensor, bias: Tensor | None, precision: Precision, blocks: Callable[[], Blocks], *, keep_bf16: bool
) -> Linear:
    """Quantize a weight matrix to ``precision``.

    Args:
        weight: shape (rows, columns), any float type.
        blocks: function that returns the matrix in 4-bit groups, called for int4.
        keep_bf16: also hold bf16 weights beside 4- and 8-bit ones, for many rows.
    """
    many = bf16_linear(weight, bias) if keep_bf16 and precision in ("int8", "int4") else None
    match precision:
        case "float32":
            return DenseLinear(weight.float(), bias)
        case "fp8":
            return Fp8Linear(weight, bias)
        case "int8" if fits_int8(*weight.shape):
            return Int8Linear(weight, bias, many)
        case "int4" if fits_int4(*weight.shape):
            return Int4Linear(blocks(), bias, many)
        case _:
            return many or bf16_linear(weight, bias)


def compute_dtype(precision: Precision) -> torch.dtype:
    """Return the dtype of activations."""
    return torch.float32 if precision == "float32" else torch.bfloat16


def bf16_linear(weight: Tensor, bias: Tensor | None) -> Linear:
    """Return the fastest bf16 layer that this machine supports."""
    if weight.device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return PackedBf16Linear(weight, bias)
    return DenseLinear(weight.to(torch.bfloat16), None if bias is None else bias.to(torch.bfloat16))
