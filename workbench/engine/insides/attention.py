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

    Each token is computed alone, so that its numbers do not depend on those beside it. Only the difference that a
    change makes is computed, so that one that changes nothing leaves ``z`` as it is, bit for bit.
    """
    rows = [_token(structure, structure.layers[index], attended, row) for row in range(len(attended.queries))]
    scores, first = _joined(attended, [row.scores for row in rows], -torch.inf), attended.start
    changed = None
    if (point := Point("attn_scores", index)) in active and (edited := taps.visit(point, first, scores)) is not None:
        changed = [row.softmax(edited[place]) for place, row in enumerate(rows)]
    probs = changed or [row.softmax() for row in rows]
    if (point := Point("attn_probs", index)) in active:
        edited = taps.visit(point, first, _joined(attended, probs, 0.0))
        changed = changed if edited is None else [edited[place, :, row.keys] for place, row in enumerate(rows)]
    if changed is None:
        return None
    return torch.stack([row.difference(one) for row, one in zip(rows, changed, strict=True)])


class _Token(NamedTuple):
    """One token of a sequence with all keys that it attends to."""

    keys: slice
    scores: Tensor
    """Shape (heads, keys)."""
    values: Tensor
    """Shape (heads, keys, head_dim)."""

    def softmax(self, scores: Tensor | None = None) -> Tensor:
        """Return the weights of its own scores, or of those among the scores of all keys."""
        return (self.scores if scores is None else scores[:, self.keys]).softmax(-1)

    def difference(self, weights: Tensor) -> Tensor:
        """Return what other weights add to the output of each head, shape (heads, head_dim)."""
        change = weights - self.softmax()
        return torch.einsum("hk,hkd->hd", change, self.values) if change.any() else self.values[:, 0] * 0.0


def _token(structure: BlockStructure, layer: LayerStructure, attended: Attended, row: int) -> _Token:
    position, group = attended.start + row, structure.heads // structure.kv_heads
    first = max(0, position + 1 - layer.window) if layer.window else 0
    if layer.chunk:
        first = max(first, position // layer.chunk * layer.chunk)
    seen = slice(first, position + 1)
    keys, values = (part[:, seen].repeat_interleave(group, 0) for part in (attended.keys, attended.values))
    scores, cap = torch.einsum("hd,hkd->hk", attended.queries[row], keys), structure.attention_cap
    return _Token(seen, torch.tanh(scores / cap) * cap if cap else scores, values)


def _joined(attended: Attended, rows: list[Tensor], rest: float) -> Tensor:
    """Return the numbers of all tokens, shape (tokens, heads, keys), with ``rest`` where a token does not attend."""
    joined = attended.queries.new_full((*attended.queries.shape[:2], attended.keys.shape[1]), rest)
    for place, row in enumerate(rows):
        end = attended.start + place + 1
        joined[place, :, end - row.shape[1] : end] = row
    return joined
