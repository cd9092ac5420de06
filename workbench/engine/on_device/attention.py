"""Attention of new tokens over the keys and values of their sequences, in torch's own kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.engine.block_structure import BlockStructure, LayerStructure


class Span(NamedTuple):
    """The keys and values that one call reads and writes."""

    kv: Tensor | Sequence[Tensor]
    """Shape (layers, 2, sequences, kv_heads, span, head_dim); views into the slots. One tensor for each layer where
    gradients flow: in one, later layers would overwrite what they need."""
    positions: Tensor
    """Positions of the new tokens, int64, shape (sequences, tokens)."""


def masks(structure: BlockStructure, span: Span) -> dict[tuple[int, int], Tensor]:
    """Return which keys new tokens attend to, by window and chunk of a layer; bool, (sequences, 1, tokens, span)."""
    positions = span.positions[:, None, :, None]
    keys = torch.arange(span.kv[0].shape[3], device=positions.device)
    before = keys <= positions
    found = {}
    for window, chunk in {(layer.window, layer.chunk) for layer in structure.layers}:
        mask = before
        if window:
            mask = mask & (keys > positions - window)
        if chunk:
            mask = mask & (keys >= positions // chunk * chunk)
        found[window, chunk] = mask
    return found


def store(kv: Tensor, keys: Tensor, values: Tensor, positions: Tensor) -> None:
    """Write new keys and values, shape (sequences, tokens, kv_heads, head_dim), to one layer of a span."""
    rows = torch.arange(len(positions), device=positions.device).unsqueeze(1)  # (sequences, 1)
    kv[0][rows, :, positions] = keys.to(kv.dtype)
    kv[1][rows, :, positions] = values.to(kv.dtype)


def attend(structure: BlockStructure, layer: LayerStructure, kv: Tensor, queries: Tensor, mask: Tensor) -> Tensor:
    """Return the attended values of the new tokens of one layer, shape (sequences, tokens, heads * head_dim).

    Query heads that share keys are computed as if they were further tokens, so no key is copied for each of them.

    Args:
        kv: shape (2, sequences, kv_heads, span, head_dim).
        queries: shape (sequences, tokens, heads, head_dim).
        mask: one of `masks`.
    """
    sequences, tokens, heads, dim = queries.shape
    group = heads // structure.kv_heads
    folded = queries.to(kv.dtype).transpose(1, 2).reshape(sequences, structure.kv_heads, group * tokens, dim)
    allowed = mask.expand(-1, group, -1, -1).reshape(sequences, 1, group * tokens, -1)
    if structure.attention_cap:
        attended = _capped(folded, kv[0], kv[1], allowed, layer.attention_scale, structure.attention_cap)
    else:
        attended = F.scaled_dot_product_attention(folded, kv[0], kv[1], attn_mask=allowed, scale=layer.attention_scale)
    return attended.reshape(sequences, heads, tokens, dim).transpose(1, 2).flatten(2)


def _capped(queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor, scale: float, cap: float) -> Tensor:
    """Return attention with soft-capped scores, which torch's kernels do not compute."""
    scores = torch.tanh((queries @ keys.transpose(-1, -2)).float() * (scale / cap)) * cap
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1).to(values.dtype) @ values
