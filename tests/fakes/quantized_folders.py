"""Small Llamas whose matrices are stored as GPTQ, AWQ and compressed-tensors store them, and judges in numpy.

Writers and judges follow the descriptions of the formats, one number at a time, and share no code with the engine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tests.tiny_models import bpe_tokenizer, llama_like, save_config

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""The column that AWQ stores in each place of a word, from the lowest bits on."""

Numbers = NDArray[Any]


@dataclass(frozen=True)
class Quantized:
    """A matrix (out, in) as ``scale * (q - zero)`` with groups along in."""

    q: Numbers
    """(out, in), 0 to 15."""
    zero: Numbers
    """(out, groups), 0 to 15; of GPTQ 1 to 16."""
    scale: Numbers
    """float16 (out, groups)."""


def quantized(weight: Numbers, groups: int, *, low: int = 0, symmetric: bool = False) -> Quantized:
    """Round a matrix (out, in) to 4 bits; zeros are whole numbers from ``low`` to ``low + 15``."""
    parts = weight.reshape(len(weight), groups, -1)
    least, most = np.minimum(parts.min(-1), 0), np.maximum(parts.max(-1), 0)
    if symmetric:
        most = np.maximum(most, -least)
        least = -most
    scale = np.maximum((most - least) / 15, 1e-4).astype(np.float16)
    zero = np.full_like(scale, 8) if symmetric else np.clip(np.round(-least / scale), low, low + 15)
    q = np.clip(np.round(parts / scale[..., None]) + zero[..., None], 0, 15)
    return Quantized(q.reshape(weight.shape).astype(np.int64), zero.astype(np.int64), scale)


def packed(rows: Numbers, order: tuple[int, ...] = tuple(range(8))) -> Numbers:
    """Pack each eight numbers of a row into a word; ``order`` has the number in each place, lowest bits first."""
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8)))
    words = np.zeros((len(rows), padded.shape[1] // 8), np.uint32)
    for place, number in enumerate(order):
        words |= padded[:, number::8].astype(np.uint32) << np.uint32(4 * place)
    return words.view(np.int32)


def unpacked(words: Numbers, order: tuple[int, ...] = tuple(range(8))) -> Numbers:
    """Undo `packed`, number by number."""
    unsigned = np.ascontiguousarray(words).view(np.uint32)
    rows = np.zeros((len(words), 8 * words.shape[1]), np.int64)
    for place, number in enumerate(order):
        rows[:, number::8] = (unsigned >> np.uint32(4 * place)) & np.uint32(15)
    return rows


def gptq(one: Quantized, *, offset: int = 1) -> dict[str, Numbers]:
    columns, groups = one.q.shape[1], one.scale.shape[1]
    return {
        "qweight": np.ascontiguousarray(packed(one.q).T),
        "qzeros": packed((one.zero - offset).T),
        "scales": np.ascontiguousarray(one.scale.T),
        "g_idx": (np.arange(columns) // (columns // groups)).astype(np.int32),
    }


def awq(one: Quantized) -> dict[str, Numbers]:
    return {
        "qweight": packed(one.q.T, AWQ_ORDER),
        "qzeros": packed(one.zero.T, AWQ_ORDER),
        "scales": np.ascontiguousarray(one.scale.T),
    }


def compressed_tensors(one: Quantized) -> dict[str, Numbers]:
    parts = {"weight_packed": packed(one.q), "weight_scale": one.scale, "weight_shape": np.array(one.q.shape, np.int64)}
    if (one.zero == 8).all():
        return parts
    return parts | {"weight_zero_point": np.ascontiguousarray(packed(one.zero.T).T)}


def gptq_dense(parts: dict[str, Numbers], *, offset: int = 1) -> Numbers:
    q, zero = unpacked(parts["qweight"].T).T, unpacked(parts["qzeros"]) + offset  # (in, out), (groups, out)
    return _dense(q, zero, parts["scales"], parts["g_idx"]).T


def awq_dense(parts: dict[str, Numbers]) -> Numbers:
    q, zero = unpacked(parts["qweight"], AWQ_ORDER), unpacked(parts["qzeros"], AWQ_ORDER)
    return _dense(q, zero, parts["scales"], np.arange(len(q)) // (len(q) // len(zero))).T


def compressed_tensors_dense(parts: dict[str, Numbers]) -> Numbers:
    (rows, columns), scale = parts["weight_shape"], parts["weight_scale"]
    signed = unpacked(parts["weight_packed"])[:, :columns] - 8
    zero = np.zeros(scale.shape)
    if "weight_zero_point" in parts:
        zero = unpacked(parts["weight_zero_point"].T).T[:rows] - 8
    return _dense(signed.T, zero.T, scale.T, np.arange(columns) // (columns // scale.shape[1])).T


def _dense(q: Numbers, zero: Numbers, scale: Numbers, group_of_row: Numbers) -> Numbers:
    """Return (in, out) in float32; the numbers of each row of q belong to a group."""
    exact = scale.astype(np.float64)[group_of_row] * (q - zero.astype(np.float64)[group_of_row])
    return exact.astype(np.float32)


@dataclass(frozen=True)
class Format:
    """A format: its config, and functions that write and judge the tensors of a matrix."""

    settings: dict[str, Any]
    write: Callable[[Quantized], dict[str, Numbers]]
    judge: Callable[[dict[str, Numbers]], Numbers]
    low: int = 0
    symmetric: bool = False


def _of_compressed_tensors(*, symmetric: bool) -> dict[str, Any]:
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 64, "symmetric": symmetric}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "quantization_status": "compressed",
    }


_GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 64, "desc_act": False, "sym": False}

FORMATS = {
    "gptq": Format(_GPTQ, gptq, gptq_dense, low=1),
    "gptq_v2": Format(
        _GPTQ | {"checkpoint_format": "gptq_v2"},
        lambda one: gptq(one, offset=0),
        lambda parts: gptq_dense(parts, offset=0),
    ),
    "awq": Format(
        {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True, "version": "gemm"}, awq, awq_dense
    ),
    "symmetric": Format(
        _of_compressed_tensors(symmetric=True), compressed_tensors, compressed_tensors_dense, symmetric=True
    ),
    "asymmetric": Format(_of_compressed_tensors(symmetric=False), compressed_tensors, compressed_tensors_dense),
}


def save_quantized(folder: Path, name: str, *, group: int = 64, seed: int = 0) -> tuple[Path, Path]:
    """Write a quantized Llama, and the same with its matrices as the judge reads them; return both folders."""
    config = transformers.LlamaConfig(
        vocab_size=384,
        **llama_like(
            hidden_size=128, intermediate_size=256, initializer_range=0.3, pad_token_id=None, tie_word_embeddings=False
        ),
    )
    dense = save_config(folder / "dense", config, bpe_tokenizer(), seed=seed)
    small = Path(shutil.copytree(dense, folder / "quantized"))
    one = FORMATS[name]
    weights = load_file(dense / "model.safetensors")
    stored: dict[str, Numbers] = {}
    for full, weight in list(weights.items()):
        prefix = full.removesuffix(".weight")
        if not prefix.endswith("_proj"):
            stored[full] = weight
            continue
        rounded = quantized(weight, weight.shape[1] // group, low=one.low, symmetric=one.symmetric)
        parts = one.write(rounded)
        weights[full] = np.ascontiguousarray(one.judge(parts))
        stored |= {f"{prefix}.{part}": np.ascontiguousarray(tensor) for part, tensor in parts.items()}
    save_file(weights, dense / "model.safetensors", {"format": "pt"})
    save_file(stored, small / "model.safetensors", {"format": "pt"})
    set_quantization(small, one.settings)
    return small, dense


def set_quantization(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a quantizer into a folder's config."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": settings}))
