"""The config of transformers that a GGUF file's header describes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from workbench.errors import ModelFormatError, shortened
from workbench.gguf_files.model import GgufModel

_LLAMA_CONTEXT = 8192
"""Context length of the texts before Llama 3.1's scaling of rotary angles."""
_SLIDING_BASE = 10_000.0
_UNCOVERED = ("attention.clamp_kqv", "attention.max_alibi_bias")
_MIXTURES = frozenset({"llama", "qwen3moe"})
_PARTLY_ROTATED = frozenset({"phi3", "stablelm"})
_LARGEST_GEMMA2, _LARGEST_GEMMA3 = 46, 62
"""Numbers of layers of the 27B models, whose queries are scaled by another head size."""


def config_of(model: GgufModel) -> dict[str, Any]:
    """Return the content of the ``config.json`` that transformers needs.

    Raises:
        ModelFormatError: a value is missing or not covered; the message names it.
    """
    read = _READERS[model.architecture]
    if model.experts and model.architecture not in _MIXTURES:
        raise ModelFormatError(
            f"{model.path} is a mixture of experts of the kind {model.architecture}, which cannot be served yet."
        )
    if model.header.metadata.get(f"{model.architecture}.attention.causal") is False:
        raise ModelFormatError(f"{model.path} has attention that is not causal; such a model does not generate text.")
    for key in _UNCOVERED:
        if model.number(key, 0.0):
            raise ModelFormatError(f"{model.path} sets {model.architecture}.{key}, which cannot be served yet.")
    config = _common(model) | read(model) | _token_ids(model)
    rotated = model.size("rope.dimension_count", config["head_dim"])
    if model.architecture not in _PARTLY_ROTATED and rotated != config["head_dim"]:
        raise ModelFormatError(
            f"{model.path} rotates {rotated} of {config['head_dim']} components of a head "
            f"({model.architecture}.rope.dimension_count), which this architecture does not have."
        )
    return config


def _common(model: GgufModel) -> dict[str, Any]:
    heads, hidden = model.size("attention.head_count"), model.size("embedding_length")
    layers, embedding = model.size("block_count"), model.tensors.get("token_embd.weight")
    if layers > len(model.tensors):
        raise ModelFormatError(f"{model.path} declares {layers:,} layers, but has {len(model.tensors):,} tensors.")
    if model.experts and layers * model.experts > (found := len(model.stored_tensors())):
        raise ModelFormatError(
            f"{model.path} declares {layers:,} layers of {model.experts:,} experts, but has {found:,} tensors, with "
            f"those of each expert counted."
        )
    if embedding is None or len(embedding[0].shape) != 2:
        raise ModelFormatError(f"{model.path} has no matrix token_embd.weight.")
    return {
        "dtype": "float32",
        "hidden_size": hidden,
        "intermediate_size": model.size("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": model.size("attention.head_count_kv", heads),
        "head_dim": model.size("attention.key_length", max(hidden // heads, 1)),
        "max_position_embeddings": model.size("context_length"),
        "vocab_size": embedding[0].shape[1],
        "tie_word_embeddings": "output.weight" not in model.tensors,
        "rope_parameters": _rope(model),
    }


def _token_ids(model: GgufModel) -> dict[str, Any]:
    keys = {"bos": "bos", "eos": "eos", "pad": "padding"}
    found = {name: model.header.whole(f"tokenizer.ggml.{key}_token_id") for name, key in keys.items()}
    return {f"{name}_token_id": token_id for name, token_id in found.items()}


def _rope(model: GgufModel) -> dict[str, Any]:
    """Return the rotary parameters of a model with one set of angles."""
    rope: dict[str, Any] = {"rope_theta": model.number("rope.freq_base", 10_000.0), "rope_type": "default"}
    prefix = f"{model.architecture}.rope."
    kind = model.header.text(f"{prefix}scaling.type")
    if "rope_freqs.weight" in model.tensors:
        return rope | _llama3(model, rope["rope_theta"])
    if kind == "linear" or f"{prefix}scale_linear" in model.header.metadata:
        factor = model.number("rope.scaling.factor", model.number("rope.scale_linear", 1.0))
        return rope | ({} if factor == 1.0 else {"rope_type": "linear", "factor": factor})
    if kind == "yarn":
        original = model.size("rope.scaling.original_context_length")
        yarn = {"rope_type": "yarn", "factor": model.number("rope.scaling.factor")}
        return rope | yarn | {"original_max_position_embeddings": original}
    if kind in (None, "none", "longrope"):  # longrope's factors are tensors
        return rope
    raise ModelFormatError(
        f"{model.path} scales rotary angles by {shortened(kind)}; linear, yarn and longrope are read."
    )


def _llama3(model: GgufModel, base: float) -> dict[str, Any]:
    """Return the scaling of Llama 3.1, of which a file has only the factors of the frequencies.

    They are recognized by computing them again: a file with others is refused.
    """
    factors = model.floats("rope_freqs.weight")
    factor, width = max(factors, default=1.0), 2 * len(factors)
    if factor == 1.0:
        return {}
    low, high = 1.0, 4.0
    is_possible = base >= 1 and all(math.isfinite(one) and one > 0 for one in factors)
    for index, found in enumerate(factors):
        turns = _LLAMA_CONTEXT * base ** (-2 * index / width) / (2 * math.pi) if is_possible else 0.0
        smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
        if not is_possible or not math.isclose(1 / ((1 - smooth) / factor + smooth), found, rel_tol=1e-4):
            raise ModelFormatError(
                f"{model.path} scales rotary angles (rope_freqs.weight) in another way than Llama 3.1, "
                f"which cannot be served yet."
            )
    scaling = {"low_freq_factor": low, "high_freq_factor": high, "original_max_position_embeddings": _LLAMA_CONTEXT}
    return {"rope_type": "llama3", "factor": factor, **scaling}


def _rms(model: GgufModel, name: str, model_type: str) -> dict[str, Any]:
    epsilon = model.number("attention.layer_norm_rms_epsilon")
    return {"architectures": [name], "model_type": model_type, "rms_norm_eps": epsilon}


def _biases(model: GgufModel) -> dict[str, Any]:
    parts = {"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_up.bias"}
    return {option: name in model.tensors for option, name in parts.items()}


def _llama(model: GgufModel) -> dict[str, Any]:
    if model.experts:
        return _mixtral(model)
    head = model.size("attention.key_length", model.size("rope.dimension_count", _head_size(model)))
    return _rms(model, "LlamaForCausalLM", "llama") | _biases(model) | {"head_dim": head, "hidden_act": "silu"}


def _head_size(model: GgufModel) -> int:
    return max(model.size("embedding_length") // model.size("attention.head_count"), 1)


def _mixtral(model: GgufModel) -> dict[str, Any]:
    head = model.size("attention.key_length", model.size("rope.dimension_count", _head_size(model)))
    experts = {"num_local_experts": model.experts, "num_experts_per_tok": model.size("expert_used_count")}
    sizes = {"head_dim": head, "hidden_act": "silu", "sliding_window": None}
    return _rms(model, "MixtralForCausalLM", "mixtral") | experts | sizes


def _smollm3(model: GgufModel) -> dict[str, Any]:
    return _rms(model, "SmolLM3ForCausalLM", "smollm3") | _biases(model)


def _granite(model: GgufModel) -> dict[str, Any]:
    scales = {
        "embedding_multiplier": model.number("embedding_scale", 1.0),
        "residual_multiplier": model.number("residual_scale", 1.0),
        "logits_scaling": model.number("logit_scale", 1.0),
        "attention_multiplier": model.number("attention.scale", _head_size(model) ** -0.5),
    }
    return _rms(model, "GraniteForCausalLM", "granite") | _biases(model) | scales


def _qwen2(model: GgufModel) -> dict[str, Any]:
    return _rms(model, "Qwen2ForCausalLM", "qwen2") | {"use_sliding_window": False}


def _qwen3(model: GgufModel) -> dict[str, Any]:
    return _rms(model, "Qwen3ForCausalLM", "qwen3") | {"use_sliding_window": False, "attention_bias": False}


def _qwen3_moe(model: GgufModel) -> dict[str, Any]:
    return _qwen3(model) | {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "num_experts": model.experts,
        "num_experts_per_tok": model.size("expert_used_count"),
        "moe_intermediate_size": model.size("expert_feed_forward_length"),
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def _gpt2(model: GgufModel) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "rope_parameters": None,
        "n_embd": model.size("embedding_length"),
        "n_layer": model.size("block_count"),
        "n_head": model.size("attention.head_count"),
        "n_positions": model.size("context_length"),
        "n_inner": model.size("feed_forward_length"),
        "activation_function": "gelu_new",
        "layer_norm_epsilon": model.number("attention.layer_norm_epsilon"),
    }


def _olmo2(model: GgufModel) -> dict[str, Any]:
    if f"{model.architecture}.attention.sliding_window" in model.header.metadata:
        raise ModelFormatError(f"{model.path} is an OLMo 3; GGUF files of it cannot be served yet.")
    return _rms(model, "Olmo2ForCausalLM", "olmo2") | {"attention_bias": False}


def _phi3(model: GgufModel) -> dict[str, Any]:
    rope = _rope(model) | _partial(model)
    if "rope_factors_long.weight" in model.tensors:
        rope |= {
            "rope_type": "longrope",
            "long_factor": model.floats("rope_factors_long.weight"),
            "short_factor": model.floats("rope_factors_short.weight"),
            "original_max_position_embeddings": model.size("rope.scaling.original_context_length"),
            "attention_factor": model.number("rope.scaling.attn_factor", 1.0),
        }
    window = model.header.whole("phi3.attention.sliding_window")
    return _rms(model, "Phi3ForCausalLM", "phi3") | {"rope_parameters": rope, "sliding_window": window or None}


def _partial(model: GgufModel) -> dict[str, Any]:
    size = model.size("attention.key_length", _head_size(model))
    rotated = model.size("rope.dimension_count", size)
    return {"partial_rotary_factor": rotated / size}


def _gemma(model: GgufModel) -> dict[str, Any]:
    activation = "gelu_pytorch_tanh"
    tied = {"tie_word_embeddings": True, "hidden_act": activation, "hidden_activation": activation}
    return _rms(model, "GemmaForCausalLM", "gemma") | tied


def _gemma2(model: GgufModel) -> dict[str, Any]:
    caps = {
        "attn_logit_softcapping": model.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": model.number("final_logit_softcapping", 30.0),
    }
    return (
        _gemma(model)
        | _rms(model, "Gemma2ForCausalLM", "gemma2")
        | caps
        | {
            "sliding_window": model.size("attention.sliding_window", 4096),
            "query_pre_attn_scalar": _query_scalar(model, _LARGEST_GEMMA2),
        }
    )


def _gemma3(model: GgufModel) -> dict[str, Any]:
    base = model.number("rope.freq_base", 1_000_000.0)
    local = model.number("rope.freq_base_swa", _SLIDING_BASE)
    rope = {
        "full_attention": _rope(model) | {"rope_theta": base},
        "sliding_attention": {"rope_type": "default", "rope_theta": local},
    }
    types = ["sliding_attention" if (index + 1) % 6 else "full_attention" for index in range(model.size("block_count"))]
    return (
        _gemma(model)
        | _rms(model, "Gemma3ForCausalLM", "gemma3_text")
        | {
            "tie_word_embeddings": "output.weight" not in model.tensors,
            "rope_parameters": rope,
            "layer_types": types,
            "sliding_window": model.size("attention.sliding_window"),
            "query_pre_attn_scalar": _query_scalar(model, _LARGEST_GEMMA3),
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
        }
    )


def _query_scalar(model: GgufModel, largest: int) -> int:
    """Return the number whose square root divides the scores; no file has it, and llama.cpp assumes the same."""
    return _head_size(model) if model.size("block_count") == largest else model.size("attention.key_length", 256)


def _stablelm(model: GgufModel) -> dict[str, Any]:
    return {
        "architectures": ["StableLmForCausalLM"],
        "model_type": "stablelm",
        "layer_norm_eps": model.number("attention.layer_norm_epsilon"),
        "use_qkv_bias": "blk.0.attn_q.bias" in model.tensors,
        "use_parallel_residual": "blk.0.ffn_norm.weight" not in model.tensors,
        "qk_layernorm": False,
        "rope_parameters": _rope(model) | _partial(model),
    }


def _starcoder2(model: GgufModel) -> dict[str, Any]:
    return {
        "architectures": ["Starcoder2ForCausalLM"],
        "model_type": "starcoder2",
        "norm_epsilon": model.number("attention.layer_norm_epsilon"),
        "use_bias": "blk.0.attn_q.bias" in model.tensors,
        "sliding_window": None,
    }


_READERS: Mapping[str, Callable[[GgufModel], dict[str, Any]]] = {
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "gpt2": _gpt2,
    "granite": _granite,
    "llama": _llama,
    "olmo2": _olmo2,
    "phi3": _phi3,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3moe": _qwen3_moe,
    "smollm3": _smollm3,
    "stablelm": _stablelm,
    "starcoder2": _starcoder2,
}
