"""Predicted size of a model's weights in memory, from the shapes of its tensors.

Nothing here needs torch, so that models can be listed without loading it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Literal, TypeAlias

from workbench.gguf_files.tensor_types import bytes_per_weight

GROUP = 32
"""Weights of one row that share a scale, and in 4 bits a minimum."""

RESERVE_BYTES = 200 * 2**20
"""Reserve for keys and values, a step's own tensors and the rest of the process."""

_UNQUANTIZED = ("lm_head", "experts", "vision", "visual", "connector", "projector")
"""Parts of names of weights that stay in bf16: the head for its exactness, experts because the kernels support no
stacked matrices, the image encoder because it is small."""

_OUTER = ("embed", "lm_head", "wte", "wpe")
"""Parts of names of embeddings and heads, which the fused decoder holds in at least 8 bits."""

_ROUTERS = ("mlp.gate.weight", "block_sparse_moe.gate.weight")
"""Ends of names of the matrices that rate experts, which the fused decoder holds in float32."""

KEPT_TYPES = frozenset({"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"})
"""Types of GGUF files that the fused step reads as the file has them."""

StoredFormat: TypeAlias = Literal["int4", "int8", "bf16", "float16", "float32"]
"""Format of the fused step that holds other types, or several together, exactly."""

_STORED_FORMATS: tuple[tuple[StoredFormat, frozenset[str]], ...] = (
    ("int4", frozenset({"Q4_0", "Q4_1", "Q4_K"})),
    ("int8", frozenset({"Q8_0", "Q5_0", "IQ4_NL", "IQ4_XS"})),
    ("bf16", frozenset({"BF16"})),
    ("float16", frozenset({"F16"})),
)

_COLUMNS_INT8 = 32
_COLUMNS_INT4 = 64
_ROWS_INT4 = 16


def predict(shapes: Mapping[str, tuple[int, ...]], precision: str, *, packed: bool, keep_bf16: bool = False) -> int:
    """Return the predicted size of the weights in bytes, from the shapes of a model's tensors."""
    if packed:
        return sum(round(_packed_bytes(name, shape, precision)) for name, shape in shapes.items())
    return sum(round(prod(shape) * _bytes_each(name, shape, precision, keep_bf16)) for name, shape in shapes.items())


def stored_formats(types: Iterable[str]) -> StoredFormat:
    """Return the smallest format that holds matrices of these types of GGUF files together, with their numbers."""
    kinds = set(types)
    return next((name for name, held in _STORED_FORMATS if kinds <= held), "float32")


def predict_stored(shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, str]) -> int:
    """Return the predicted size in bytes of the weights of a GGUF file that is held as it is."""
    return sum(stored_bytes(shape, types[name]) for name, shape in shapes.items())


def stored_bytes(shape: tuple[int, ...], kind: str) -> int:
    """Return the predicted size in bytes of a tensor of a GGUF file that is held as it is."""
    if len(shape) > 1 and kind in KEPT_TYPES:
        return round(prod(shape) * bytes_per_weight(kind))
    return round(_bytes_as(shape, stored_formats([kind])))


def _packed_bytes(name: str, shape: tuple[int, ...], precision: str) -> float:
    if name.endswith(_ROUTERS):
        return _bytes_as(shape, "float32")
    smallest = {"int4": "int8", "fp8": "bf16"} if any(part in name for part in _OUTER) else {}
    return _bytes_as(shape, smallest.get(precision, precision))


def _bytes_as(shape: tuple[int, ...], precision: str) -> float:
    """Return the bytes of a tensor that the fused decoder holds in a precision; vectors stay in float32."""
    if len(shape) < 2:
        return 4 * prod(shape)
    count = prod(shape[:-1]) * (shape[-1] + -shape[-1] % GROUP)
    scales = 4 / GROUP
    match precision:
        case "float32":
            return count * 4
        case "int4":
            return count * (0.5 + 2 * scales)
        case "int8" | "fp8":
            return count * (1 + scales)
        case _:
            return count * 2


def _bytes_each(name: str, shape: tuple[int, ...], precision: str, keep_bf16: bool) -> float:
    if precision == "float32":
        return 4
    is_matrix = len(shape) == 2 and not any(part in name for part in _OUTER)
    if precision == "bf16" or not is_matrix or any(part in name for part in _UNQUANTIZED):
        return 2
    bf16 = 2 if keep_bf16 else 0
    match precision:
        case "fp8":
            return 1 + 2 / shape[1]
        case "int8":
            return 1 + 2 / shape[1] + bf16 if fits_int8(*shape) else 2
        case _:
            return 0.5 + 4 / 32 + bf16 if fits_int4(*shape) else 2


def fits_int8(_rows: int, columns: int) -> bool:
    """Whether the 8-bit kernel supports this shape; with other widths it would read beyond the end of a row."""
    return columns % _COLUMNS_INT8 == 0


def fits_int4(rows: int, columns: int) -> bool:
    """Whether the 4-bit kernel supports this shape; other matrices are held in bf16."""
    return rows % _ROWS_INT4 == 0 and columns % _COLUMNS_INT4 == 0
