"""What the echo will say to a request, as a whole, before its first word is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from workbench.protocol import StopReason
from workbench.providers.echo.words import Dice, variant
from workbench.providers.requests import Request


@dataclass(frozen=True, slots=True)
class PlannedWord:
    """One word that will be said."""

    word: str
    rank: int
    """Of the variant that is said."""
    delta: str
    """What of it stands before the first stop string."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole answer."""

    words: list[PlannedWord]
    stop_reason: StopReason


def planned(request: Request, words: list[str], room: int) -> Plan:
    """Draws every word, and ends where ``max_tokens``, a stop string or the ``room`` in the context ends the answer."""
    dice, params = Dice(request.sampling_params), request.sampling_params
    limit = min(params.max_tokens or room, room)
    stop_reason = StopReason.out_of_tokens if len(words) >= limit else StopReason.end_of_turn
    words = words[:limit]
    ranks = [1 if request.tools else dice.rank() for _ in words]  # a call must stay one
    said = [variant(word, rank) for word, rank in zip(words, ranks, strict=True)]
    text = "".join(said)
    ends = [(at + len(stop), at) for stop in params.stop or () if (at := text.find(stop)) >= 0]
    completed, end = min(ends, default=(len(text), len(text)))
    planned_words = [
        PlannedWord(word, rank, text[start : max(start, min(stop, end))])
        for word, rank, (start, stop) in zip(words, ranks, pairwise(_starts(said)), strict=True)
        if start < completed
    ]
    return Plan(planned_words, StopReason.end_of_turn if ends else stop_reason)


def _starts(said: list[str]) -> Iterator[int]:
    """Where each word begins, and where the last one ends."""
    position = 0
    yield position
    for word in said:
        position += len(word)
        yield position
