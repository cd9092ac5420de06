"""The number formats in which a model's weights are held."""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["float32", "bf16", "fp8", "int8", "int4"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
