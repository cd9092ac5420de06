"""Readers of block structures from the configs of Hugging Face's architectures.

One function reads each family, and takes every option of its config that changes the computation into account. A config
with an option that `BlockStructure` does not cover has no structure, and the general decoder serves its model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.engine import layer_norm_families
from workbench.engine.block_structure import BlockStructure, TensorNames
from workbench.engine.structure_reading import (
    UncoveredError,
    base_structure,
    biases,
    require,
    with_layers,
    with_rotary,
    with_typed_rotary,
    with_typed_windows,
    with_window,
)


def structure_of(config: Any) -> BlockStructure | None:
    """Return the structure of a config of transformers, or None if it is not covered."""
    read = _READERS.get((config.architectures or [""])[0])
    if read is None:
        return None
    try:
        return _checked(read(config))
    except UncoveredError:
        return None


def _checked(structure: BlockStructure) -> BlockStructure:
    names = structure.names
    has_post_norm = names.post_attention_norm or names.post_mlp_norm
    require(structure.heads % structure.kv_heads == 0)
    require(0 <= structure.rotary_dim <= structure.head_dim and structure.rotary_dim % 2 == 0)
    require(not (structure.is_parallel and has_post_norm))
    require(structure.active_experts <= structure.experts)
    require(not (structure.experts and structure.rotary_border))
    return structure


def _rms_structure(config: Any, **parts: Any) -> BlockStructure:
    """Return the structure of a family whose config has Llama's names of these options, except for ``parts``."""
    return base_structure(config, norm_eps=config.rms_norm_eps, activation=config.hidden_act, **parts)


def _llama(config: Any) -> BlockStructure:
    structure = _rms_structure(config, biased=biases(config))
    require(not getattr(config, "sliding_window", None))
    return with_window(config, structure)


def _mistral(config: Any) -> BlockStructure:
    return with_window(config, _rms_structure(config))


def _qwen2(config: Any) -> BlockStructure:
    biased = frozenset({"qkv"})
    structure = _rms_structure(config, biased=biased)
    return with_typed_windows(config, structure)


def _qwen3(config: Any) -> BlockStructure:
    structure = _rms_structure(config, biased=biases(config), qk_norm="head")
    return with_typed_windows(config, structure)


def _qwen3_moe(config: Any) -> BlockStructure:
    require(config.decoder_sparse_step == 1 and not config.mlp_only_layers)
    structure = _rms_structure(
        config,
        biased=biases(config),
        qk_norm="head",
        inner=config.moe_intermediate_size,
        experts=config.num_experts,
        active_experts=config.num_experts_per_tok,
        normalizes_experts=config.norm_topk_prob,
        names=TensorNames(router="mlp.gate", experts="mlp.experts", gate_up=("gate_proj", "up_proj"), down="down_proj"),
    )
    return with_window(config, structure)


def _mixtral(config: Any) -> BlockStructure:
    structure = _rms_structure(
        config,
        experts=config.num_local_experts,
        active_experts=config.num_experts_per_tok,
        normalizes_experts=True,
        names=TensorNames(
            router="block_sparse_moe.gate", experts="block_sparse_moe.experts", gate_up=("w1", "w3"), down="w2"
        ),
    )
    return with_window(config, structure)


def _phi3(config: Any) -> BlockStructure:
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    structure = _rms_structure(
        config,
        names=TensorNames(qkv=("self_attn.qkv_proj",), gate_up=("mlp.gate_up_proj",)),
        **with_rotary(config, head_dim, is_partial=True),
    )
    return with_window(config, structure)


def _smollm3(config: Any) -> BlockStructure:
    structure = _rms_structure(config, biased=biases(config))
    structure = with_layers(structure, rotary=[0 if has_rope else None for has_rope in config.no_rope_layers])
    return with_typed_windows(config, structure)


def _granite(config: Any) -> BlockStructure:
    structure = _rms_structure(
        config,
        biased=biases(config),
        embedding_scale=float(config.embedding_multiplier),
        residual_scale=float(config.residual_multiplier),
        logit_scale=1.0 / config.logits_scaling,
    )
    return with_window(config, with_layers(structure, attention_scale=float(config.attention_multiplier)))


_POST_NORMS = TensorNames(
    pre_attention_norm=None,
    post_attention_norm="post_attention_layernorm",
    pre_mlp_norm=None,
    post_mlp_norm="post_feedforward_layernorm",
)


def _olmo2(config: Any, **parts: Any) -> BlockStructure:
    structure = _rms_structure(config, biased=biases(config), qk_norm="projection", names=_POST_NORMS, **parts)
    return structure if parts else with_window(config, structure)


def _olmo3(config: Any) -> BlockStructure:
    structure = with_typed_windows(config, _olmo2(config, **with_typed_rotary(config)))
    return with_layers(structure, rotary=[structure.rotary.index(kind) for kind in config.layer_types])


def _gemma(config: Any) -> BlockStructure:
    require(not config.use_bidirectional_attention)
    structure = _rms_structure(config, biased=biases(config), norm_offset=1.0, embedding_scale=config.hidden_size**0.5)
    return with_window(config, structure)


_SANDWICH = TensorNames(
    post_attention_norm="post_attention_layernorm",
    pre_mlp_norm="pre_feedforward_layernorm",
    post_mlp_norm="post_feedforward_layernorm",
)


def _gemma2(config: Any, **parts: Any) -> BlockStructure:
    require(not config.use_bidirectional_attention)
    structure = base_structure(
        config,
        norm_eps=config.rms_norm_eps,
        activation=config.hidden_activation,
        biased=biases(config),
        names=_SANDWICH,
        norm_offset=1.0,
        embedding_scale=config.hidden_size**0.5,
        attention_cap=float(config.attn_logit_softcapping or 0.0),
        logit_cap=float(config.final_logit_softcapping or 0.0),
        **parts,
    )
    return with_typed_windows(config, with_layers(structure, attention_scale=config.query_pre_attn_scalar**-0.5))


def _gemma3(config: Any) -> BlockStructure:
    require(not config.attn_logit_softcapping)  # transformers has the option, but does not apply it
    structure = _gemma2(config, qk_norm="head", **with_typed_rotary(config))
    return with_layers(structure, rotary=[structure.rotary.index(kind) for kind in config.layer_types])


_READERS: dict[str, Callable[[Any], BlockStructure]] = {
    "Cohere2ForCausalLM": layer_norm_families.cohere2,
    "CohereForCausalLM": layer_norm_families.cohere,
    "GPT2LMHeadModel": layer_norm_families.gpt2,
    "GPTNeoXForCausalLM": layer_norm_families.gpt_neox,
    "Gemma2ForCausalLM": _gemma2,
    "Gemma3ForCausalLM": _gemma3,
    "GemmaForCausalLM": _gemma,
    "GraniteForCausalLM": _granite,
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _mistral,
    "MixtralForCausalLM": _mixtral,
    "Olmo2ForCausalLM": _olmo2,
    "Olmo3ForCausalLM": _olmo3,
    "Phi3ForCausalLM": _phi3,
    "PhiForCausalLM": layer_norm_families.phi,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3,
    "Qwen3MoeForCausalLM": _qwen3_moe,
    "SmolLM3ForCausalLM": _smollm3,
    "StableLmForCausalLM": layer_norm_families.stablelm,
    "Starcoder2ForCausalLM": layer_norm_families.starcoder2,
}

ARCHITECTURES = tuple(sorted(_READERS))
"""Names of architectures in configs."""
