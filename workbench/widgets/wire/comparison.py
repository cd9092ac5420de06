"""The wire form of a comparison, and its sentences.

Wire pair: ``{from, kl, at, why, said}``. ``kl`` has the values in nats from position ``from`` on, null where unknown;
``at`` the positions of the first difference in the reference and in the other run, null if there is none so far;
``said`` a sentence for each unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.analysis.comparison import Compared, Pair
from workbench.protocol import SamplingParams
from workbench.widgets.format import UNITS, divergence, token_count, visible
from workbench.widgets.sampling_words import sampling_phrases
from workbench.widgets.wire.run import label, number

LETTERS = "ABCDEF"
"""Letters of the runs, the reference first."""


def wire_pairs(pairs: Sequence[Pair], sent: Sequence[int]) -> list[dict[str, Any]]:
    """Return every pair, with the KL values that were not sent."""
    return [
        {
            "from": start,
            "kl": [number(value, digits=6) for value in pair.kl_nats[start:]],
            "at": None if pair.divergence is None else [pair.divergence.position, pair.divergence.other_position],
            "why": pair.why,
            "said": dict(zip(UNITS, said, strict=True)),
        }
        for pair, start, *said in zip(pairs, sent, *(in_sentences(pairs, unit) for unit in UNITS), strict=True)
    ]


def in_sentences(pairs: Sequence[Pair], unit: str) -> list[str]:
    """Return one sentence per pair: first difference, its tokens, and the divergence up to it."""
    return [
        " ".join(filter(None, [_difference(pair, letter), _distance(pair, letter, unit)]))
        for letter, pair in zip(LETTERS[1:], pairs, strict=False)
    ]


def settings_in_words(params: Sequence[SamplingParams]) -> tuple[list[str], str]:
    """Return a description of what differs in each of the sampling parameters, and one of what all share."""
    phrases = [sampling_phrases(one) for one in params]
    common = [phrase for phrase in phrases[0] if all(phrase in others for others in phrases)]
    return [" · ".join(one for one in own if one not in common) for own in phrases], " · ".join(common)


def _difference(pair: Pair, letter: str) -> str:
    if pair.divergence is None:
        if not (pair.reference.done and pair.other.done):
            return f"A and {letter} are the same so far."
        what = "text" if pair.by_text else token_count(len(pair.reference.tokens))
        return f"A and {letter} have the same {what}."
    at, other_at = pair.divergence.position, pair.divergence.other_position
    where = f"token {at + 1}" if at == other_at else f"token {at + 1} of A and {other_at + 1} of {letter}"
    reference, other = _token_at(pair.reference, at), _token_at(pair.other, other_at)
    if reference is None or other is None:
        return f"A and {letter} are the same until {'A' if reference is None else letter} ends, at {where}."
    return f"A and {letter} diverge at {where}: {reference} and {other}."


def _token_at(run: Compared, position: int) -> str | None:
    """Return the token in quotes; None if the run ended before."""
    tokens = run.tokens
    if position >= len(tokens):
        return None
    return f"“{visible(label(tokens[position].text, tokens[position].bytes))}”"


def _distance(pair: Pair, letter: str, unit: str) -> str:
    if pair.why is not None and not pair.kl_nats:
        return f"No distributions to compare: {pair.why}."
    known = [value for value in pair.kl_nats if value == value]  # noqa: PLR0124 - NaN does not equal itself
    if not known:
        return ""
    if max(known) == 0.0:
        return f"Their distributions are the same{'' if pair.divergence is None else ' up to there'}."
    mean, most = sum(known) / len(known), max(known)
    size = f"mean {divergence(mean, unit)}, maximum {divergence(most, unit)}"
    return f"KL(A‖{letter}) over {token_count(len(known))}: {size}."
