"""Parts that the readers of block structures share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workbench.engine.block_structure import Activation, BlockStructure, LayerStructure

_ROPE_TYPES = frozenset({"default", "linear", "llama3", "yarn", "dynamic"})
"""Rotary types whose angles depend only on the position; those of dynamic scaling change beyond the context alone."""

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
}
"""Activations of transformers that kernels have."""


class UncoveredError(Exception):
    """A config has an option that `BlockStructure` does not cover."""


def require(covered: object) -> None:
    """Raise unless an option has a value that `BlockStructure` covers."""
    if not covered:
        raise UncoveredError


def base_structure(config: Any, *, norm_eps: float, activation: str, **parts: Any) -> BlockStructure:
    """Return the structure that Llama's block has with the config's sizes, except for ``parts``."""
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    require(activation in ACTIVATIONS)
    given = {
        "hidden": config.hidden_size,
        "inner": getattr(config, "intermediate_size", None),
        "kv_heads": getattr(config, "num_key_value_heads", None) or heads,
        "layers": tuple(
            LayerStructure(rotary=0, attention_scale=head_dim**-0.5) for _ in range(config.num_hidden_layers)
        ),
        "rotary": (None,),
        **({} if "rotary" in parts else with_rotary(config, head_dim)),
    }
    return BlockStructure(
        vocab=config.vocab_size,
        heads=heads,
        head_dim=head_dim,
        is_tied=config.tie_word_embeddings,
        norm_eps=norm_eps,
        activation=ACTIVATIONS[activation],
        **given | parts,
    )


def with_rotary(config: Any, head_dim: int, *, is_partial: bool = False) -> dict[str, Any]:
    """Return the fields of a structure with one set of angles.

    Args:
        is_partial: whether the family rotates the part of a head that its config names; others ignore it.
    """
    rope = config.rope_parameters
    is_long = rope is not None and rope.get("rope_type") == "longrope"
    border = int(rope["original_max_position_embeddings"]) if is_long else 0
    return {
        "rotary": (None,),
        "rotary_dim": _rotary_dim(rope, head_dim, is_partial=is_partial, is_long=is_long),
        "rotary_border": border if border < config.max_position_embeddings else 0,
    }


def with_typed_rotary(config: Any) -> dict[str, Any]:
    """Return the fields of a structure with a set of angles for each type of layer."""
    kinds = tuple(sorted(set(config.layer_types)))
    head_dim = getattr(config, "head_dim", None) or plain_head_dim(config)
    widths = {_rotary_dim(config.rope_parameters.get(kind), head_dim) for kind in kinds}
    require(len(widths) == 1)
    return {"rotary": kinds, "rotary_dim": widths.pop()}


def _rotary_dim(rope: dict[str, Any] | None, head_dim: int, *, is_partial: bool = False, is_long: bool = False) -> int:
    """Return how many components of a head are rotated."""
    require(rope and (is_long or rope.get("rope_type") in _ROPE_TYPES))
    factor = (rope or {}).get("partial_rotary_factor") or 1.0
    require(is_partial or factor == 1.0)
    return int(head_dim * factor)


_ATTENTION_BIASES = frozenset({"qkv", "output"})
ALL_BIASES = _ATTENTION_BIASES | {"mlp"}
"""The layers' parts that may have biases."""


def biases(config: Any) -> frozenset[str]:
    """Return the parts with biases of a family whose config says so of attention and of the MLP."""
    attention = _ATTENTION_BIASES if getattr(config, "attention_bias", False) else frozenset()
    return attention | ({"mlp"} if getattr(config, "mlp_bias", False) else frozenset())


def plain_head_dim(config: Any) -> int:
    """Return the head size of a family whose heads together are as wide as the hidden states."""
    size = int(config.hidden_size // config.num_attention_heads)
    require(getattr(config, "head_dim", None) in {None, size})
    return size


def with_layers(structure: BlockStructure, **fields: Sequence[Any] | float) -> BlockStructure:
    """Return the structure with fields of `LayerStructure`, each one for all layers or with a value for each."""
    count = len(structure.layers)
    columns: dict[str, Any] = {
        name: value if isinstance(value, Sequence) else [value] * count for name, value in fields.items()
    }
    require(all(len(column) == count for column in columns.values()))
    layers = (
        replace(layer, **{name: column[index] for name, column in columns.items()})
        for index, layer in enumerate(structure.layers)
    )
    return replace(structure, layers=tuple(layers))


def _window(config: Any) -> int:
    """Return the config's window, 0 if it has none or one that no text fills."""
    window = getattr(config, "sliding_window", None)
    return 0 if window is None or window >= config.max_position_embeddings else int(window)


def with_window(config: Any, structure: BlockStructure) -> BlockStructure:
    """Return the structure of a family whose window holds in all layers."""
    require(all(kind == "full_attention" for kind in getattr(config, "layer_types", None) or ()))
    return with_layers(structure, window=_window(config))


def with_typed_windows(config: Any, structure: BlockStructure) -> BlockStructure:
    """Return the structure of a family whose window holds in the layers that ``layer_types`` names."""
    types = config.layer_types
    require(set(types) <= {"full_attention", "sliding_attention"})
    require("sliding_attention" not in types or config.sliding_window)
    return with_layers(structure, window=[_window(config) if kind == "sliding_attention" else 0 for kind in types])
