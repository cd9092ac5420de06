"""The echo's answer to a request, planned as a whole before its first word is sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from workbench.protocol import StopReason
from workbench.providers.echo.words import Dice, variant
from workbench.providers.requests import Request


@dataclass(frozen=True, slots=True)
class PlannedWord:
    """A word of the answer."""

    word: str
    rank: int
    """Rank of the variant that is sent."""
    delta: str
    """The part of it before the first stop string."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole answer."""

    words: list[PlannedWord]
    stop_reason: StopReason


def planned(request: Request, words: list[str], room: int) -> Plan:
    """Draw all words, up to ``max_tokens``, a stop string, or the ``room`` left in the context in tokens."""
    dice, params = Dice(request.sampling_params), request.sampling_params
    limit = min(params.max_tokens or room, room)
    stop_reason = StopReason.out_of_tokens if len(words) >= limit else StopReason.end_of_turn
    words = words[:limit]
    ranks = [1 if request.tools else dice.rank() for _ in words]  # another variant would be no call
    variants = [variant(word, rank) for word, rank in zip(words, ranks, strict=True)]
    text = "".join(variants)
    ends = [(at + len(stop), at) for stop in params.stop or () if (at := text.find(stop)) >= 0]
    completed, end = min(ends, default=(len(text), len(text)))
    planned_words = [
        PlannedWord(word, rank, text[start : max(start, min(stop, end))])
        for word, rank, (start, stop) in zip(words, ranks, pairwise(_boundaries(variants)), strict=True)
        if start < completed
    ]
    return Plan(planned_words, StopReason.end_of_turn if ends else stop_reason)


def _boundaries(words: list[str]) -> Iterator[int]:
    """Yield the start of each word, then the end of the last one."""
    position = 0
    yield position
    for word in words:
        position += len(word)
        yield position
