"""The points of the compiled prompt: between which phases they are visited, and where their numbers are.

Activations are panels of 32 tokens, one in each column; the inputs of products are packed, in bf16 two features in one
row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.engine.activations import ACTIVATIONS
from workbench.engine.insides.attention import Attended, visit_attention
from workbench.engine.insides.phases import compute_between, is_visited_with_scores
from workbench.engine.insides.taps import Taps
from workbench.engine.kernels.panels import FMA, PANEL
from workbench.engine.kernels.prompt import (
    ACTIVATE,
    ATTEND,
    ENTER,
    ENTER_MLP,
    FINISH_KEPT,
    OUTPUT_OF_ATTENTION,
    OUTPUT_OF_MLP,
    PHASES,
)
from workbench.insides import Point

if TYPE_CHECKING:
    from workbench.engine.fused_cache import FusedCache
    from workbench.engine.kernels.prompt_memory import Prompt, PromptScratch
    from workbench.engine.kernels.team import Team
    from workbench.engine.packed_weights import PackedWeights

_LAST_PHASES = {
    "resid_pre": ENTER,
    "attn_in": ENTER,
    "value": FINISH_KEPT,
    "attn_scores": ATTEND,
    "attn_probs": ATTEND,
    "z": ATTEND,
    "attn_out": OUTPUT_OF_ATTENTION,
    "resid_mid": ENTER_MLP,
    "mlp_in": ENTER_MLP,
    "mlp_pre": ACTIVATE,
    "mlp_act": ACTIVATE,
    "mlp_out": OUTPUT_OF_MLP,
}
"""The phase of a block after which a point is visited; `resid_post` is visited after the first of the next block."""

ATTENTION_NORM, MLP_NORM = 0, 2
"""Indices of norms in `Weights.norms`."""


@dataclass(frozen=True, slots=True)
class PromptMemory:
    """The numbers of a prompt's tokens between two phases.

    Args:
        pack_inputs: packs the input of a layer's attention or MLP again, by the index of its norm.
        embed_again: changes the embeddings of tokens by a function, adds those of their positions, and returns the
            sum, shape (tokens, hidden); None if positions are not learned.
    """

    weights: PackedWeights
    prompt: Prompt
    scratch: PromptScratch
    cache: FusedCache
    taps: Taps
    team: Team
    pack_inputs: Callable[[int, int], None]
    embed_again: Callable[[Callable[[Tensor], Tensor | None]], Tensor | None] | None

    def run(self, points: frozenset[Point], compute: Callable[[int, int], None]) -> None:
        """Compute all phases with ``compute(first, end)``, and visit points between them."""
        end = len(self.weights.structure.layers) * PHASES + 1
        compute_between(self._stops(points), end, compute, lambda point: self._visit(point, points))

    def _stops(self, points: frozenset[Point]) -> Iterator[tuple[int, Point]]:
        """Yield the points to visit in forward order, each with the phase before which it is visited."""
        for point in sorted(points, key=lambda point: point.order):
            match point.kind:
                case "embeddings":
                    yield ENTER + 1, point
                case "resid_post":
                    yield (point.layer + 1) * PHASES + ENTER + 1, point
                case "final_norm" | "lm_head":
                    pass  # the decoder computes them
                case kind:
                    yield point.layer * PHASES + _LAST_PHASES[kind] + 1, point

    def _visit(self, point: Point, points: frozenset[Point]) -> None:
        match point.kind:
            case "embeddings":
                self._visit_embeddings(point)
            case "attn_scores" | "attn_probs":
                self._visit_attention(point, points)
            case "value":
                self._visit_values(point)
            case "mlp_pre":
                self._visit_gates(point)
            case "resid_pre" | "resid_mid" | "resid_post":
                self._visit_hidden(point)
            case _:
                self._visit_panels(point)

    @property
    def _count(self) -> int:
        return len(self.prompt.token_ids)

    def _change(self, point: Point, values: Tensor) -> Tensor | None:
        return self.taps.visit(point, self.prompt.past, values)

    def _visit_embeddings(self, point: Point) -> None:
        if self.embed_again is None:
            self._visit_hidden(point)
            return
        changed = self.embed_again(lambda values: self._change(point, values))
        if changed is not None:
            self._store_hidden(Point("resid_pre", 0), changed)

    def _visit_hidden(self, point: Point) -> None:
        changed = self._change(point, _rows(torch.from_numpy(self.scratch.hidden))[: self._count, : self._hidden])
        if changed is not None:
            self._store_hidden(point, changed)

    def _store_hidden(self, point: Point, values: Tensor) -> None:
        """Write hidden states, and pack the input of attention or of the MLP that follows from them."""
        _store_rows(torch.from_numpy(self.scratch.hidden), values)
        layers = len(self.weights.structure.layers)
        if point.kind == "resid_mid":
            self.pack_inputs(point.layer, MLP_NORM)
        elif (layer := point.layer + (point.kind == "resid_post")) < layers:
            self.pack_inputs(layer, ATTENTION_NORM)

    @property
    def _hidden(self) -> int:
        return self.weights.structure.hidden

    def _visit_panels(self, point: Point) -> None:
        structure, scratch = self.weights.structure, self.scratch
        if point.kind in ("attn_out", "mlp_out"):
            panels = torch.from_numpy(scratch.update)
            changed = self._change(point, _rows(panels)[: self._count, : structure.hidden])
            if changed is not None:
                _store_rows(panels, changed)
            return
        packed, width = {
            "attn_in": (scratch.normed, structure.hidden),
            "mlp_in": (scratch.normed, structure.hidden),
            "z": (scratch.attended, structure.query_size),
            "mlp_act": (scratch.active, structure.inner),
        }[point.kind]
        values = self._unpacked(packed, width)
        if point.kind == "z":
            values = values.unflatten(-1, (structure.heads, structure.head_dim))
        changed = self._change(point, values)
        if changed is not None:
            self._pack(packed, changed.flatten(1))

    def _visit_values(self, point: Point) -> None:
        """Visit the values of the key heads; attention reads them with positions in columns, the cache keeps them."""
        structure, past = self.weights.structure, self.prompt.past
        values = torch.from_numpy(self.scratch.values).view(self._factor)
        stored = values[:, : structure.head_dim]  # (kv_heads, dim, positions)
        own = stored[..., past : past + self._count]
        changed = self._change(point, own.permute(2, 0, 1).float())
        if changed is not None:
            own.copy_(changed.permute(1, 2, 0))
            target = self.cache.kv[point.layer, 1, :, past : past + self._count, : structure.head_dim]
            target.copy_(changed.transpose(0, 1))

    def _visit_attention(self, point: Point, points: frozenset[Point]) -> None:
        """Visit scores and weights together, when the first of them comes."""
        if is_visited_with_scores(point, points):
            return
        structure, scratch = self.weights.structure, self.scratch
        end = self.prompt.past + self._count
        keys, values = self.cache.kv[point.layer, :, :, :end, : structure.head_dim].float()
        heads = [self._unpacked(one, structure.head_dim) for one in scratch.queries]
        attended = Attended(torch.stack(heads, 1), keys, values, self.prompt.past)
        added = visit_attention(structure, point.layer, self.taps, points, attended)
        if added is not None:
            width = structure.query_size
            self._pack(scratch.attended, self._unpacked(scratch.attended, width) + added.flatten(1))

    def _visit_gates(self, point: Point) -> None:
        """Visit the gates, computed again from the input of the MLP; a change adds its difference to the activation."""
        structure, block = self.weights.structure, self.weights.blocks[point.layer]
        normed = self._unpacked(self.scratch.normed, structure.hidden)
        projected = torch.cat([matrix.matmul_f32(normed, self.team) for matrix in block.gate_up], 1)
        gates = projected[:, : structure.inner]
        changed = self._change(point, gates)
        if changed is None or torch.equal(changed, gates):
            return
        activate = ACTIVATIONS[structure.activation]
        difference = activate(changed) - activate(gates)
        if structure.is_gated:
            difference *= projected[:, structure.inner :]
        active = self._unpacked(self.scratch.active, structure.inner)
        self._pack(self.scratch.active, torch.where(changed == gates, active, active + difference))

    @property
    def _factor(self) -> torch.dtype:
        """Type of the numbers of a product's factors."""
        return torch.float32 if self.prompt.arithmetic == FMA else torch.bfloat16

    def _unpacked(self, packed: Any, width: int) -> Tensor:
        """Return the numbers of packed panels, float32, shape (tokens, width)."""
        return _rows(self._panels(packed).float())[: self._count, :width]

    def _pack(self, packed: Any, values: Tensor) -> None:
        _store_rows(self._panels(packed), values)

    def _panels(self, packed: Any) -> Tensor:
        """Return a view of packed panels, shape (panels, features, 32) or, in bf16, (panels, feature pairs, 32, 2)."""
        numbers = torch.from_numpy(packed)[: len(self.scratch.hidden)].view(self._factor)
        shape = (-1, PANEL) if self._factor == torch.float32 else (-1, PANEL, 2)
        return numbers.view(*numbers.shape[:-1], *shape)


def _rows(panels: Tensor) -> Tensor:
    """Return a copy of panels with one row for each token, shape (tokens of whole panels, features)."""
    if panels.dim() == 4:
        panels = panels.permute(0, 1, 3, 2).flatten(1, 2)
    return panels.transpose(1, 2).flatten(0, 1).contiguous()


def _store_rows(panels: Tensor, values: Tensor) -> None:
    """Write rows, one for each token, into the columns of panels; other columns and features stay."""
    rows = _rows(panels)
    rows[: len(values), : values.shape[1]] = values
    columns = rows.unflatten(0, (-1, PANEL)).transpose(1, 2)  # (panels, features, 32)
    panels.copy_(columns.unflatten(1, (-1, 2)).transpose(2, 3) if panels.dim() == 4 else columns)
