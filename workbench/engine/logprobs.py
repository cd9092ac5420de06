"""Logprob, rank, entropy and alternatives of tokens under the raw distribution.

Raw means the softmax of the model's float32 logits, before penalties, temperature, truncation and grammar masks. So
the numbers describe the model, not the sampler.
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
    """A candidate token at a position."""

    token_id: int
    logprob: float
    rank: int


@dataclass(frozen=True, slots=True)
class TokenStats:
    """Statistics of a token at its position; logprobs are natural logarithms."""

    token_id: int
    logprob: float
    rank: int
    """1 for the most probable token; ties share the better rank."""
    entropy: float
    """Entropy of the whole distribution in nats."""
    alternatives: tuple[Candidate, ...]
    """The most probable other tokens, best first."""
    removed_mass: float = 0.0
    """Raw probability of the tokens that the grammar does not allow."""
    forced: bool = False
    """Whether the grammar allowed only this token, so that it was not sampled."""


def measure(logits: Tensor, token_ids: Sequence[int], alternatives: Sequence[int]) -> list[TokenStats]:
    """Return stats of one token per row.

    Args:
        logits: raw float32 logits, shape (rows, vocab).
        token_ids: the token of each row.
        alternatives: number of other candidate tokens for each row, at most the vocabulary.
    """
    return [measured(*row) for row in zip(logits, token_ids, alternatives, strict=True)]


def measured(
    row: Tensor, token_id: int, alternatives: int, mask: Mask | None = None, summary: LogitsSummary | None = None
) -> TokenStats:
    """Return stats of a token.

    Args:
        row: raw float32 logits, shape (vocab,); copied from its device only if the summary does not suffice.
        alternatives: number of other candidate tokens, at most the vocabulary.
        mask: the tokens that a grammar allowed; None without a grammar.
        summary: statistics of the logits, if known.
    """
    known = None if summary is None else summary.sums(token_id)
    is_enough = known and mask is None and min(alternatives + 1, len(row)) <= len(summary.values if summary else ())
    row = row if is_enough else row.cpu()
    whole = known or softmax_stats(row, token_id=token_id)
    others = _others(row, whole, token_id, alternatives, summary) if alternatives else ()
    stats = TokenStats(token_id, _logprob(whole.logit, whole), whole.above + 1, whole.entropy, others)
    if mask is None:
        return stats
    return replace(stats, removed_mass=_removed_mass(row, whole, mask), forced=mask.forced)


def _removed_mass(row: Tensor, whole: Sums, mask: Mask) -> float:
    rest = softmax_stats(masked(row, mask.allowed, inverted=True))
    if rest.top == -math.inf:  # nothing was removed, or only tokens of probability 0
        return 0.0
    return min(math.exp(_logprob(rest.top, whole) + rest.log_total), 1.0)


def _logprob(logit: float, whole: Sums) -> float:
    return (logit - whole.top) - whole.log_total


def _others(
    row: Tensor, whole: Sums, token_id: int, count: int, summary: LogitsSummary | None
) -> tuple[Candidate, ...]:
    candidates = min(count + 1, len(row))
    if summary is not None and candidates <= len(summary.values):
        values, token_ids = summary.values[:candidates], summary.token_ids[:candidates]
    else:
        values, token_ids = (found.tolist() for found in top_k_values(row, candidates))
    ranked: list[Candidate] = []
    rank = 1
    for index, (value, candidate) in enumerate(zip(values, token_ids, strict=True)):
        if index and value < values[index - 1]:
            rank = index + 1
        if candidate != token_id and value > -math.inf:  # a masked token is no alternative
            ranked.append(Candidate(candidate, _logprob(value, whole), rank))
    return tuple(ranked[:count])
