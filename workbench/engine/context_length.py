"""Context length of a model, from its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

DEFAULT_CONTEXT_LENGTH = 2048
"""Context length of a model whose config has none; such models compute longer texts, too."""

_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "context_length",
    "max_target_positions",
)


def context_length(config: PreTrainedConfig) -> int:
    """Return the context length of a config, or a default for models without one, such as state-space models.

    The tokenizer's limit is not used, because it is often a placeholder of 1e30.
    """
    text = config.get_text_config(decoder=True)
    named = {key: getattr(text, key, None) for key in _CONTEXT_KEYS}
    return named_context_length(named) or DEFAULT_CONTEXT_LENGTH


def named_context_length(text_config: Mapping[str, Any]) -> int | None:
    """Return the context length of a text config, or None if it has none."""
    named = (text_config.get(key) for key in _CONTEXT_KEYS)
    return next((value for value in named if isinstance(value, int) and value > 0), None)
