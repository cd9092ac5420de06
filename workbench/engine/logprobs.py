"""Logprob, rank, entropy and alternatives of tokens, always of the raw distribution.

Raw means the natural log of the softmax over the model's float32 logits, before penalties, temperature, truncation
and grammar masks: the number says what the model thought, not what the sampler made of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that could have stood at a position."""

    token_id: int
    logprob: float
    rank: int


@dataclass(frozen=True, slots=True)
class TokenStats:
    """How probable a token was at its position."""

    token_id: int
    logprob: float
    rank: int
    """1 is the most probable token; equals share the better rank."""
    entropy: float
    """Of the whole distribution, in nats."""
    alternatives: tuple[Candidate, ...]
    """The most probable other tokens, best first."""


def measure(logits: Tensor, token_ids: Sequence[int], alternatives: Sequence[int]) -> list[TokenStats]:
    """Stats of one token per row.

    Args:
        logits: raw float32 logits, shape (rows, vocab).
        token_ids: the chosen token of each row.
        alternatives: how many other tokens to name for each row; clipped to the vocabulary.
    """
    vocab = logits.shape[-1]
    logprobs = logits.log_softmax(-1)  # (rows, vocab)
    chosen = logprobs.gather(1, torch.tensor(token_ids, device=logits.device).unsqueeze(1))  # (rows, 1)
    ranks = (logprobs > chosen).sum(-1) + 1  # (rows,)
    entropies = torch.special.entr(logprobs.exp()).sum(-1)  # (rows,), 0 for masked tokens where p * log p is NaN
    widest = min(max(alternatives, default=0) + 1, vocab)
    best = _best(logprobs, widest) if widest > 1 else None
    return [
        TokenStats(token_id, logprob, rank, entropy, _others(best, row, token_id, alternatives[row]))
        for row, (token_id, logprob, rank, entropy) in enumerate(
            zip(token_ids, chosen[:, 0].tolist(), ranks.tolist(), entropies.tolist(), strict=True)
        )
    ]


def _best(logprobs: Tensor, count: int) -> tuple[list[list[float]], list[list[int]]]:
    values, token_ids = logprobs.topk(count, dim=-1)
    return values.tolist(), token_ids.tolist()


def _others(
    best: tuple[list[list[float]], list[list[int]]] | None, row: int, token_id: int, count: int
) -> tuple[Candidate, ...]:
    if best is None or count == 0:
        return ()
    values, token_ids = best[0][row], best[1][row]
    ranked: list[Candidate] = []
    rank = 1
    for place, (value, candidate) in enumerate(zip(values, token_ids, strict=True), start=1):
        if place > 1 and value < values[place - 2]:
            rank = place
        if candidate != token_id and value > -math.inf:  # a masked token is no alternative
            ranked.append(Candidate(candidate, value, rank))
    return tuple(ranked[:count])
