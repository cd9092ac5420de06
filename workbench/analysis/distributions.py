"""The distribution at one position of a run, as candidates and as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import ClosedError, InvalidRequestError, UnsupportedFieldError
from workbench.protocol.sampling import is_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workbench.records import Alternative, TokenRecord

_BAR_WIDTH = 24
_CONTEXT_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate token at a position."""

    token_id: int
    text: str
    logprob: float
    rank: int

    @property
    def probability(self) -> float:
        return math.exp(self.logprob)


class Position:
    """One generated position of a run or of a score.

    Args:
        source: object with ``tokens`` and optionally ``distribution(position)``, which returns the whole distribution.

    Raises:
        InvalidRequestError: ``position`` is not the index of a generated token.
    """

    def __init__(self, source: Any, position: int, field: str = "position") -> None:
        self._source = source
        self._tokens: Sequence[TokenRecord] = source.tokens
        if not is_count(position) or position >= len(self._tokens):
            allowed = f"the index of one of {len(self._tokens)} generated tokens, counted from 0"
            raise InvalidRequestError(field, position, allowed)
        self.index = int(position)
        self.sampled = _candidate(self._tokens[self.index])
        others = map(_candidate, self._tokens[self.index].alternatives)
        self._recorded = sorted([self.sampled, *others], key=lambda one: (-one.logprob, one.rank))
        self._whole: list[Candidate] | None = None

    def find(self, token: str | int, field: str = "token") -> Candidate:
        """Return the candidate with an id or a text, the most probable one of several.

        Raises:
            InvalidRequestError: it is not among the known candidates.
        """
        if isinstance(token, bool) or not isinstance(token, str | int):
            raise InvalidRequestError(field, token, "the text or the id of one token")
        found = next((one for one in self._recorded if _is(one, token)), None)
        found = found or next((one for one in self._all() if _is(one, token)), None)
        if found is None or math.isnan(found.logprob):
            raise InvalidRequestError(field, token, self._known())
        return found

    def table(self, marked: Sequence[object] = (), top: int = 8) -> str:
        """Return the most probable candidates as bars, and those with ``marked`` ids at any rank."""
        everyone = self._all()
        shown = [*everyone[:top], *(one for one in everyone[top:] if one.token_id in marked)]
        lines = [_line(one, self.sampled.token_id) for one in shown]
        covered = math.fsum(one.probability for one in everyone[:top] if not math.isnan(one.logprob))
        before = "".join(token.text for token in self._tokens[: self.index])[-_CONTEXT_CHARACTERS:]
        where = f"position {self.index}, after {before!r}" if before else f"position {self.index}, after the prompt"
        return "\n".join([f"  {where}:", *lines, f"  {min(top, len(everyone))} tokens cover {covered:.4f}"])

    def _all(self) -> list[Candidate]:
        """Return the whole distribution if it is kept, or else the recorded candidates, the most probable first."""
        if self._whole is None:
            self._whole = self._distribution() or self._recorded
        return self._whole

    def _distribution(self) -> list[Candidate] | None:
        distribution = getattr(self._source, "distribution", None)
        if distribution is None:
            return None
        try:
            frame = distribution(self.index)
        except (InvalidRequestError, UnsupportedFieldError, ClosedError):
            return None
        columns = (frame[name].tolist() for name in ("token_id", "text", "logprob", "rank"))
        return [Candidate(*row) for row in zip(*columns, strict=True)]

    def _known(self) -> str:
        known = self._all()
        if known is not self._recorded:
            return f"a token of the model; none of its {len(known)} tokens has that id or text"
        return (
            f"one of the {len(known)} tokens that are known at position {self.index} "
            f"({', '.join(repr(one.text) for one in known[:5])}); logprobs=LogProbConfig(top_k=...) requests more"
        )


def kl_nats(one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> float:
    """Return KL(one || other) in nats, of natural log probabilities, shape (vocab,)."""
    p, q = one.astype(np.float64), other.astype(np.float64)
    possible = p > -np.inf
    terms = np.exp(p[possible]) * (p[possible] - q[possible])
    return max(0.0, float(terms.sum()))  # rounding may make a tiny sum negative


def identities(tokens: Sequence[Any]) -> list[int | str]:
    """Return the ids of tokens, or the text of a token whose id a remote server does not report."""
    return [token.token_id if token.token_id >= 0 else token.text for token in tokens]


def first_difference(one: Sequence[object], other: Sequence[object]) -> int | None:
    """Return the first index at which two sequences differ, or one has ended; None if they are equal."""
    return next((index for index, (a, b) in enumerate(zip_longest(one, other)) if a != b), None)


def _candidate(token: TokenRecord | Alternative) -> Candidate:
    return Candidate(token.token_id, token.text, token.logprob, token.rank)


def _is(candidate: Candidate, token: str | int) -> bool:
    return candidate.text == token if isinstance(token, str) else candidate.token_id == token


def _line(candidate: Candidate, sampled_id: int) -> str:
    mark = "  <- sampled" if candidate.token_id == sampled_id else ""
    if math.isnan(candidate.logprob):
        return f"  {'?':>6} {'?':>8}  {' ' * _BAR_WIDTH} {candidate.text!r}{mark}"
    bar = "█" * round(candidate.probability * _BAR_WIDTH)
    return f"  {candidate.rank:>6} {candidate.probability:8.4f}  {bar:<{_BAR_WIDTH}} {candidate.text!r}{mark}"
