"""Conversion between the engine's token stats and the records of the other layers."""

from __future__ import annotations

from workbench.engine.detokenizer import Vocabulary
from workbench.engine.logprobs import Candidate, TokenStats
from workbench.records import Alternative, TokenRecord


def token_stats(record: TokenRecord) -> TokenStats:
    """Return the stats that a record was made from."""
    return TokenStats(
        token_id=record.token_id,
        logprob=record.logprob,
        rank=record.rank,
        entropy=record.entropy,
        alternatives=tuple(Candidate(other.token_id, other.logprob, other.rank) for other in record.alternatives),
        removed_mass=record.removed_mass,
        forced=record.is_forced,
    )


def token_record(vocabulary: Vocabulary, stats: TokenStats, position: int, elapsed_s: float) -> TokenRecord:
    """Return a token's record with its text and bytes; ``elapsed_s`` is 0 for tokens that were not generated."""
    return TokenRecord(
        position=position,
        token_id=stats.token_id,
        text=vocabulary.text(stats.token_id),
        bytes=vocabulary.bytes(stats.token_id),
        logprob=stats.logprob,
        rank=stats.rank,
        entropy=stats.entropy,
        alternatives=tuple(
            Alternative(
                candidate.token_id,
                vocabulary.text(candidate.token_id),
                vocabulary.bytes(candidate.token_id),
                candidate.logprob,
                candidate.rank,
            )
            for candidate in stats.alternatives
        ),
        elapsed_s=elapsed_s,
        is_special=stats.token_id in vocabulary.special_ids,
        removed_mass=stats.removed_mass,
        is_forced=stats.forced,
    )
