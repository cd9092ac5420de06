"""Statistics of logits that are computed on the device, so that only a few numbers of a row leave it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.engine.kernels.row_reductions import SUMMARIZED, LogitsSummary

_COLDEST = -87.0
"""Least difference to the largest logit whose exponential is not 0 in float32."""

_SUMS = 3


def summarize(logits: Tensor) -> Tensor:
    """Return the summaries of rows of float32 logits as one tensor, float32, shape (rows, 3 + 2 * values).

    A row has the largest logit, the logarithm of the total, the entropy, the largest logits, and their ids as the bits
    of int32. There is one value more than a summary has, which `read_summaries` needs.
    """
    top = logits.amax(-1, keepdim=True)
    shifted = (logits - top).clamp_min(_COLDEST)
    shares = shifted.exp()
    total = shares.sum(-1, keepdim=True)
    entropy = total.log() - (shares * shifted).sum(-1, keepdim=True) / total
    values, token_ids = logits.topk(min(SUMMARIZED + 1, logits.shape[-1]), -1)
    return torch.cat((top, total.log(), entropy, values, token_ids.to(torch.int32).view(torch.float32)), -1)


def read_summaries(packed: Tensor) -> list[LogitsSummary | None]:
    """Return the summaries of `summarize`, on the CPU; None for a row with NaN or with too many equal logits."""
    count = (packed.shape[-1] - _SUMS) // 2
    token_ids = packed[:, _SUMS + count :].contiguous().view(torch.int32)
    return [
        _summary(sums, values, ids)
        for sums, values, ids in zip(
            packed[:, :_SUMS].tolist(), packed[:, _SUMS : _SUMS + count].tolist(), token_ids.tolist(), strict=True
        )
    ]


def _summary(sums: list[float], values: list[float], token_ids: list[int]) -> LogitsSummary | None:
    """Return a summary in the order of `top_k_values`.

    A device returns equal logits in any order, and of those equal to the last one some may be missing: they are left
    out.
    """
    if not math.isfinite(sum(sums)):
        return None
    ranked = sorted(zip(values, token_ids, strict=True), key=lambda pair: (-pair[0], pair[1]))
    if len(ranked) > SUMMARIZED:
        ranked = [pair for pair in ranked if pair[0] > ranked[-1][0]]
    if not ranked:
        return None
    top, log_total, entropy = sums
    return LogitsSummary(top, log_total, entropy, [value for value, _ in ranked], [one for _, one in ranked])
