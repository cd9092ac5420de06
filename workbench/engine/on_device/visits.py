"""Visits of the points inside the forward pass of a device, for those sequences of a batch that have taps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from workbench.engine.block_structure import BlockStructure
from workbench.engine.insides.attention import Attended, visit_attention
from workbench.engine.insides.layout import copied
from workbench.engine.insides.taps import Taps
from workbench.engine.sequence_state import SequenceState
from workbench.insides import Point

LayerVisit: TypeAlias = Callable[[str, Tensor], Tensor]
"""Returns the numbers of a kind of point after visits, shape (sequences, tokens, ...)."""


def unvisited(_kind: str, values: Tensor) -> Tensor:
    """Return numbers as they are."""
    return values


class TappedRow(NamedTuple):
    """A sequence of a batch with points to visit."""

    taps: Taps
    row: int
    start: int
    """Position of the first token."""
    points: frozenset[Point]


def tapped_rows(rows: Iterable[tuple[int, SequenceState]], count: int) -> list[TappedRow]:
    """Return the sequences with points to visit in their next tokens, of which each has ``count``."""
    found = []
    for row, cache in rows:
        points = cache.taps.active(cache.length, cache.length + count) if cache.taps else frozenset()
        if cache.taps and points:
            found.append(TappedRow(cache.taps, row, cache.length, points))
    return found


class Visits:
    """Visits for some sequences of one forward pass; the numbers are on the CPU while they are visited."""

    def __init__(self, structure: BlockStructure, rows: Sequence[TappedRow]) -> None:
        self._structure = structure
        self._rows = rows

    def __call__(self, point: Point, values: Tensor) -> Tensor:
        """Return the numbers of a point after visits, shape (sequences, tokens, ...)."""
        for one in self._rows:
            if point in one.points:
                values = _changed(one, point, values)
        return values

    def of_layer(self, index: int) -> LayerVisit:
        """Return the visits of one layer."""
        return lambda kind, values: self(Point(kind, index), values)

    def attention(self, index: int, queries: Tensor, kv: Tensor, z: Tensor) -> Tensor:
        """Return outputs of heads after visits of a layer's attention, shape (sequences, tokens, heads, head_dim).

        Args:
            queries: shape (sequences, tokens, heads, head_dim).
            kv: shape (2, sequences, kv_heads, span, head_dim).
        """
        layer = self._structure.layers[index]
        for one in self._rows:
            if one.points.isdisjoint((Point("attn_scores", index), Point("attn_probs", index))):
                continue
            keys, values = kv[:, one.row, :, : one.start + queries.shape[1]].float().cpu()
            own = queries[one.row].to(kv.dtype).float().cpu() * layer.attention_scale
            attended = Attended(own, keys, values, one.start)
            added = visit_attention(self._structure, index, one.taps, one.points, attended)
            if added is not None:
                z = copied(z)
                z[one.row] += added.to(z)
        return z


def _changed(one: TappedRow, point: Point, values: Tensor) -> Tensor:
    own = values[one.row].float().cpu()
    changed = one.taps.visit(point, one.start, own)
    if changed is None or torch.equal(changed, own):
        return values
    values = copied(values)
    values[one.row] = changed.to(values)
    return values
