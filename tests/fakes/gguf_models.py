"""Small random models of transformers, written as GGUF files with the format's own package as llama.cpp converts them.

Names of tensors are those of the package's table. The model that is returned has the numbers that the package reads
back from the file, so it is a judge of whoever serves the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers

from tests.fakes.gguf_files import write_vocabulary
from tests.tiny_models import bpe_tokenizer, llama_like, make_model

configs: Any = transformers

VOCABULARY = 384
SIZES = {"hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 8, "num_key_value_heads": 4}
"""Multiples of 256, which is the length of a super-block."""

MIXED = (
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "F16",
    "BF16",
    "F32",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q3_K",
    "IQ4_NL",
    "IQ4_XS",
)


@dataclass(frozen=True)
class Family:
    """How models of an architecture are made and converted."""

    config: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    """Further metadata: values with the names of the writer's methods, by key without the architecture."""
    has_pairs: bool = False
    norm_offset: float = 0.0
    name: str = ""
    """Name in ``general.architecture`` if it is another one."""
    is_transposed: bool = False
    """Whether transformers has the matrices of layers as (in, out)."""


EXPERTS = {"expert_count": ("add_uint32", 4), "expert_used_count": ("add_uint32", 2)}


def _layers(kinds: str) -> list[str]:
    return ["full_attention" if kind == "f" else "sliding_attention" for kind in kinds]


GEMMA = {"head_dim": 64, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True}
FLOAT, UINT = "add_float32", "add_uint32"

ARCHITECTURES: dict[str, Family] = {
    "llama": Family(configs.LlamaConfig, has_pairs=True),
    "granite": Family(
        configs.GraniteConfig,
        {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 2.0, "attention_multiplier": 0.1},
        {
            "embedding_scale": (FLOAT, 3.0),
            "residual_scale": (FLOAT, 0.5),
            "logit_scale": (FLOAT, 2.0),
            "attention.scale": (FLOAT, 0.1),
        },
        has_pairs=True,
    ),
    "smollm3": Family(configs.SmolLM3Config, {"num_hidden_layers": 4}, has_pairs=True),
    "qwen2": Family(configs.Qwen2Config, {"tie_word_embeddings": True}),
    "qwen3": Family(configs.Qwen3Config, {"head_dim": 64}),
    "gemma": Family(configs.GemmaConfig, GEMMA, norm_offset=1.0),
    "gemma2": Family(
        configs.Gemma2Config,
        GEMMA | {"sliding_window": 24, "query_pre_attn_scalar": 64},
        {
            "attention.sliding_window": (UINT, 24),
            "attn_logit_softcapping": (FLOAT, 50.0),
            "final_logit_softcapping": (FLOAT, 30.0),
        },
        norm_offset=1.0,
    ),
    "gemma3": Family(
        configs.Gemma3TextConfig,
        GEMMA
        | {
            "sliding_window": 24,
            "query_pre_attn_scalar": 64,
            "num_hidden_layers": 7,
            "layer_types": _layers("sssssfs"),
        },
        {"attention.sliding_window": (UINT, 24), "rope.freq_base": (FLOAT, 1_000_000.0)},
        norm_offset=1.0,
    ),
    "gpt2": Family(configs.GPT2Config, {"n_inner": 256, "activation_function": "gelu_new"}, is_transposed=True),
    "mixtral": Family(
        configs.MixtralConfig,
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
        EXPERTS,
        has_pairs=True,
        name="llama",
    ),
    "olmo2": Family(configs.Olmo2Config),
    "phi3": Family(configs.Phi3Config, {"sliding_window": 24}, {"attention.sliding_window": (UINT, 24)}),
    "stablelm": Family(configs.StableLmConfig, {"use_qkv_bias": True, "partial_rotary_factor": 0.25}),
    "qwen3moe": Family(
        configs.Qwen3MoeConfig,
        {
            "head_dim": 64,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 256,
            "norm_topk_prob": True,
        },
        EXPERTS | {"expert_feed_forward_length": (UINT, 256)},
    ),
    "starcoder2": Family(configs.Starcoder2Config, {"sliding_window": None, "use_bias": True}),
}


def make_reference(architecture: str, seed: int = 0, **more: Any) -> Any:
    """Return a random model of an architecture, with biases and norms that are not zeros and ones."""
    family = ARCHITECTURES[architecture]
    options = llama_like(**SIZES, initializer_range=0.1) | dict(family.options) | more
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        model = make_model(family.config(vocab_size=VOCABULARY, **options)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
    finally:
        torch.random.set_rng_state(state)
    return model


def write_gguf_model(
    path: Path,
    architecture: str,
    *,
    types: Callable[[str], str] = lambda _: "F32",
    seed: int = 0,
    changed: Callable[[gguf.GGUFWriter, dict[str, Any]], None] = lambda *_: None,
    tokenizer: Callable[[gguf.GGUFWriter], None] | None = None,
    **more: Any,
) -> Any:
    """Write a random model and return it with the numbers of the file.

    Args:
        types: function from the name of a matrix in the file to its type.
        changed: function that changes the writer's metadata, or the tensors, before they are written.
        tokenizer: function that writes another tokenizer than a byte-level one.
        more: options of the config.
    """
    model = make_reference(architecture, seed, **more)
    writer = gguf.GGUFWriter(path, ARCHITECTURES[architecture].name or architecture)
    _write_facts(writer, architecture, model.config)
    (tokenizer or write_byte_level)(writer)
    random = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    state = model.state_dict()
    for name, parameter in state.items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        parts = []
        for stored, part in _parts(name, parameter.float().numpy(), architecture, model.config):
            rows = _as_llama_cpp(stored, part, architecture, model.config)
            kind = types(stored) if rows.ndim > 1 else "F32"
            data = _quantized(rows, kind, random)
            tensors[stored] = (data, kind)
            read = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind]) if kind not in ("F32", "F16") else data
            read = np.asarray(read, np.float32).reshape(rows.shape)
            parts.append(_as_transformers(stored, read, architecture, model.config))
        parameter.copy_(torch.from_numpy(np.concatenate(parts, 1) if len(parts) > 1 else parts[0]))
    changed(writer, tensors)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _parts(name: str, rows: Any, architecture: str, config: Any) -> list[tuple[str, Any]]:
    """Return the tensors of the file with the numbers of a parameter; those of experts are stacked in both."""
    prefix, _, part = name.partition(".mlp.experts.")
    layer = prefix.rpartition(".")[2]
    if part == "down_proj":
        return [(f"blk.{layer}.ffn_down_exps.weight", rows)]
    if part == "gate_up_proj":
        gates, ups = np.split(rows, 2, 1)
        return [(f"blk.{layer}.ffn_gate_exps.weight", gates), (f"blk.{layer}.ffn_up_exps.weight", ups)]
    return [(_name_in_file(name, architecture, config), rows)]


def write_byte_level(writer: gguf.GGUFWriter, tokenizer: Any = None, pre: str = "gpt-2") -> None:
    """Write a byte-level BPE."""
    tokenizer = tokenizer or bpe_tokenizer(VOCABULARY)
    write_vocabulary(writer, json.loads(tokenizer.backend_tokenizer.to_str()), pre)
    writer.add_eos_token_id(0)
    writer.add_chat_template(tokenizer.chat_template)


def _write_facts(writer: gguf.GGUFWriter, architecture: str, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(getattr(config, "n_inner", None) or config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = getattr(config, "rope_parameters", None) or {}
    if architecture in ("llama", "mixtral", "granite", "smollm3", "phi3", "stablelm"):
        writer.add_rope_dimension_count(int(head * (rope.get("partial_rotary_factor") or 1.0)))
    else:
        writer.add_key_length(head)
        writer.add_value_length(head)
    if "rope_theta" in rope:
        writer.add_rope_freq_base(rope["rope_theta"])
    if epsilon := getattr(config, "rms_norm_eps", None):
        writer.add_layer_norm_rms_eps(epsilon)
    else:
        names = ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")
        writer.add_layer_norm_eps(next(getattr(config, name) for name in names if hasattr(config, name)))
    family = ARCHITECTURES[architecture]
    for key, (method, value) in family.facts.items():
        getattr(writer, method)(f"{family.name or architecture}.{key}", value)


def _name_in_file(name: str, architecture: str, config: Any) -> str:
    known_as = ARCHITECTURES[architecture].name or architecture
    kind = next(one for one, known in gguf.MODEL_ARCH_NAMES.items() if known == known_as)
    table = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    found = table.get_name(name, try_suffixes=(".weight", ".bias"))
    assert found is not None, name
    return str(found)


def _heads(name: str, architecture: str, config: Any) -> int | None:
    if not ARCHITECTURES[architecture].has_pairs:
        return None
    if ".attn_q." in name:
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if ".attn_k." in name else None


def _is_transposed(name: str, architecture: str, rows: Any) -> bool:
    return ARCHITECTURES[architecture].is_transposed and name.startswith("blk.") and rows.ndim == 2


def _as_llama_cpp(name: str, rows: Any, architecture: str, config: Any) -> Any:
    """Put the rows that are rotated together beside each other, and add the offset of norms."""
    if "norm.weight" in name:
        rows = rows + np.float32(ARCHITECTURES[architecture].norm_offset)
    if _is_transposed(name, architecture, rows):
        rows = rows.T
    heads = _heads(name, architecture, config)
    if heads is None:
        return np.ascontiguousarray(rows)
    return np.ascontiguousarray(rows.reshape(heads, 2, len(rows) // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape))


def _as_transformers(name: str, rows: Any, architecture: str, config: Any) -> Any:
    """Undo `_as_llama_cpp`."""
    if "norm.weight" in name:
        rows = rows - np.float32(ARCHITECTURES[architecture].norm_offset)
    if _is_transposed(name, architecture, rows):
        rows = rows.T
    heads = _heads(name, architecture, config)
    if heads is None:
        return np.ascontiguousarray(rows)
    return np.ascontiguousarray(rows.reshape(heads, len(rows) // heads // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape))


_SCALE_PLACES = {
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q6_K": (208,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
}
"""Places of the float16 numbers in blocks of the types that the package only reads."""


def _quantized(rows: Any, kind: str, random: np.random.Generator) -> Any:
    """Return rows in a type: quantized if the package can, or else random blocks of weights as large as the rows'."""
    if kind in ("F32", "F16"):
        return rows.astype(np.float32 if kind == "F32" else np.float16)
    if rows.ndim > 2:
        return _quantized(rows.reshape(-1, rows.shape[-1]), kind, random).reshape(*rows.shape[:-1], -1)
    if kind not in _SCALE_PLACES:
        return gguf.quants.quantize(rows, gguf.GGMLQuantizationType[kind])
    size, nbytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = random.integers(0, 256, (len(rows), rows.shape[1] // size, nbytes), dtype=np.uint8)
    for place in _SCALE_PLACES[kind]:
        blocks[..., place : place + 2] = np.array([1e-4], "<f2").view(np.uint8)
    data = blocks.reshape(len(rows), -1)
    spread = np.abs(gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind])).mean()
    scale = np.array([1e-4 * np.abs(rows).mean() / spread], "<f2").view(np.uint8)
    for place in _SCALE_PLACES[kind]:
        blocks[..., place : place + 2] = scale
    return blocks.reshape(len(rows), -1)
