"""Hidden states of many texts by a BERT without padding.

The tokens of all texts are concatenated: linear layers, norms and activations compute each token alone, and attention
is limited to each text. So a text goes through the same operations in any batch, and in the same order.

Where there are matrix tiles, they replace the linear layers of transformers' model, and its attention is replaced by
torch's of texts of one length at a time. Otherwise a `PackedEncoder` replaces all layers, if its kernels have all parts
of the model.
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
from workbench.engine.packed_encoder import PackedEncoder, can_pack

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_ATTENTION = "within_each_text"

UNPADDED_TOKENS = 512
"""Tokens of the largest batch that is useful for one thread."""


def fits(config: PreTrainedConfig) -> bool:
    """Whether the model is a BERT encoder, whose positions are arguments of its forward."""
    return config.model_type == "bert" and not config.is_decoder


def remove_padding(model: PreTrainedModel) -> None:
    """Prepare a model that `fits` for `hidden_states`; it cannot be used otherwise afterwards."""
    if not AVAILABLE and can_pack(model.config):
        model.encoder = PackedEncoder(model.encoder, model.config)
        return
    from transformers import AttentionInterface  # imports all of transformers' models, which takes seconds

    AttentionInterface.register(_ATTENTION, _attend)
    if AVAILABLE:
        split_linears(model)
    model.set_attn_implementation(_ATTENTION)


def hidden_states(model: Any, texts: Sequence[Mapping[str, list[int]]]) -> list[Tensor]:
    """Return the last hidden states of each text, shape (tokens, hidden), on as many threads as torch has here."""
    lengths = [len(text["input_ids"]) for text in texts]
    inputs = {
        name: torch.tensor([list(itertools.chain.from_iterable(text[name] for text in texts))]) for name in texts[0]
    }  # (1, tokens of all) each
    positions = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0)
    if isinstance(model.encoder, PackedEncoder):
        embeddings = model.embeddings(**inputs, position_ids=positions)[0]
        return list(model.encoder(embeddings, lengths).split(lengths))
    hidden = model(**inputs, position_ids=positions, lengths=lengths).last_hidden_state
    return list(hidden[0].split(lengths))


def _attend(
    _module: Any, q: Tensor, k: Tensor, v: Tensor, _mask: None, *, lengths: list[int], scaling: float, **_options: Any
) -> tuple[Tensor, None]:
    """Compute attention within each text, in batches of equal lengths; q, k and v: (1, heads, tokens, head_dim)."""
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
