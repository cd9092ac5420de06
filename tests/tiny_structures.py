"""Configs of small random models: one for each structure of blocks that own decoders compute, and some others."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import transformers

from tests.tiny_models import bpe_tokenizer, llama_like, save_config

VOCAB = 384

# Typed as Any, for transformers' configs are only partly typed.
Cohere: Any = transformers.CohereConfig
Cohere2: Any = transformers.Cohere2Config
GPT2: Any = transformers.GPT2Config
GPTNeoX: Any = transformers.GPTNeoXConfig
Gemma: Any = transformers.GemmaConfig
Gemma2: Any = transformers.Gemma2Config
Gemma3: Any = transformers.Gemma3TextConfig
Granite: Any = transformers.GraniteConfig
Llama: Any = transformers.LlamaConfig
Mistral: Any = transformers.MistralConfig
Qwen2: Any = transformers.Qwen2Config
Mixtral: Any = transformers.MixtralConfig
Olmo2: Any = transformers.Olmo2Config
Olmo3: Any = transformers.Olmo3Config
Phi: Any = transformers.PhiConfig
Phi3: Any = transformers.Phi3Config
Qwen3: Any = transformers.Qwen3Config
Qwen3Moe: Any = transformers.Qwen3MoeConfig
SmolLM3: Any = transformers.SmolLM3Config
StableLm: Any = transformers.StableLmConfig
Starcoder2: Any = transformers.Starcoder2Config


def shaped(kind: Any, **more: Any) -> Any:
    return kind(vocab_size=VOCAB, **llama_like(initializer_range=0.2, **more))


def unshared(kind: Any, **more: Any) -> Any:
    """A config of a family without grouped keys."""
    sizes = llama_like(initializer_range=0.2, **more)
    del sizes["num_key_value_heads"]
    return kind(vocab_size=VOCAB, **sizes)


def gpt2(**more: Any) -> Any:
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "bos_token_id": 0, "eos_token_id": 0}
    return GPT2(vocab_size=VOCAB, initializer_range=0.2, **sizes | more)


TYPES = ["sliding_attention", "full_attention"]


def gemma2(kind: Any = Gemma2, **more: Any) -> Any:
    sizes = {"head_dim": 16, "query_pre_attn_scalar": 20, "sliding_window": 24, "layer_types": TYPES}
    return shaped(kind, **sizes | more)


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

FUSED: dict[str, Callable[[], Any]] = {
    "grouped": lambda: shaped(Llama),
    "multi-head": lambda: shaped(Llama, num_key_value_heads=4),
    "multi-query": lambda: shaped(Llama, num_key_value_heads=1),
    "tied": lambda: shaped(Llama, tie_word_embeddings=True),
    "attention-bias": lambda: shaped(Llama, attention_bias=True),
    "mlp-bias": lambda: shaped(Llama, mlp_bias=True),
    "both-biases": lambda: shaped(Llama, attention_bias=True, mlp_bias=True, num_key_value_heads=1),
    "llama3-rope": lambda: shaped(Llama, rope_parameters=LLAMA3_ROPE),
    "linear-rope": lambda: shaped(Llama, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}),
    "wide-heads": lambda: shaped(Llama, head_dim=24),
    "narrow-heads": lambda: shaped(Llama, head_dim=4),
    "coarse-epsilon": lambda: shaped(Llama, rms_norm_eps=0.1),
    "mistral": lambda: shaped(Mistral, sliding_window=None),
    "mistral-window-of-all": lambda: shaped(Mistral, sliding_window=512),
    "qwen2": lambda: shaped(Qwen2),
    "qwen2-tied": lambda: shaped(Qwen2, tie_word_embeddings=True),
    "qwen3": lambda: shaped(Qwen3, head_dim=16),
    "qwen3-bias": lambda: shaped(Qwen3, head_dim=16, attention_bias=True, num_key_value_heads=1),
}

PARTIAL_ROPE = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
YARN_ROPE = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}

LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0, 5.0, 9.0, 30.0],
    "original_max_position_embeddings": 512,
}
"""With angles of short texts alone, because one forward over the whole is no oracle for texts that cross the border:
test_proof compares these."""

FAMILIES: dict[str, Callable[[], Any]] = {
    "mistral-window": lambda: shaped(Mistral, sliding_window=24),
    "qwen2-window": lambda: shaped(Qwen2, use_sliding_window=True, sliding_window=24, max_window_layers=1),
    "dynamic-rope": lambda: shaped(Llama, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}),
    "yarn-rope": lambda: shaped(Llama, rope_parameters=YARN_ROPE),
    "longrope": lambda: shaped(Llama, rope_parameters=LONG_ROPE),
    "gelu": lambda: shaped(Llama, hidden_act="gelu"),
    "relu2": lambda: shaped(Llama, hidden_act="relu2"),
    "granite": lambda: shaped(
        Granite, embedding_multiplier=3.0, residual_multiplier=0.5, attention_multiplier=0.2, logits_scaling=2.0
    ),
    "gemma": lambda: shaped(Gemma, head_dim=16),
    "gemma2": lambda: gemma2(attn_logit_softcapping=3.0, final_logit_softcapping=5.0),
    "gemma3": lambda: gemma2(Gemma3),
    "phi3": lambda: shaped(Phi3, sliding_window=24, rope_parameters=PARTIAL_ROPE),
    "smollm3": lambda: shaped(SmolLM3, no_rope_layer_interval=2, use_sliding_window=True, sliding_window=24),
    "olmo2": lambda: shaped(Olmo2),
    "stablelm": lambda: shaped(StableLm, use_qkv_bias=True),
    "stablelm-parallel": lambda: shaped(StableLm, use_parallel_residual=True, qk_layernorm=True),
    "starcoder2": lambda: shaped(Starcoder2, sliding_window=24),
    "gpt2": lambda: gpt2(scale_attn_by_inverse_layer_idx=True),
    "gpt-neox": lambda: unshared(GPTNeoX),
    "mixtral": lambda: shaped(Mixtral, num_local_experts=4, num_experts_per_tok=2, sliding_window=24),
    "qwen3-moe": lambda: shaped(
        Qwen3Moe, head_dim=16, moe_intermediate_size=24, num_experts=6, num_experts_per_tok=3, norm_topk_prob=False
    ),
    "phi": lambda: shaped(Phi),
    "cohere": lambda: shaped(Cohere, logit_scale=0.5),
    "cohere2": lambda: shaped(Cohere2, logit_scale=2.0, sliding_window=24, layer_types=TYPES),
    "olmo3": lambda: shaped(Olmo3, sliding_window=24, layer_types=TYPES),
    "gpt-neox-serial": lambda: unshared(GPTNeoX, use_parallel_residual=False, attention_bias=False),
}
"""Other structures than that of Llama's family, or with parts that none of it has."""

FUSED |= FAMILIES

GENERAL: dict[str, Callable[[], Any]] = {
    "partial-rotary": lambda: shaped(Llama, rope_parameters=PARTIAL_ROPE),
    "other-activation": lambda: shaped(Llama, hidden_act="tanh"),
    "parallel-with-other-heads": lambda: unshared(GPTNeoX, head_dim=16, rope_parameters=PARTIAL_ROPE),
}


FolderOf: TypeAlias = Callable[[str], Path]
"""Returns the folder of a model of a case, whose biases and norms are not what they start as."""


def saved_structures(root: Path) -> FolderOf:
    """A function that writes a model of `FUSED` or `GENERAL` to the folder when it is first asked for."""
    tokenizer = bpe_tokenizer(VOCAB)

    @cache
    def folder(case: str) -> Path:
        return save_config(root / case, (FUSED | GENERAL)[case](), tokenizer, seed=len(case), vectors=0.3)

    return folder
