"""Readers of block structures of the families with layer norms; `workbench.engine.families` lists them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from workbench.engine.block_structure import BlockStructure, TensorNames
from workbench.engine.structure_reading import (
    ALL_BIASES,
    base_structure,
    biases,
    plain_head_dim,
    require,
    with_layers,
    with_rotary,
    with_typed_windows,
    with_window,
)


def stablelm(config: Any) -> BlockStructure:
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


def starcoder2(config: Any) -> BlockStructure:
    structure = base_structure(
        config,
        norm_eps=config.norm_epsilon,
        activation=config.hidden_act,
        biased=ALL_BIASES if config.use_bias else frozenset(),
        names=TensorNames(gate_up=("mlp.c_fc",), down="mlp.c_proj"),
        norm="layer",
        has_norm_bias=True,
        is_gated=False,
    )
    return with_window(config, structure)


def gpt_neox(config: Any) -> BlockStructure:
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
        biased=ALL_BIASES if config.attention_bias else frozenset({"mlp"}),
        names=names,
        norm="layer",
        has_norm_bias=True,
        qkv_by_head=True,
        is_parallel=config.use_parallel_residual,
        is_gated=False,
        kv_heads=config.num_attention_heads,
        **with_rotary(config, head_dim, is_partial=True),
    )


def gpt2(config: Any) -> BlockStructure:
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
        biased=ALL_BIASES,
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


def phi(config: Any) -> BlockStructure:
    require(not config.qk_layernorm)
    norm = "input_layernorm"
    return base_structure(
        config,
        norm_eps=config.layer_norm_eps,
        activation=config.hidden_act,
        biased=ALL_BIASES | {"head"},
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


def cohere(config: Any) -> BlockStructure:
    require(not getattr(config, "use_qk_norm", False))
    return base_structure(
        config,
        norm_eps=config.layer_norm_eps,
        activation=config.hidden_act,
        biased=biases(config),
        names=TensorNames(pre_mlp_norm="input_layernorm"),
        norm="layer",
        is_parallel=True,
        is_interleaved=True,
        logit_scale=float(config.logit_scale),
    )


def cohere2(config: Any) -> BlockStructure:
    """Return a structure whose layers with windows alone have rotary positions."""
    structure = with_typed_windows(config, cohere(config))
    kinds = config.layer_types
    return with_layers(structure, rotary=[0 if kind == "sliding_attention" else None for kind in kinds])
