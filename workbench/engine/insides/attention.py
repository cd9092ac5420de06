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

    Each token is computed alone, so that its numbers do not depend on those beside it, and only tokens that are read or
    changed are. Only the difference that a change makes is computed, so that one that changes nothing leaves ``z`` as
    it is, bit for bit.
    """
    group, start = structure.heads // structure.kv_heads, attended.start
    keys, values = (part.repeat_interleave(group, 0) for part in (attended.keys, attended.values))
    tokens = [place for place in range(len(attended.queries)) if taps.active(start + place, start + place + 1) & active]
    rows = {place: _token(structure, structure.layers[index], attended, keys, place) for place in tokens}
    changed: dict[int, Tensor] = {}
    if (point := Point("attn_scores", index)) in active:
        scores = _joined(attended, {place: row.scores for place, row in rows.items()}, point.unattended)
        if (edited := taps.visit(point, start, scores)) is not None:
            changed = {place: edited[place][:, row.keys].softmax(-1) for place, row in rows.items()}
    if (point := Point("attn_probs", index)) in active:
        probs = changed or {place: row.scores.softmax(-1) for place, row in rows.items()}
        if (edited := taps.visit(point, start, _joined(attended, probs, point.unattended))) is not None:
            changed = {place: edited[place][:, row.keys] for place, row in rows.items()}
    if not changed:
        return None
    added = torch.zeros_like(attended.queries)
    for place, weights in changed.items():
        difference = weights - rows[place].scores.softmax(-1)
        if difference.any():
            added[place] = torch.einsum("hk,hkd->hd", difference, values[:, rows[place].keys])
    return added


class _Token(NamedTuple):
    """The scores of one token, and the positions that it attends to."""

    keys: slice
    scores: Tensor
    """Shape (heads, keys)."""


def _token(structure: BlockStructure, layer: LayerStructure, attended: Attended, keys: Tensor, place: int) -> _Token:
    """Return the scores of a token; ``keys`` are those of each head, (heads, keys, head_dim)."""
    position, cap = attended.start + place, structure.attention_cap
    first = max(0, position + 1 - layer.window) if layer.window else 0
    if layer.chunk:
        first = max(first, position // layer.chunk * layer.chunk)
    seen = slice(first, position + 1)
    scores = torch.einsum("hd,hkd->hk", attended.queries[place], keys[:, seen])
    return _Token(seen, torch.tanh(scores / cap) * cap if cap else scores)


def _joined(attended: Attended, rows: dict[int, Tensor], rest: float) -> Tensor:
    """Return the numbers of all tokens, shape (tokens, heads, keys), with ``rest`` where there are none."""
    joined = attended.queries.new_full((*attended.queries.shape[:2], attended.keys.shape[1]), rest)
    for place, row in rows.items():
        end = attended.start + place + 1
        joined[place, :, end - row.shape[1] : end] = row
    return joined
