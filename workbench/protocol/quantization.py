"""Precision of a model's weights. No config means float32, the reference; ``int8`` and ``int4`` are additions."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from workbench.protocol.base import ProtocolModel


class QuantizationType(StrEnum):
    """Weight format: 16 bits (``bf16``), 8 bits (``fp8``, ``int8``) or 4 bits (``int4``)."""

    bf16 = "bf16"
    fp8 = "fp8"
    int8 = "int8"
    int4 = "int4"


PRECISIONS = ("float32", *(one.value for one in QuantizationType))
"""Names of the precisions; a quantization of None is ``float32``."""


class Bf16QuantizationConfig(ProtocolModel):
    """Weights in bfloat16."""

    type: Literal["bf16"] = "bf16"


class Fp8QuantizationConfig(ProtocolModel):
    """Weights in 8-bit floating point (e4m3) with a scale per 32 weights (per row outside the compiled step)."""

    type: Literal["fp8"] = "fp8"


class Int8QuantizationConfig(ProtocolModel):
    """Weights in 8-bit integers with a scale per 32 weights (per row outside the compiled step)."""

    type: Literal["int8"] = "int8"


class Int4QuantizationConfig(ProtocolModel):
    """Weights in 4-bit integers with a scale and a minimum per 32 weights."""

    type: Literal["int4"] = "int4"


QuantizationConfig: TypeAlias = Annotated[
    Bf16QuantizationConfig | Fp8QuantizationConfig | Int8QuantizationConfig | Int4QuantizationConfig,
    Field(discriminator="type"),
]
