"""The points of the compiled step: between which phases they are visited, and where their numbers are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.engine.insides.attention import Attended, visit_attention
from workbench.engine.insides.phases import compute_between, is_visited_with_scores
from workbench.engine.insides.structure_points import LOGITS_POINTS
from workbench.engine.insides.taps import Taps
from workbench.engine.kernels.step import (
    ACTIVATE,
    ADD_ATTENTION,
    ADD_MLP,
    ATTEND,
    EMBED,
    END,
    FINAL_NORM,
    HEAD,
    NORM,
    NORM_MLP,
    OUTPUT_OF_ATTENTION,
    OUTPUT_OF_MLP,
    PROJECT,
    PROJECT_MLP,
    block_phase,
    last_phase,
)
from workbench.insides import ATTENTION_KINDS, Point

if TYPE_CHECKING:
    from workbench.engine.block_structure import BlockStructure
    from workbench.engine.fused_cache import FusedCache
    from workbench.engine.kernels.step_memory import Scratch

_LAST_PHASES = {
    "attn_in": NORM,
    "value": PROJECT,
    "attn_scores": ATTEND,
    "attn_probs": ATTEND,
    "z": ATTEND,
    "attn_out": OUTPUT_OF_ATTENTION,
    "resid_mid": ADD_ATTENTION,
    "mlp_in": NORM_MLP,
    "mlp_pre": PROJECT_MLP,
    "mlp_act": ACTIVATE,
    "mlp_out": OUTPUT_OF_MLP,
    "resid_post": ADD_MLP,
}
"""The phase of a block after which a point is visited."""


@dataclass(frozen=True, slots=True)
class TappedRows:
    """Consecutive rows of a step that are consecutive tokens of one sequence with taps."""

    taps: Taps
    cache: FusedCache
    rows: slice
    start: int
    """Position of the first token."""
    points: frozenset[Point]

    @property
    def reads_logits(self) -> bool:
        """Whether points after the last layer are visited, which a step has for its last rows only, unless asked."""
        return not self.points.isdisjoint(LOGITS_POINTS)


def tapped_rows(caches: Sequence[FusedCache], positions: Sequence[int]) -> list[TappedRows]:
    """Return the rows of a step whose taps have points to visit."""
    found, first = [], 0
    while first < len(caches):
        cache, end = caches[first], first + 1
        while end < len(caches) and caches[end] is cache:
            end += 1
        taps, start = cache.taps, positions[first]
        if taps is not None and (points := taps.active(start, start + end - first)):
            found.append(TappedRows(taps, cache, slice(first, end), start, points))
        first = end
    return found


@dataclass(frozen=True, slots=True)
class StepMemory:
    """The numbers of a step between two phases.

    Args:
        logits: float32 (last rows with logits, padded vocab).
        threads: number of threads of the step, each with its own hidden states.
    """

    structure: BlockStructure
    scratch: Scratch
    logits: Tensor
    threads: int

    def run(self, tapped: Sequence[TappedRows], compute: Callable[[int, int], None]) -> None:
        """Compute all phases with ``compute(first, end)``, and visit the points of the rows between them."""

        def visit(point: Point) -> None:
            for one in tapped:
                if point in one.points:
                    self._visit(point, one)

        compute_between(self._stops(tapped), last_phase(len(self.structure.layers), END), compute, visit)

    def _stops(self, tapped: Sequence[TappedRows]) -> Iterator[tuple[int, Point]]:
        """Yield the points to visit in forward order, each with the phase before which it is visited."""
        points = {point for one in tapped for point in one.points}
        for point in sorted(points, key=lambda point: point.order):
            yield self._stop(point), point

    def _stop(self, point: Point) -> int:
        layers = len(self.structure.layers)
        match point.kind:
            case "embeddings":
                return EMBED + 1
            case "resid_pre":
                return block_phase(point.layer, NORM)
            case "final_norm":
                return last_phase(layers, FINAL_NORM) + 1
            case "lm_head":
                return last_phase(layers, HEAD) + 1
            case kind:
                return block_phase(point.layer, _LAST_PHASES[kind]) + 1

    def _visit(self, point: Point, one: TappedRows) -> None:
        if point.kind in ATTENTION_KINDS:
            self._visit_attention(point, one)
            return
        targets = self._targets(point, one.rows)
        shown = targets[0]
        missing = one.rows.stop - one.rows.start - len(shown)  # rows whose logits are not computed
        values = shown.unflatten(-1, self._shape(point)) if point.kind in ("value", "z") else shown
        changed = one.taps.visit(point, one.start + missing, values.clone())
        if changed is None:
            return
        for target in targets:
            target.copy_(changed.flatten(1))
        if point.kind == "value":
            end = one.start + len(changed)
            one.cache.kv[point.layer, 1, :, one.start : end, : self.structure.head_dim] = changed.transpose(0, 1)

    def _visit_attention(self, point: Point, one: TappedRows) -> None:
        """Visit scores and weights together, when the first of them comes."""
        if is_visited_with_scores(point, one.points):
            return
        structure, layer = self.structure, point.layer
        rows, width = one.rows, structure.query_size
        keys, values = one.cache.kv[layer, :, :, : one.start + rows.stop - rows.start, : structure.head_dim].float()
        queries = torch.from_numpy(self.scratch.qkv)[rows, :width] * structure.layers[layer].attention_scale
        heads = queries.unflatten(-1, (structure.heads, structure.head_dim))
        added = visit_attention(structure, layer, one.taps, one.points, Attended(heads, keys, values, one.start))
        if added is not None:
            torch.from_numpy(self.scratch.attended)[rows, :width] += added.flatten(1)

    def _shape(self, point: Point) -> tuple[int, int]:
        heads = self.structure.heads if point.kind == "z" else self.structure.kv_heads
        return heads, self.structure.head_dim

    def _targets(self, point: Point, rows: slice) -> list[Tensor]:
        """Return views of a point's numbers, shape (rows, ...): one, or a copy for each thread."""
        structure, scratch = self.structure, self.scratch
        if point.kind == "lm_head":
            return [self.logits[self._logits_rows(rows), : structure.vocab]]
        if point.kind == "mlp_pre":
            return [torch.from_numpy(scratch.gate_up)[rows, 0, : structure.inner]]
        if point.kind == "final_norm":
            rows = self._logits_rows(rows)
        if (copies := self._copies(point.kind)) is not None:
            return [part[rows, : structure.hidden] for part in copies[: self.threads]]
        values = structure.query_size + structure.key_size
        buffer, first, size = {
            "value": (scratch.qkv, values, structure.key_size),
            "z": (scratch.attended, 0, structure.query_size),
            "attn_out": (scratch.update, 0, structure.hidden),
            "mlp_act": (scratch.active, 0, structure.inner),
            "mlp_out": (scratch.update, 0, structure.hidden),
        }[point.kind]
        return [torch.from_numpy(buffer)[rows, first : first + size]]

    def _copies(self, kind: str) -> Tensor | None:
        """Return the numbers of a kind of which each thread has a copy, shape (threads, rows, width)."""
        if kind in ("embeddings", "resid_pre", "resid_mid", "resid_post"):
            return torch.from_numpy(self.scratch.hidden)
        return torch.from_numpy(self.scratch.normed) if kind in ("attn_in", "mlp_in", "final_norm") else None

    def _logits_rows(self, rows: slice) -> slice:
        """Return the rows among those whose logits are computed, the last ones."""
        offset = self.scratch.hidden.shape[1] - len(self.logits)
        return slice(max(rows.start - offset, 0), max(rows.stop - offset, 0))
