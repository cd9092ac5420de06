"""Attention scores and weights, computed again from queries and keys, which the fused kernels do not keep."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from workbench.engine.block_structure import BlockStructure, LayerStructure
from workbench.engine.insides.taps import Taps
from workbench.insides import Point


class Attended(NamedTuple):
    """What consecutive tokens of one sequence attend with."""

    queries: Tensor
    """Times the factor of the scores, float32, shape (tokens, heads, head_dim)."""
    keys: Tensor
    """Float32, shape (kv_heads, keys, head_dim)."""
    values: Tensor
    """Float32, shape (kv_heads, keys, head_dim)."""
    start: int
    """Position of the first token."""


def visit_attention(
    structure: BlockStructure, index: int, taps: Taps, active: frozenset[Point], attended: Attended
) -> Tensor | None:
    """Visit the scores and weights of a layer; return what changes add to ``z``, (tokens, heads, head_dim), or None.

    Only the difference that a change makes is computed, so one that changes nothing leaves ``z`` as it is, bit for
    bit.
    """
    layer = structure.layers[index]
    allowed = _allowed(layer, attended)
    scores = _scores(structure, attended).masked_fill(~allowed, -torch.inf)  # (tokens, heads, keys)
    probs = scores.softmax(-1)
    changed = probs
    if (point := Point("attn_scores", index)) in active:
        edited = taps.visit(point, attended.start, scores)
        if edited is not None:
            changed = edited.masked_fill(~allowed, -torch.inf).softmax(-1)
    if (point := Point("attn_probs", index)) in active:
        edited = taps.visit(point, attended.start, changed)
        changed = changed if edited is None else edited.masked_fill(~allowed, 0.0)
    if torch.equal(changed, probs):
        return None
    group = structure.heads // structure.kv_heads
    return torch.einsum("thk,hkd->thd", changed - probs, attended.values.repeat_interleave(group, 0))


def _scores(structure: BlockStructure, attended: Attended) -> Tensor:
    keys = attended.keys.repeat_interleave(structure.heads // structure.kv_heads, 0)  # (heads, keys, head_dim)
    scores = torch.einsum("thd,hkd->thk", attended.queries, keys)
    cap = structure.attention_cap
    return torch.tanh(scores / cap) * cap if cap else scores


def _allowed(layer: LayerStructure, attended: Attended) -> Tensor:
    """Return which keys each token attends to, shape (tokens, 1, keys)."""
    keys = torch.arange(attended.keys.shape[1])
    own = torch.arange(attended.start, attended.start + len(attended.queries)).unsqueeze(1)
    allowed = keys <= own
    if layer.window:
        allowed &= keys > own - layer.window
    if layer.chunk:
        allowed &= keys >= own // layer.chunk * layer.chunk
    return allowed.unsqueeze(1)
