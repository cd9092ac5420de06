"""Memory guard: predicts a model's size from file headers, and compares it with the memory of its device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from workbench.engine import devices
from workbench.engine.adapters import Adapter
from workbench.engine.devices import CPU
from workbench.engine.gguf_weights import gguf_shapes, gguf_types, is_gguf
from workbench.engine.model_folder import read_json
from workbench.engine.precision import PRECISIONS, Precision
from workbench.engine.quantization_settings import stored_format, weight_shapes
from workbench.engine.quantized_folders import zero_biases
from workbench.engine.weight_sizes import RESERVE_BYTES, predict, predict_stored
from workbench.engine.weights import shards
from workbench.errors import InsufficientMemoryError
from workbench.machine import memory_available_bytes, memory_limit_bytes
from workbench.tensor_headers import read_safetensors_header


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is held in memory."""

    parameters: int
    nbytes: int
    """Predicted memory of the weights."""
    keep_bf16: bool
    """Whether bf16 weights are held beside 4- and 8-bit ones, for prompts and batches."""


def plan(
    folder: Path, precision: Precision, name: str, *, packed: bool, adapter: Adapter | None = None, device: str = CPU
) -> Plan:
    """Return how to hold a model in the available memory.

    Args:
        packed: whether the fused decoder serves the model; its weights have one format.
        adapter: adapter that is merged into it.
        device: device that holds the weights.

    Raises:
        InsufficientMemoryError: the model does not fit; the message names precisions that would.
    """
    shapes = tensor_shapes(folder, adapter)
    parameters = sum(prod(shape) for shape in shapes.values())
    if device != CPU:
        if not packed:
            _check_host(shapes, name, device)
        return Plan(parameters, _checked_device_bytes(shapes, precision, name, device), keep_bf16=False)
    available = memory_available_bytes() - RESERVE_BYTES - _merge_bytes(adapter, packed=packed)
    for keep_bf16 in (False,) if packed else (True, False):
        needed = weights_bytes(folder, shapes, precision, packed=packed, keep_bf16=keep_bf16, adapter=adapter)
        if needed <= available:
            return Plan(parameters, needed, keep_bf16)
    advice = _what_fits(shapes, available, packed=packed)
    raise InsufficientMemoryError(
        f"{name} {_held(precision)} needs {_mb(needed)}, but only {_mb(max(available, 0))} of "
        f"{_mb(memory_limit_bytes())} are free; {advice}, or close other models"
    )


def check_limit(
    folder: Path, precision: Precision, name: str, *, packed: bool, adapter: Adapter | None = None, device: str = CPU
) -> None:
    """Raise if a model could not be loaded even alone; a provider calls this at registration.

    Raises:
        InsufficientMemoryError: it exceeds the limit of this process or of the device; the message names precisions
            that would fit.
    """
    shapes = tensor_shapes(folder, adapter)
    if device != CPU:
        if not packed:
            _check_host(shapes, name, device, even_alone=True)
        _checked_device_bytes(shapes, precision, name, device, even_alone=True)
        return
    room = memory_limit_bytes() - RESERVE_BYTES - _merge_bytes(adapter, packed=packed)
    needed = weights_bytes(folder, shapes, precision, packed=packed, adapter=adapter)
    if needed > room:
        raise InsufficientMemoryError(
            f"{name} {_held(precision)} needs {_mb(needed)}, but a model can use at most {_mb(max(room, 0))} of the "
            f"{_mb(memory_limit_bytes())} here; {_what_fits(shapes, room, packed=packed)}"
        )


def weights_bytes(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    precision: Precision,
    *,
    packed: bool,
    keep_bf16: bool = False,
    adapter: Adapter | None = None,
) -> int:
    """Return the predicted size of a folder's weights in bytes.

    As they are stored, safetensors take at most 4 bytes each, and tensors that an adapter changes are held in float32.
    """
    if precision == "file" and is_gguf(folder):
        merged = dict.fromkeys(adapter.changes, "F32") if adapter else {}
        return predict_stored(shapes, gguf_types(folder) | merged)
    if precision == "file":
        return predict(shapes, "float32", packed=True)
    return predict(shapes, precision, packed=packed, keep_bf16=keep_bf16)


def device_bytes(shapes: Mapping[str, tuple[int, ...]], precision: Precision) -> int:
    """Return the predicted size in bytes of weights on a device other than the CPU: 16 bits each, 32 in float32."""
    return predict(shapes, "float32" if precision == "float32" else "bf16", packed=False)


def _check_host(shapes: Mapping[str, tuple[int, ...]], name: str, device: str, *, even_alone: bool = False) -> None:
    """Raise unless this machine's memory holds a model that transformers loads in float32 before it moves to a device.

    Args:
        even_alone: compare with all of the memory instead of the free part.
    """
    needed = predict(shapes, "float32", packed=False)
    room = max(0, (memory_limit_bytes() if even_alone else memory_available_bytes()) - RESERVE_BYTES)
    if needed > room:
        limit = "a model can use at most" if even_alone else "only"
        raise InsufficientMemoryError(
            f"{name} is loaded in float32 before it moves to {device}, which needs {_mb(needed)} of the machine's own "
            f"memory, but {limit} {_mb(room)} {'of it' if even_alone else 'are free'}; choose a smaller model"
        )


def _checked_device_bytes(
    shapes: Mapping[str, tuple[int, ...]], precision: Precision, name: str, device: str, *, even_alone: bool = False
) -> int:
    """Return the predicted size of weights on a device; raise `InsufficientMemoryError` unless it has room for them.

    Args:
        even_alone: compare with all of the device's memory instead of the free part.
    """
    free, total = devices.memory_bytes(device)
    needed, room = device_bytes(shapes, precision), max(0, (total if even_alone else free) - RESERVE_BYTES)
    if needed <= room:
        return needed
    smaller = device_bytes(shapes, "bf16")
    advice = f"choose bf16 ({_mb(smaller)}) or the device cpu" if smaller <= room else "choose the device cpu"
    share = f"{_mb(room)} of the {_mb(total)} of {device}"
    limit = f"a model can use at most {share}" if even_alone else f"only {share} are free"
    raise InsufficientMemoryError(f"{name} {_held(precision)} needs {_mb(needed)}, but {limit}; {advice}")


def _held(precision: Precision) -> str:
    return "as its file is" if precision == "file" else f"in {precision}"


def _what_fits(shapes: dict[str, tuple[int, ...]], room: int, *, packed: bool) -> str:
    least = {other: predict(shapes, other, packed=packed) for other in PRECISIONS}
    fitting = [f"{other} ({_mb(nbytes)})" for other, nbytes in least.items() if nbytes <= room]
    return f"choose {' or '.join(fitting)}" if fitting else "choose a smaller model: no precision of this one fits"


def _merge_bytes(adapter: Adapter | None, *, packed: bool) -> int:
    """Return the memory beside the weights that merging an adapter needs for a while.

    The largest matrix is held as it was, merged and transposed. The general decoder gets all merged weights at once.
    """
    if adapter is None:
        return 0
    return 4 * (3 * adapter.largest_parameters + (0 if packed else adapter.changed_parameters))


def tensor_shapes(folder: Path, adapter: Adapter | None = None) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of all weights of a folder, read from the headers of its files.

    Buffers that older files have among the weights are left out. Quantized matrices have the names and shapes that they
    would have otherwise.

    Args:
        adapter: adapter that is merged into them; it may separate a head that was tied to the embedding.
    """
    shapes = _base_shapes(folder)
    return shapes if adapter is None else adapter.shapes(shapes)


def _base_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    if is_gguf(folder):
        return gguf_shapes(folder)
    shapes: dict[str, tuple[int, ...]] = {}
    file_of: dict[str, Path] = {}
    for path in shards(folder):
        found = {name: shape for name, shape in file_shapes(path).items() if not _is_buffer(name, shape)}
        shapes |= found
        file_of |= dict.fromkeys(found, path)
    stored = stored_format(folder)
    added = zero_biases(stored, file_of, shapes)
    kept = {name: shape for name, shape in shapes.items() if name not in added}
    path = folder / "config.json"
    return weight_shapes(read_json(path) if path.exists() else {}, kept) or kept


def _is_buffer(name: str, shape: tuple[int, ...]) -> bool:
    """Return whether a tensor is a causal mask, its fill value or rotary frequencies, which no model loads."""
    is_mask = name.endswith(".bias") and len(shape) == 4 and shape[:2] == (1, 1)
    return is_mask or name.endswith((".masked_bias", ".rotary_emb.inv_freq"))


def file_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the weights of one safetensors file, read from its header."""
    return {name: tensor.shape for name, tensor in read_safetensors_header(path).items()}


def _mb(nbytes: int) -> str:
    return f"{nbytes / 2**20:,.0f} MiB"
