"""A mixture of experts in torch: each token passes some of many gated MLPs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from workbench.engine.block_structure import BlockStructure
from workbench.engine.on_device.dense import DenseBlock

FEW_TOKENS = 16
"""Most tokens whose experts are gathered, which has the same shapes whichever are chosen, as a captured graph needs."""

Activation = Callable[[Tensor], Tensor]


def mix_experts(structure: BlockStructure, block: DenseBlock, normed: Tensor, activate: Activation) -> Tensor:
    """Return the weighted sum of each token's experts, float32, shape (sequences, tokens, hidden)."""
    assert block.router is not None, "the caller has checked that there are experts"
    rows = normed.flatten(0, 1)  # (rows, hidden)
    weights, chosen = block.router(rows).softmax(-1).topk(structure.active_experts, -1)  # (rows, active)
    if structure.normalizes_experts:
        weights = weights / weights.sum(-1, keepdim=True)
    compute = _gathered if len(rows) <= FEW_TOKENS else _one_by_one
    gates, ups = block.gate_up[0].weight.unflatten(0, (2, structure.experts, -1))  # (experts, inner, hidden) each
    down = block.down.weight.unflatten(0, (structure.experts, -1))  # (experts, hidden, inner)
    mixed: Tensor = compute(rows.to(down.dtype), weights, chosen, (gates, ups), down, activate)
    return mixed.view(*normed.shape[:2], -1)


def _gathered(
    rows: Tensor, weights: Tensor, chosen: Tensor, gate_up: tuple[Tensor, Tensor], down: Tensor, activate: Activation
) -> Tensor:
    gate, up = (torch.einsum("rh,rkih->rki", rows, part[chosen]) for part in gate_up)
    outputs = torch.einsum("rki,rkhi->rkh", activate(gate) * up, down[chosen])
    return (outputs.float() * weights.unsqueeze(-1)).sum(1)


def _one_by_one(
    rows: Tensor, weights: Tensor, chosen: Tensor, gate_up: tuple[Tensor, Tensor], down: Tensor, activate: Activation
) -> Tensor:
    mixed = torch.zeros(rows.shape, dtype=torch.float32, device=rows.device)
    for expert in range(len(down)):
        row, place = (chosen == expert).nonzero(as_tuple=True)
        if len(row):
            gate, up = (rows[row] @ part[expert].T for part in gate_up)
            output = (activate(gate) * up) @ down[expert].T
            mixed.index_add_(0, row, output.float() * weights[row, place].unsqueeze(-1))
    return mixed
