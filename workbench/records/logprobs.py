"""The protocol's view of token records."""

from __future__ import annotations

import math

from workbench.protocol import TokenLogProb, TokenLogProbs
from workbench.records.tokens import Alternative, TokenRecord


def token_logprobs(record: TokenRecord) -> TokenLogProbs:
    """Return a token record as ``TokenLogProbs``, without candidates whose logprob is unknown (NaN)."""
    everyone: list[TokenRecord | Alternative] = [record, *record.alternatives]
    candidates = [candidate for candidate in everyone if not math.isnan(candidate.logprob)]
    candidates.sort(key=lambda candidate: (-candidate.logprob, candidate.rank))
    by_text: dict[str, float] = {}
    for candidate in candidates:
        by_text.setdefault(candidate.text, candidate.logprob)
    tokens = [_token_logprob(candidate, is_sampled=candidate is record) for candidate in candidates]
    return TokenLogProbs(logprobs_by_token=by_text, tokens=tokens)


def _token_logprob(candidate: TokenRecord | Alternative, is_sampled: bool) -> TokenLogProb:
    return TokenLogProb(
        token_id=candidate.token_id,
        text=candidate.text,
        bytes=list(candidate.bytes),
        logprob=candidate.logprob,
        rank=candidate.rank,
        is_sampled=is_sampled,
    )
