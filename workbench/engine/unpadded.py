"""A BERT's hidden states of many texts at once without padding, in the processor's matrix tiles.

The tokens of all texts stand one behind the other as if they were one text: linear layers, norms and activations know
nothing of their neighbours. Attention does, and looks within each text. So a text goes through the same operations in
the same order whatever stands beside it. The model is transformers' own, but for its attention and its linear layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.engine.kernels.bf16_split import split_linears
from workbench.engine.kernels.tiles import AVAILABLE

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_ATTENTION = "within_each_text"


def fits(config: PreTrainedConfig) -> bool:
    """Whether the processor has tiles, and the model is one whose only positions are those that it is given."""
    return AVAILABLE and config.model_type == "bert" and not config.is_decoder


def remove_padding(model: PreTrainedModel) -> None:
    """Prepare a model that `fits` for `hidden_states`, and for nothing else."""
    from transformers import AttentionInterface  # with all that transformers computes, which takes seconds

    AttentionInterface.register(_ATTENTION, _attend)
    split_linears(model)
    model.set_attn_implementation(_ATTENTION)


def hidden_states(model: Any, texts: Sequence[Mapping[str, list[int]]]) -> list[Tensor]:
    """The last ones of each text, shape (tokens, hidden), from a model's inputs by name; on the caller's thread."""
    lengths = [len(text["input_ids"]) for text in texts]
    inputs = {
        name: torch.tensor([list(itertools.chain.from_iterable(text[name] for text in texts))]) for name in texts[0]
    }  # (1, tokens of all) each
    positions = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0)
    hidden = model(**inputs, position_ids=positions, lengths=lengths).last_hidden_state
    return list(hidden[0].split(lengths))


def _attend(
    _module: Any, q: Tensor, k: Tensor, v: Tensor, _mask: None, *, lengths: list[int], scaling: float, **_options: Any
) -> tuple[Tensor, None]:
    """Attention within each text; neighbours of one length together. q, k and v have (1, heads, tokens, head_dim)."""
    attended, start = [], 0
    for length, run in itertools.groupby(lengths):
        end = start + length * len(list(run))
        queries, keys, values = (
            part[0, :, start:end].unflatten(1, (-1, length)).transpose(0, 1) for part in (q, k, v)
        )  # (texts, heads, length, head_dim) each
        mixed = F.scaled_dot_product_attention(queries, keys, values, scale=scaling)
        attended.append(mixed.transpose(1, 2).flatten(0, 1))
        start = end
    return torch.cat(attended).unsqueeze(0), None  # (1, tokens, heads, head_dim)
