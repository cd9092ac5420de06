"""A mixture of experts in torch: each token passes some of many gated MLPs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.engine.block_structure import BlockStructure
from workbench.engine.on_device.dense import DenseBlock

FEW_TOKENS = 16
"""Most tokens that are computed in the same shapes whichever experts are chosen, as a captured graph needs."""

_COPY_COST = 3
"""Bytes that move for each byte of an expert that is copied before it is read, instead of read in place."""

Activation = Callable[[Tensor], Tensor]


def mix_experts(structure: BlockStructure, block: DenseBlock, normed: Tensor, activate: Activation) -> Tensor:
    """Return the weighted sum of each token's experts, float32, shape (sequences, tokens, hidden)."""
    assert block.router is not None, "the caller has checked that there are experts"
    rows = normed.flatten(0, 1)  # (rows, hidden)
    weights, chosen = block.router(rows).softmax(-1).topk(structure.active_experts, -1)  # (rows, active)
    if structure.normalizes_experts:
        weights = weights / weights.sum(-1, keepdim=True)
    compute = _one_by_one
    if len(rows) <= FEW_TOKENS:
        compute = _gathered if _COPY_COST * chosen.numel() < structure.experts else _all
    gates, ups = block.gate_up[0].weight.unflatten(0, (2, structure.experts, -1))  # (experts, inner, hidden) each
    down = block.down.weight.unflatten(0, (structure.experts, -1))  # (experts, hidden, inner)
    mixed: Tensor = compute(rows.to(down.dtype), weights, chosen, (gates, ups), down, activate)
    return mixed.view(*normed.shape[:2], -1)


def _gathered(
    rows: Tensor, weights: Tensor, chosen: Tensor, gate_up: tuple[Tensor, Tensor], down: Tensor, activate: Activation
) -> Tensor:
    """Compute copies of the chosen experts, one matrix for each row at a time."""
    mixed = torch.zeros(rows.shape, dtype=torch.float32, device=rows.device)
    for place, experts in enumerate(chosen.unbind(1)):
        gate, up = (torch.einsum("rh,rih->ri", rows, part[experts]) for part in gate_up)
        output = torch.einsum("ri,rhi->rh", activate(gate) * up, down[experts])
        mixed += output.float() * weights[:, place : place + 1]
    return mixed


def _all(
    rows: Tensor, weights: Tensor, chosen: Tensor, gate_up: tuple[Tensor, Tensor], down: Tensor, activate: Activation
) -> Tensor:
    """Compute all experts for all rows, and leave out those that were not chosen, which may have overflowed."""
    shares = weights.new_zeros(len(rows), len(down)).scatter(1, chosen, weights)
    is_chosen = torch.zeros_like(shares, dtype=torch.bool).scatter(1, chosen, value=True)
    gate, up = (F.linear(rows, part.flatten(0, 1)).unflatten(1, (len(down), -1)) for part in gate_up)
    outputs = ((activate(gate) * up).transpose(0, 1) @ down.transpose(1, 2)).float()  # (experts, rows, hidden)
    weighed: Tensor = (outputs * shares.T.unsqueeze(-1)).masked_fill(~is_chosen.T.unsqueeze(-1), 0.0)
    return weighed.sum(0)


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
