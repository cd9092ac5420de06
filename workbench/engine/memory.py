"""The memory guard: what a model will hold, computed from file headers alone, against what this process may use."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

from workbench.engine.precision import PRECISIONS, Precision, fits_int4, fits_int8
from workbench.engine.weights import GROUP, shards
from workbench.errors import InsufficientMemoryError, ModelFormatError
from workbench.machine import memory_available_bytes, memory_limit_bytes

RESERVE_BYTES = 200 * 2**20
"""Left for keys and values, a step's own tensors and the rest of the process."""

_WIDE_PARTS = ("lm_head", "experts", "vision", "visual", "connector", "projector")
"""Of names of weights: the output matrix stays wide for its exactness, experts because the kernels take no stacks of
matrices, what looks at images because it is small."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model would be held."""

    parameters: int
    nbytes: int
    """Predicted memory of the weights."""
    keep_wide: bool
    """Whether bf16 weights are kept beside 4- and 8-bit ones, for prompts and batches."""


def plan(folder: Path, precision: Precision, name: str, *, packed: bool) -> Plan:
    """Decide how to hold a model in the memory that is left.

    Args:
        packed: for the fused step, whose weights have one form for prompts and answers.

    Raises:
        InsufficientMemoryError: it fits in no way; the message names the precisions that would fit.
    """
    shapes = tensor_shapes(folder)
    available = memory_available_bytes() - RESERVE_BYTES
    parameters = sum(prod(shape) for shape in shapes.values())
    for keep_wide in (False,) if packed else (True, False):
        needed = predict(shapes, precision, packed=packed, keep_wide=keep_wide)
        if needed <= available:
            return Plan(parameters, needed, keep_wide)
    advice = _what_fits(shapes, available, packed=packed)
    raise InsufficientMemoryError(
        f"{name} in {precision} needs {_mb(needed)}, but only {_mb(max(available, 0))} of "
        f"{_mb(memory_limit_bytes())} are free; {advice}, or close other models"
    )


def check_limit(folder: Path, precision: Precision, name: str, *, packed: bool) -> None:
    """Refuse what could not be loaded even alone, so that it is known before it is served.

    Raises:
        InsufficientMemoryError: it is larger than what this process may ever use; names the precisions that would fit.
    """
    shapes = tensor_shapes(folder)
    room = memory_limit_bytes() - RESERVE_BYTES
    needed = predict(shapes, precision, packed=packed)
    if needed > room:
        raise InsufficientMemoryError(
            f"{name} in {precision} needs {_mb(needed)}, but a model can use at most {_mb(max(room, 0))} of the "
            f"{_mb(memory_limit_bytes())} here; {_what_fits(shapes, room, packed=packed)}"
        )


def _what_fits(shapes: dict[str, tuple[int, ...]], room: int, *, packed: bool) -> str:
    least = {other: predict(shapes, other, packed=packed) for other in PRECISIONS}
    fitting = [f"{other} ({_mb(nbytes)})" for other, nbytes in least.items() if nbytes <= room]
    return f"choose {' or '.join(fitting)}" if fitting else "choose a smaller model: no precision of this one fits"


def predict(shapes: dict[str, tuple[int, ...]], precision: Precision, *, packed: bool, keep_wide: bool = False) -> int:
    """Bytes that the weights will hold, from the shapes of a model's tensors."""
    if packed:
        return sum(round(_packed_bytes(name, shape, precision)) for name, shape in shapes.items())
    return sum(round(prod(shape) * _bytes_each(name, shape, precision, keep_wide)) for name, shape in shapes.items())


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights of a folder, read from the headers of its safetensors files."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in shards(folder):
        shapes |= file_shapes(path)
    return shapes


def file_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of one safetensors file, read from its header."""
    return {name: tuple(entry["shape"]) for name, entry in _header(path).items() if name != "__metadata__"}


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:  # 8 bytes of length, then that much JSON
            (length,) = struct.unpack("<Q", file.read(8))
            return cast("dict[str, Any]", json.loads(file.read(min(length, path.stat().st_size))))
    except (OSError, struct.error, ValueError) as error:
        raise ModelFormatError(f"{path} is damaged or missing ({error}); fetch the model again") from error


def _packed_bytes(name: str, shape: tuple[int, ...], precision: Precision) -> float:
    if len(shape) < 2:
        return 4 * prod(shape)
    count = prod(shape[:-1]) * (shape[-1] + -shape[-1] % GROUP)
    outer = "embed" in name or "lm_head" in name
    scales = 4 / GROUP
    match precision:
        case "float32":
            return count * 4
        case "int4" if not outer:
            return count * (0.5 + 2 * scales)
        case "int4" | "int8":
            return count * (1 + scales)
        case "fp8" if not outer:
            return count * (1 + scales)
        case _:
            return count * 2


def _bytes_each(name: str, shape: tuple[int, ...], precision: Precision, keep_wide: bool) -> float:
    if precision == "float32":
        return 4
    is_matrix = len(shape) == 2 and "embed" not in name and "wte" not in name and "wpe" not in name
    if precision == "bf16" or not is_matrix or any(part in name for part in _WIDE_PARTS):
        return 2
    wide = 2 if keep_wide else 0
    match precision:
        case "fp8":
            return 1 + 2 / shape[1]
        case "int8":
            return 1 + 2 / shape[1] + wide if fits_int8(*shape) else 2
        case _:
            return 0.5 + 4 / 32 + wide if fits_int4(*shape) else 2


def _mb(nbytes: int) -> str:
    return f"{nbytes / 2**20:,.0f} MiB"
