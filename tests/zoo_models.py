"""Small random models of every causal architecture of transformers, made from its config classes.

Sizes are shrunk by the names of their fields, which follow a few conventions; nothing here is a list of models.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCAB = 384
CONTEXT = 256
SPREAD = 0.1
"""Of the weights, so that the next tokens differ and greedy decoding wanders."""

LAYERS = 4

_SIZES: tuple[tuple[str, int], ...] = (
    (r".*vocab_size.*|n_tokens|.*entity.*vocab.*", VOCAB),
    (r"(text_)?max_position_embeddings|n_positions|n_ctx|max_seq_len|seq_length", CONTEXT),
    (r"max_sequence_length|context_length", CONTEXT),
    (r"original_max_position_embeddings", CONTEXT),
    (r"num_(hidden|decoder|encoder)?_?layers|n_layers?|(encoder|decoder)_layers|num_blocks", LAYERS),
    (r"num_key_value_heads|multi_query_group_num|num_kv_heads|n_head_kv|.*num_key_value_heads", 2),
    (r".*num_attention_heads|n_heads?|(encoder|decoder)_attention_heads|num_heads", 4),
    (r"(global_|swa_)?head_dim|attention_head_dim|kv_channels|d_kv|(swa_)?v_head_dim|qk_nope_head_dim", 16),
    (r"qk_rope_head_dim", 8),
    (r"qk_head_dim", 24),
    (r"(q|kv|o)_lora_rank", 16),
    (r"hidden_size|d_model|n_embd|embedding_size|dim_model|emb_dim", 64),
    (r"word_embed_proj_dim|input_embedding_size|lru_width", 64),
    (r".*(intermediate|ffn|inner)_(size|dim|hidden_size)|dim_ff|n_inner|.*ffn_dim|d_inner|mlp_hidden_size", 64),
    (r"(num|n)_(local_|routed_|dense_)?experts|moe_num_experts|n_routed_experts|num_total_experts|zero_expert_num", 4),
    (r"(num_experts_per_tok|moe_topk|moe_k|moe_top_k|num_experts_per_token|top_k_experts)", 2),
    (r"(n|num)_shared_experts|moe_num_shared_experts", 1),
    (r"n_group|topk_group", 1),
    (r"sliding_window|attention_window_size|attention_chunk_size|window_size", 24),
    (r"(linear_|mamba_)?(num_(key|value)_heads)", 4),
    (r"linear_num_(key|value)_heads", 4),
    (r"linear_(key|value)_head_dim", 16),
    (r"mamba_n_heads|mamba_num_heads", 8),
    (r"mamba_d_head|mamba_head_dim", 16),
    (r"mamba_d_state|state_size|ssm_state_size", 8),
    (r"mamba_n_groups|n_groups|mamba_ngroups", 1),
    (r"mamba_d_ssm", 128),
    (r"(mamba_)?chunk_size", 16),
    (r"time_step_rank|mamba_dt_rank", 8),
    (r"index_n_heads", 4),
    (r"index_head_dim", 16),
    (r"index_topk", CONTEXT),
    (r"rotary_dim", 8),
    (r"(attn|expert)_layer_period", 2),
    (r"(attn|expert)_layer_offset", 1),
    (r"num_kv_shared_layers", 1),
)  # fmt: skip


_NEEDED = {"head_dim", "n_routed_experts", "num_experts_per_tok"}
"""What no default is of use for."""

_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"num_key_value_heads": 4},
    {"attn_layer_indices": [1, 3], "layer_types": ["mamba", "attention"] * 2, "num_heads": 8},
    {"layer_types": ["conv", "full_attention"] * 2},
    {"layer_types": ["full_attention"] * 4, "num_key_value_heads": 4},
    {"hidden_size_per_layer_input": 0},
)
"""What else a config may need to be consistent, in the order in which it is tried."""


def kinds() -> list[str]:
    """Every model type that transformers loads as a causal language model."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def small_model(kind: str, seed: int = 0) -> Any:
    """A random model of a model type: the first variant that reads a text, else the first that can be made at all."""
    made, problem = None, None
    for variant in _VARIANTS:
        try:
            model = _made(kind, variant, seed)
        except Exception as error:  # noqa: BLE001 - a config or model class may raise anything about sizes
            problem = problem or error
            continue
        made = model if made is None else made
        try:
            with torch.inference_mode():
                model(input_ids=torch.tensor([[5, 6, 7]]))
        except Exception:  # noqa: BLE001 - the next variant may fit together better
            continue
        return model
    if made is None:
        assert problem is not None
        raise problem
    return made


def _made(kind: str, variant: dict[str, Any], seed: int) -> Any:
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        model = _model_class(kind)(small_config(kind, variant)).eval()
        _spread(model)
    finally:
        torch.random.set_rng_state(state)
    return model


def small_config(kind: str, variant: dict[str, Any]) -> Any:
    """A config of a model type with small sizes."""
    maker: Any = _model_class(kind).config_class
    default = CONFIG_MAPPING[kind]()
    if not isinstance(default, maker):  # a model with more than text, whose text part alone is the language model
        maker = type(default.get_text_config(decoder=True))
    fields = maker().to_dict()
    given = _shrunk(fields) | {name: value for name, value in variant.items() if name in fields}
    return _with_ends(maker(**given))


def _shrunk(fields: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    latent = "qk_rope_head_dim" in fields  # its head_dim is that of the part with positions
    for name, value in fields.items():
        if name == "is_decoder":
            given[name] = True
        if isinstance(value, bool) or name in {"model_type", "transformers_version", "architectures"}:
            continue
        if isinstance(value, dict) and name.endswith("_config") and name != "per_layer_config":
            given[name] = value | _shrunk(value)
        elif isinstance(value, int) or value is None:
            if (size := _size(name)) is not None and (value is not None or name in _NEEDED):
                given[name] = _size("qk_rope_head_dim") if latent and name == "head_dim" else size
        elif isinstance(value, list) and value and _is_by_layer(name, value, fields):
            given[name] = _some(value)
    return given


def _size(name: str) -> int | None:
    return next((size for pattern, size in _SIZES if re.fullmatch(pattern, name)), None)


def _is_by_layer(name: str, value: list[Any], fields: dict[str, Any]) -> bool:
    layers = next((fields[key] for key in ("num_hidden_layers", "n_layer", "num_layers") if fields.get(key)), None)
    return len(value) == layers


def _some(values: list[Any]) -> list[Any]:
    """As many as there are layers, with each kind that there is among them where they are kinds."""
    kinds = list(dict.fromkeys(values)) if all(isinstance(value, str) for value in values) else []
    return [*kinds, *values][:LAYERS] if len(kinds) > 1 else values[:LAYERS]


def _with_ends(config: Any) -> Any:
    for part in {
        id(config): config,
        id(config.get_text_config(decoder=True)): config.get_text_config(decoder=True),
    }.values():
        part.eos_token_id, part.pad_token_id, part.bos_token_id = 0, 0, 0
        if getattr(part, "languages", None):
            part.default_language = part.languages[0]
    return config


def _model_class(kind: str) -> Any:
    return getattr(transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind])


def _spread(model: Any) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2 and parameter.is_floating_point():
                std = parameter.std()
                if float(std) == 0:  # a router of zeros would find all experts equally good
                    parameter.normal_(std=SPREAD)
                elif float(std) < SPREAD:
                    parameter.mul_(SPREAD / std)


def save_small(kind: str, folder: Path, tokenizer: Any) -> Path:
    model = small_model(kind)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
