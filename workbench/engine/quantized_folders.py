"""Quantized model folders: which are read exactly, and which are refused and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from workbench.engine.grouped_formats import (
    ADVICE,
    REORDERED,
    Awq,
    CompressedTensors,
    Gptq,
    GroupedFormat,
    Shapes,
    is_in_order,
    matrices,
)
from workbench.engine.model_folder import read_json
from workbench.errors import ModelFormatError

_READ_BY_TRANSFORMERS = ("mxfp4",)
"""Methods whose weights transformers itself converts to bf16 while it loads them on a CPU."""


def stored_format(folder: Path) -> GroupedFormat | None:
    """Return the format of a folder's 4-bit matrices; None if they are not quantized.

    Raises:
        ModelFormatError: they are quantized in a way that is not supported; the message says what to choose instead.
    """
    path = folder / "config.json"
    config = read_json(path) if path.exists() else {}
    settings = config.get("quantization_config") or config.get("compression_config")
    if not settings:
        return None
    if not isinstance(settings, dict):
        raise ModelFormatError(f"{path} has a quantization_config that is not a JSON object")
    method = str(settings.get("quant_method", "unknown"))
    if method in _READ_BY_TRANSFORMERS:
        return None
    choose = {"gptq": _gptq, "awq": _awq, "compressed-tensors": _compressed_tensors}.get(method, _unknown)
    found = choose(settings)
    if isinstance(found, str):
        raise ModelFormatError(f"{folder} has quantized weights that are not supported: {found}. {ADVICE}")
    return found


def zero_biases(stored: GroupedFormat, file_of: Mapping[str, Path], shapes: Shapes) -> set[str]:
    """Return biases of zero that a quantizer has added to the matrices of a folder.

    Old versions of GPTQ gave every matrix a bias. Those of one kind of module, such as all ``up_proj``, are added ones
    if all of them are zero.

    Args:
        file_of: the file of each tensor.
    """
    if not isinstance(stored, Gptq):
        return set()
    kinds: dict[str, list[str]] = {}
    for name in matrices(stored, shapes):
        bias = name.removesuffix("weight") + "bias"
        if bias in shapes:
            kinds.setdefault(name.split(".")[-2], []).append(bias)
    return {
        bias
        for biases in kinds.values()
        if not any(_has_numbers(file_of[one], one) for one in biases)
        for bias in biases
    }


def _has_numbers(path: Path, name: str) -> bool:
    """Return whether a tensor has a number other than zero."""
    with safe_open(path, framework="pt") as file:
        return bool(file.get_tensor(name).any())


def check_decoder(folder: Path, stored: GroupedFormat | None, *, is_fused: bool) -> None:
    """Raise `ModelFormatError` if a quantized folder's model cannot be read: by the fast step, and exactly."""
    if stored is None:
        return
    if not is_fused:
        raise ModelFormatError(
            f"{folder} has weights quantized by {stored.name}, which are supported only for the architectures of the "
            f"fast step and with exactly their tensors. Choose the repository of the unquantized model."
        )
    for path in sorted(folder.glob("*.safetensors")):
        if name := _reordered(path):
            raise ModelFormatError(f"{name} in {path} is not supported: {REORDERED}. {ADVICE}")


def _reordered(path: Path) -> str | None:
    """Return the first matrix of GPTQ in a file whose columns are not in the order of their groups."""
    with safe_open(path, framework="pt") as file:
        names: set[str] = set(file.keys())
        for name in sorted(name for name in names if name.endswith(".g_idx")):
            zeros = f"{name.removesuffix('g_idx')}qzeros"
            if zeros in names and not is_in_order(file.get_tensor(name), file.get_slice(zeros).get_shape()[0]):
                return name.removesuffix(".g_idx")
    return None


def _gptq(settings: Mapping[str, Any]) -> GroupedFormat | str:
    version = settings.get("checkpoint_format", settings.get("format", "gptq"))
    if settings.get("bits") != 4:
        return f"GPTQ with {settings.get('bits')} bits"
    if settings.get("is_marlin_format"):
        return "GPTQ in the format marlin"
    if settings.get("pack_dtype", "int32") != "int32":
        return f"GPTQ packed in {settings['pack_dtype']}"
    if version not in ("gptq", "gptq_v2"):
        return f"GPTQ in the format {version}"
    return Gptq(zero_offset=1 if version == "gptq" else 0)


def _awq(settings: Mapping[str, Any]) -> GroupedFormat | str:
    bits = settings.get("bits", settings.get("w_bit", 4))
    version = settings.get("version", settings.get("format", "gemm"))
    if bits != 4:
        return f"AWQ with {bits} bits"
    if str(version).lower() != "gemm":
        return f"AWQ in the version {version}"
    return Awq() if settings.get("zero_point", True) else "AWQ without zero points"


def _compressed_tensors(settings: Mapping[str, Any]) -> GroupedFormat | str:
    if (stored := settings.get("format")) != "pack-quantized":
        return f"compressed-tensors in the format {stored}"
    if settings.get("kv_cache_scheme"):
        return "compressed-tensors with a quantized KV cache"
    groups = settings.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        return "compressed-tensors without config_groups"
    reasons = filter(None, map(_reason_against, groups.values()))
    return next((f"compressed-tensors with {reason}" for reason in reasons), CompressedTensors())


def _reason_against(group: object) -> str | None:
    """Return what is not supported about one of the groups of modules of compressed-tensors."""
    weights = (group.get("weights") if isinstance(group, dict) else None) or {}
    if (weights.get("num_bits"), weights.get("type", "int")) != (4, "int"):
        return f"{weights.get('num_bits')} bits of type {weights.get('type')}"
    if weights.get("strategy") not in ("group", "channel"):
        return f"the strategy {weights.get('strategy')}"
    return "quantized activations" if isinstance(group, dict) and group.get("input_activations") else None


def _unknown(settings: Mapping[str, Any]) -> str:
    bits = " in 4 bits" if settings.get("load_in_4bit") else " in 8 bits" if settings.get("load_in_8bit") else ""
    return f"{settings.get('quant_method', 'a method that quantization_config does not name')}{bits}"
