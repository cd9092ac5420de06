"""What the config of a quantized folder says about its weights: how they are stored, or why they are refused.

Nothing here needs torch, so that the list of models on this machine refuses what loading refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.engine.grouped_layouts import (
    ADVICE,
    REORDERED,
    Awq,
    CompressedTensors,
    Gptq,
    GroupedLayout,
    Shapes,
    dense_shapes,
    mxfp4_shapes,
)
from workbench.engine.model_folder import read_json
from workbench.errors import ModelFormatError, shortened

_READ_BY_TRANSFORMERS = {"mxfp4": mxfp4_shapes}
"""Methods whose weights transformers itself unpacks while it loads them on a CPU, and the shapes that these get."""

_UNNAMED = "a method that quantization_config does not name"


def stored_format(folder: Path) -> GroupedLayout | None:
    """Return the layout of a folder's 4-bit matrices; None if they are not quantized.

    Raises:
        ModelFormatError: they are quantized in a way that is not supported; the message says what to choose instead.
    """
    path = folder / "config.json"
    found = layout_of(read_json(path) if path.exists() else {})
    if isinstance(found, str):
        raise ModelFormatError(f"{folder} has quantized weights that are not supported: {found}. {ADVICE}")
    return found


def layout_of(config: Mapping[str, Any]) -> GroupedLayout | str | None:
    """Return the layout of the 4-bit matrices of a model; None if it is not quantized, or why it is not supported.

    Args:
        config: content of its ``config.json``, which nobody vouches for.
    """
    method = quantization_method(config)
    if method is None or method in _READ_BY_TRANSFORMERS:
        return None
    read = {"gptq": _gptq, "awq": _awq, "compressed-tensors": _compressed_tensors}.get(method)
    settings = _settings(config)
    if read is None or not isinstance(settings, dict):
        return _unknown(method, settings)
    return read(settings)


def weight_shapes(config: Mapping[str, Any], shapes: Shapes) -> dict[str, tuple[int, ...]] | None:
    """Return the names and shapes of a model's weights as if they were not quantized; None if that is not supported.

    Raises:
        ModelFormatError: the tensors of a matrix do not match each other, or have groups that are not supported.
    """
    layout = layout_of(config)
    if isinstance(layout, str):
        return None
    if layout is not None:
        return dense_shapes(layout, shapes)
    return _READ_BY_TRANSFORMERS.get(quantization_method(config) or "", dict)(shapes)


def quantization_method(config: Mapping[str, Any]) -> str | None:
    """Return the name of the method that quantized a model's weights, such as ``awq``; None if they are plain."""
    settings = _settings(config)
    if isinstance(settings, dict) and "quant_method" in settings:
        return _text(settings["quant_method"])
    if isinstance(config.get("quantization"), dict) and config["quantization"]:
        return "mlx"
    return _UNNAMED if settings else None


def _settings(config: Mapping[str, Any]) -> Any:
    return config.get("quantization_config") or config.get("compression_config")


def _gptq(settings: Mapping[str, Any]) -> GroupedLayout | str:
    version = settings.get("checkpoint_format", settings.get("format", "gptq"))
    if settings.get("bits") != 4:
        return f"GPTQ with {_text(settings.get('bits'))} bits"
    if settings.get("is_marlin_format"):
        return "GPTQ in the format marlin"
    if settings.get("pack_dtype", "int32") != "int32":
        return f"GPTQ packed in {_text(settings['pack_dtype'])}"
    if version not in ("gptq", "gptq_v2"):
        return f"GPTQ in the format {_text(version)}"
    if settings.get("desc_act") and settings.get("group_size") != -1:
        return f"GPTQ, because {REORDERED}"
    return Gptq(zero_offset=1 if version == "gptq" else 0)


def _awq(settings: Mapping[str, Any]) -> GroupedLayout | str:
    bits = settings.get("bits", settings.get("w_bit", 4))
    version = settings.get("version", settings.get("format", "gemm"))
    if bits != 4:
        return f"AWQ with {_text(bits)} bits"
    if str(version).lower() != "gemm":
        return f"AWQ in the version {_text(version)}"
    return Awq() if settings.get("zero_point", True) else "AWQ without zero points"


def _compressed_tensors(settings: Mapping[str, Any]) -> GroupedLayout | str:
    if (stored := settings.get("format")) != "pack-quantized":
        return f"compressed-tensors in the format {_text(stored)}"
    if settings.get("kv_cache_scheme"):
        return "compressed-tensors with a quantized KV cache"
    if settings.get("transform_config"):
        return "compressed-tensors with transforms (transform_config)"
    sparsity = settings.get("sparsity_config") or {}
    if not isinstance(sparsity, dict) or sparsity.get("format") not in (None, "dense"):
        return "compressed-tensors with sparse weights"
    groups = settings.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        return "compressed-tensors without config_groups"
    reasons = filter(None, map(_reason_against, groups.values()))
    return next((f"compressed-tensors with {reason}" for reason in reasons), CompressedTensors())


def _reason_against(group: object) -> str | None:
    """Return what is not supported about one of the groups of modules of compressed-tensors."""
    weights = group.get("weights") if isinstance(group, dict) else None
    if not isinstance(group, dict) or not isinstance(weights, dict):
        return "a group that does not describe its weights"
    bits, kind = weights.get("num_bits"), weights.get("type", "int")
    if (bits, kind) != (4, "int"):
        return f"{_text(bits)} bits of type {_text(kind)}"
    if weights.get("strategy") not in ("group", "channel"):
        return f"the strategy {_text(weights.get('strategy'))}"
    if group.get("format", "pack-quantized") not in (None, "pack-quantized"):
        return f"a group in the format {_text(group['format'])}"
    return "quantized activations" if group.get("input_activations") or group.get("output_activations") else None


def _unknown(method: str, settings: Any) -> str:
    if not isinstance(settings, dict):
        return method
    bits = " in 4 bits" if settings.get("load_in_4bit") else " in 8 bits" if settings.get("load_in_8bit") else ""
    return f"{method}{bits}"


def _text(value: object) -> str:
    """Return a value out of a config as it is shown: shortened if it is long or not printable."""
    text = str(value) if isinstance(value, str | int | float | None) else shortened(value)
    return text if len(text) <= 80 and text.isprintable() else shortened(text)
