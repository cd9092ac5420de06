"""Logprob, rank, entropy and alternatives of tokens, always of the raw distribution.

Raw means the natural log of the softmax over the model's float32 logits, before penalties, temperature, truncation
and grammar masks: the number says what the model thought, not what the sampler made of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workbench.engine.kernels.row_reductions import LogitsSummary, Sums, masked, softmax_stats, top_k_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from workbench.engine.sampling import Mask


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
    removed_mass: float = 0.0
    """Probability, of the raw distribution as all numbers here, of the tokens that the grammar did not allow."""
    forced: bool = False
    """The grammar allowed no other text: the token was not sampled."""


def measure(
    logits: Tensor | Sequence[Tensor],
    token_ids: Sequence[int],
    alternatives: Sequence[int],
    masks: Sequence[Mask | None] = (),
    summaries: Sequence[LogitsSummary | None] = (),
) -> list[TokenStats]:
    """Stats of one token per row.

    Args:
        logits: raw float32 logits, shape (rows, vocab).
        token_ids: the chosen token of each row.
        alternatives: how many other tokens to name for each row; clipped to the vocabulary.
        masks: what a grammar left at each row; none where no row has a grammar.
        outlines: what is known of each row; none where nothing is.
    """
    nothing = [None] * len(token_ids)
    rows = zip(logits, token_ids, alternatives, masks or nothing, summaries or nothing, strict=True)
    return [_measured(*row) for row in rows]


def _measured(
    row: Tensor, token_id: int, alternatives: int, mask: Mask | None, summary: LogitsSummary | None
) -> TokenStats:
    known = None if summary is None else summary.sums(token_id)
    whole = known or softmax_stats(row, token_id=token_id)
    others = _others(row, whole, token_id, alternatives, summary) if alternatives else ()
    stats = TokenStats(token_id, _logprob(whole.asked, whole), whole.above + 1, whole.entropy, others)
    if mask is None:
        return stats
    return replace(stats, removed_mass=_removed_mass(row, whole, mask), forced=mask.forced)


def _removed_mass(row: Tensor, whole: Sums, mask: Mask) -> float:
    rest = softmax_stats(masked(row, mask.allowed, inverted=True))
    if rest.top == -math.inf:  # nothing was cut, or only what had no probability
        return 0.0
    return min(math.exp(_logprob(rest.top, whole) + rest.log_total), 1.0)


def _logprob(logit: float, whole: Sums) -> float:
    return (logit - whole.top) - whole.log_total


def _others(
    row: Tensor, whole: Sums, token_id: int, count: int, summary: LogitsSummary | None
) -> tuple[Candidate, ...]:
    looked_at = min(count + 1, len(row))
    if summary is not None and looked_at <= len(summary.values):
        values, token_ids = summary.values[:looked_at], summary.places[:looked_at]
    else:
        values, token_ids = (found.tolist() for found in top_k_values(row, looked_at))
    ranked: list[Candidate] = []
    rank = 1
    for place, (value, candidate) in enumerate(zip(values, token_ids, strict=True), start=1):
        if place > 1 and value < values[place - 2]:
            rank = place
        if candidate != token_id and value > -math.inf:  # a masked token is no alternative
            ranked.append(Candidate(candidate, _logprob(value, whole), rank))
    return tuple(ranked[:count])
