"""Readers of block structures from the configs of Hugging Face's architectures.

One function reads each family, and takes every option of its config that changes the computation into account. A config
with an option that `BlockStructure` does not cover has no structure, and the general decoder serves its model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from workbench.engine.block_structure import BlockStructure, TensorNames
from workbench.engine.structure_reading import (
    UncoveredError,
    base_structure,
    plain_head_dim,
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
    return structure


_ATTENTION_BIASES = frozenset({"qkv", "output"})
_ALL_BIASES = _ATTENTION_BIASES | {"mlp"}


def _biases(config: Any) -> frozenset[str]:
    attention = _ATTENTION_BIASES if getattr(config, "attention_bias", False) else frozenset()
    return attention | ({"mlp"} if getattr(config, "mlp_bias", False) else frozenset())


def _llama(config: Any) -> BlockStructure:
    structure = base_structure(
        config, norm_eps=config.rms_norm_eps, activation=config.hidden_act, biased=_biases(config)
    )
    require(not getattr(config, "sliding_window", None))
    return with_window(config, structure)


def _mistral(config: Any) -> BlockStructure:
    return with_window(config, base_structure(config, norm_eps=config.rms_norm_eps, activation=config.hidden_act))


def _qwen2(config: Any) -> BlockStructure:
    biased = frozenset({"qkv"})
    structure = base_structure(config, norm_eps=config.rms_norm_eps, activation=config.hidden_act, biased=biased)
    return with_typed_windows(config, structure)


def _qwen3(config: Any) -> BlockStructure:
    structure = base_structure(
        config, norm_eps=config.rms_norm_eps, activation=config.hidden_act, biased=_biases(config), qk_norm="head"
    )
    return with_typed_windows(config, structure)


def _phi3(config: Any) -> BlockStructure:
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    structure = base_structure(
        config,
        norm_eps=config.rms_norm_eps,
        activation=config.hidden_act,
        names=TensorNames(qkv=("self_attn.qkv_proj",), gate_up=("mlp.gate_up_proj",)),
        **with_rotary(config, head_dim, is_partial=True),
    )
    return with_window(config, structure)


def _smollm3(config: Any) -> BlockStructure:
    structure = base_structure(
        config, norm_eps=config.rms_norm_eps, activation=config.hidden_act, biased=_biases(config)
    )
    structure = with_layers(structure, rotary=[0 if has_rope else None for has_rope in config.no_rope_layers])
    return with_typed_windows(config, structure)


def _granite(config: Any) -> BlockStructure:
    structure = base_structure(
        config,
        norm_eps=config.rms_norm_eps,
        activation=config.hidden_act,
        biased=_biases(config),
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
    structure = base_structure(
        config,
        norm_eps=config.rms_norm_eps,
        activation=config.hidden_act,
        biased=_biases(config),
        qk_norm="projection",
        names=_POST_NORMS,
        **parts,
    )
    return structure if parts else with_window(config, structure)


def _olmo3(config: Any) -> BlockStructure:
    structure = with_typed_windows(config, _olmo2(config, **with_typed_rotary(config)))
    return with_layers(structure, rotary=[structure.rotary.index(kind) for kind in config.layer_types])


def _stablelm(config: Any) -> BlockStructure:
    names = TensorNames(qk_norm=("self_attn.q_layernorm", "self_attn.k_layernorm"))
    if config.use_parallel_residual:
        names = replace(names, pre_mlp_norm=names.pre_attention_norm)
    head_dim = plain_head_dim(config)
    structure = base_structure(
        config,
        norm_eps=config.layer_norm_eps,
        activation=config.hidden_act,
        biased=frozenset({"qkv"}) if config.use_qkv_bias else frozenset(),
        names=names,
        norm="layer",
        has_norm_bias=True,
        qk_norm="own_heads" if config.qk_layernorm else "none",
        is_parallel=config.use_parallel_residual,
        **with_rotary(config, head_dim, is_partial=True),
    )
    return with_window(config, structure)


def _starcoder2(config: Any) -> BlockStructure:
    structure = base_structure(
        config,
        norm_eps=config.norm_epsilon,
        activation=config.hidden_act,
        biased=_ALL_BIASES if config.use_bias else frozenset(),
        names=TensorNames(gate_up=("mlp.c_fc",), down="mlp.c_proj"),
        norm="layer",
        has_norm_bias=True,
        is_gated=False,
    )
    return with_window(config, structure)


def _gemma(config: Any) -> BlockStructure:
    require(not config.use_bidirectional_attention)
    structure = base_structure(
        config,
        norm_eps=config.rms_norm_eps,
        activation=config.hidden_act,
        biased=_biases(config),
        norm_offset=1.0,
        embedding_scale=config.hidden_size**0.5,
    )
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
        biased=_biases(config),
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


def _gpt_neox(config: Any) -> BlockStructure:
    names = TensorNames(
        embedding="gpt_neox.embed_in",
        layers="gpt_neox.layers",
        final_norm="gpt_neox.final_layer_norm",
        head="embed_out",
        qkv=("attention.query_key_value",),
        output="attention.dense",
        gate_up=("mlp.dense_h_to_4h",),
        down="mlp.dense_4h_to_h",
        unused=(".attention.bias", ".attention.masked_bias", ".attention.rotary_emb.inv_freq"),
    )
    head_dim = plain_head_dim(config)
    return base_structure(
        config,
        norm_eps=config.layer_norm_eps,
        activation=config.hidden_act,
        biased=_ALL_BIASES if config.attention_bias else frozenset({"mlp"}),
        names=names,
        norm="layer",
        has_norm_bias=True,
        qkv_by_head=True,
        is_parallel=config.use_parallel_residual,
        is_gated=False,
        kv_heads=config.num_attention_heads,
        **with_rotary(config, head_dim, is_partial=True),
    )


def _gpt2(config: Any) -> BlockStructure:
    require(not config.add_cross_attention)
    names = TensorNames(
        embedding="transformer.wte",
        positions="transformer.wpe",
        layers="transformer.h",
        final_norm="transformer.ln_f",
        qkv=("attn.c_attn",),
        output="attn.c_proj",
        gate_up=("mlp.c_fc",),
        down="mlp.c_proj",
        pre_attention_norm="ln_1",
        pre_mlp_norm="ln_2",
        unused=(".attn.bias", ".attn.masked_bias"),
    )
    structure = base_structure(
        config,
        norm_eps=config.layer_norm_epsilon,
        activation=config.activation_function,
        biased=_ALL_BIASES,
        names=names,
        norm="layer",
        has_norm_bias=True,
        is_gated=False,
        is_transposed=True,
        inner=config.n_inner or 4 * config.hidden_size,
        kv_heads=config.num_attention_heads,
        rotary=(),
        position_count=config.max_position_embeddings,
    )
    scale = plain_head_dim(config) ** -0.5 if config.scale_attn_weights else 1.0
    divides = config.scale_attn_by_inverse_layer_idx
    scales = [scale / (index + 1 if divides else 1) for index in range(len(structure.layers))]
    return with_layers(structure, rotary=[None] * len(scales), attention_scale=scales)


def _phi(config: Any) -> BlockStructure:
    require(not config.qk_layernorm)
    norm = "input_layernorm"
    return base_structure(
        config,
        norm_eps=config.layer_norm_eps,
        activation=config.hidden_act,
        biased=_ALL_BIASES | {"head"},
        names=TensorNames(
            final_norm="model.final_layernorm",
            output="self_attn.dense",
            gate_up=("mlp.fc1",),
            down="mlp.fc2",
            pre_mlp_norm=norm,
        ),
        norm="layer",
        has_norm_bias=True,
        is_parallel=True,
        is_gated=False,
        **with_rotary(config, plain_head_dim(config), is_partial=True),
    )


def _cohere(config: Any) -> BlockStructure:
    require(not getattr(config, "use_qk_norm", False))
    return base_structure(
        config,
        norm_eps=config.layer_norm_eps,
        activation=config.hidden_act,
        biased=_biases(config),
        names=TensorNames(pre_mlp_norm="input_layernorm"),
        norm="layer",
        is_parallel=True,
        is_interleaved=True,
        logit_scale=float(config.logit_scale),
    )


def _cohere2(config: Any) -> BlockStructure:
    """Return a structure whose layers with windows alone have rotary positions."""
    structure = with_typed_windows(config, _cohere(config))
    kinds = config.layer_types
    return with_layers(structure, rotary=[0 if kind == "sliding_attention" else None for kind in kinds])


_READERS: dict[str, Callable[[Any], BlockStructure]] = {
    "Cohere2ForCausalLM": _cohere2,
    "CohereForCausalLM": _cohere,
    "GPT2LMHeadModel": _gpt2,
    "GPTNeoXForCausalLM": _gpt_neox,
    "Gemma2ForCausalLM": _gemma2,
    "Gemma3ForCausalLM": _gemma3,
    "GemmaForCausalLM": _gemma,
    "GraniteForCausalLM": _granite,
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _mistral,
    "Olmo2ForCausalLM": _olmo2,
    "Olmo3ForCausalLM": _olmo3,
    "Phi3ForCausalLM": _phi3,
    "PhiForCausalLM": _phi,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3,
    "SmolLM3ForCausalLM": _smollm3,
    "StableLmForCausalLM": _stablelm,
    "Starcoder2ForCausalLM": _starcoder2,
}

ARCHITECTURES = tuple(sorted(_READERS))
"""Names of architectures in configs."""
