"""Comparison of runs on one prompt: where they diverge, and the KL divergence of their distributions until then.

The first run is the reference. As long as another run has the same tokens, both models have the same context, so their
whole distributions can be compared: ``kl_nats`` is the Kullback-Leibler divergence KL(reference || other) at each
position up to and including the first difference. It is undefined if the prompts or the tokenizers differ, and ``why``
says so; with different tokenizers, the first difference is that of the characters.

Only recent logits are kept, so long runs must be compared while they run: call ``read()`` now and then, as the widget
does.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from workbench.analysis.distributions import identities, kl_nats
from workbench.errors import ClosedError, InvalidRequestError, UnsupportedFieldError
from workbench.records import ReadableRun

if TYPE_CHECKING:
    import pandas as pd

    from workbench.records import Alternative, TokenRecord

_COLUMNS = ("run", "model", "position", "token_id", "text", "logprob", "probability", "rank", "entropy")


class Compared(ReadableRun, Protocol):
    """A run that a comparison reads and waits for."""

    def wait(self, timeout: float | None = None) -> bool: ...
    def subscribe(self, callback: Callable[[Any], None]) -> Callable[[], None]: ...


@dataclass(frozen=True, slots=True)
class Divergence:
    """Position of the first difference of two runs."""

    position: int
    """Position of the reference's first token that differs; its number of tokens if it ended there."""
    other_position: int
    """The position in the other run; it differs only if the tokenizers differ."""


class Pair:
    """The reference and one other run, updated by ``Comparison.read``."""

    def __init__(self, reference: Compared, other: Compared, why: str | None) -> None:
        self.reference = reference
        self.other = other
        self.divergence: Divergence | None = None
        """First difference; None if there is none so far."""
        self.kl_nats: list[float] = []
        """KL divergence in nats at each position from 0; NaN if the logits are no longer kept."""
        self.why = why
        """Why there are no more KL values; None if there is no reason."""
        self.by_text = False
        """Whether characters were compared, because the two models have different tokenizers."""
        self._vocabulary = _Vocabulary()
        self._checked = (0, 0)
        self._same = 0

    @property
    def mean_kl_nats(self) -> float | None:
        """Mean KL divergence over the positions where it is known; None if it is known at none."""
        known = [value for value in self.kl_nats if not np.isnan(value)]
        return float(np.mean(known)) if known else None

    def read(self, until_s: float = math.inf) -> None:
        """Compare the tokens so far, then their distributions until ``until_s``.

        Args:
            until_s: when to stop, on the monotonic clock. A model's thread returns one distribution per step, which may
                take longer than the tokens; the next call reads the rest.
        """
        # Read whether the runs have ended before their tokens, so that no token of an ended run is missing.
        ended = self.reference.done, self.other.done
        one, other = list(self.reference.tokens), list(self.other.tokens)
        if not self.by_text:
            self._check_tokenizers([*one[self._checked[0] :], *other[self._checked[1] :]])
            self._checked = len(one), len(other)
        if not self.by_text and self.divergence is None:
            self._compare_tokens(one, other, ended)
        self._measure(min(len(one), len(other)), until_s)
        if self.by_text:
            self.kl_nats.clear()
            self._compare_characters(one, other, ended)

    def _check_tokenizers(self, tokens: list[TokenRecord]) -> None:
        """Compare by text if the tokens show that the tokenizers differ."""
        if self.reference.model == self.other.model:
            return
        reason: str | None = "it is unknown whether their tokenizers are the same"
        if all(token.token_id >= 0 for token in tokens):
            reason = self._vocabulary.contradiction(tokens)
        if reason:
            self.by_text, self.why = True, reason

    def _compare_tokens(self, one: list[TokenRecord], other: list[TokenRecord], ended: tuple[bool, bool]) -> None:
        for position in range(self._same, min(len(one), len(other))):
            if identities(one[position : position + 1]) != identities(other[position : position + 1]):
                self.divergence = Divergence(position, position)
                return
            self._same = position + 1
        if _has_stopped_short(len(one), len(other), ended):
            self.divergence = Divergence(self._same, self._same)

    def _compare_characters(self, one: list[TokenRecord], other: list[TokenRecord], ended: tuple[bool, bool]) -> None:
        """Compare all characters each time, because the last one may have been incomplete before."""
        a, b = _bytes(one, self.reference.text), _bytes(other, self.other.text)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
        differs = same < min(len(a), len(b)) or _has_stopped_short(len(a), len(b), ended)
        first = len(a[:same].decode(errors="ignore").encode())  # a character that is the same only in part is different
        self.divergence = Divergence(_token_at(one, a, first), _token_at(other, b, first)) if differs else None

    def _measure(self, count: int, until_s: float) -> None:
        """Compare distributions of the first ``count`` positions, up to and including the first difference."""
        self.why = self.why or _prompt_difference(self.reference, self.other)
        if self.divergence is not None:
            count = min(count, self.divergence.position + 1)
        while len(self.kl_nats) < count and self.why is None and time.monotonic() < until_s:
            self._measure_at(len(self.kl_nats))

    def _measure_at(self, position: int) -> None:
        try:
            one, other = self.reference.logprobs(position), self.other.logprobs(position)
        except UnsupportedFieldError:
            self.why = "a model outside this process provides no distributions"
            return
        except (InvalidRequestError, ClosedError):
            self.kl_nats.append(float("nan"))
            return
        if len(one) != len(other):
            self.by_text = True
            self.why = f"their vocabularies have {len(one):,} and {len(other):,} tokens"
            return
        self.kl_nats.append(kl_nats(one, other))


class Comparison:
    """Comparison of runs on one prompt with the first of them; readable while they run.

    Args:
        runs: two or more runs, the reference first.
        templates: hash of each run's chat template if known (``ModelCard.template_sha256``); different templates
            render the same messages as different prompts.
    """

    def __init__(self, runs: Sequence[Compared], *, templates: Sequence[str | None] | None = None) -> None:
        if not isinstance(runs, list | tuple) or len(runs) < 2 or not all(hasattr(run, "logprobs") for run in runs):
            raise InvalidRequestError("runs", runs, "two or more runs")
        hashes = [None] * len(runs) if templates is None else list(templates)
        if len(hashes) != len(runs):
            raise InvalidRequestError("templates", templates, f"a list with one hash for each of the {len(runs)} runs")
        self.runs = tuple(runs)
        self._pairs = tuple(
            Pair(runs[0], run, None if template == hashes[0] else "their chat templates differ")
            for run, template in zip(runs[1:], hashes[1:], strict=True)
        )
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        return " and ".join(run.id for run in self.runs)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Comparisons of the reference with each other run, in order."""
        return self.read()

    @property
    def divergence(self) -> int | None:
        """First position at which any run differs from the reference, as in `expect.divergence`.

        None if all are the same so far.
        """
        found = [pair.divergence.position for pair in self.pairs if pair.divergence is not None]
        return min(found, default=None)

    @property
    def done(self) -> bool:
        """Whether all runs have ended."""
        return all(run.done for run in self.runs)

    def read(self, patience_s: float = math.inf) -> tuple[Pair, ...]:
        """Compare the tokens that are new since the last call; thread-safe.

        Args:
            patience_s: maximum time to wait for distributions, in seconds. Tokens are always compared; 0 compares
                only tokens.
        """
        until_s = time.monotonic() + patience_s
        with self._lock:
            for pair in self._pairs:
                pair.read(until_s)
        return self._pairs

    def wait(self, timeout: float | None = None) -> bool:
        """Block until all runs have ended, at most ``timeout`` seconds. Return whether they have."""
        deadline_s = None if timeout is None else time.monotonic() + timeout
        for run in self.runs:
            left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            if not run.wait(left_s):
                return False
        self.read()
        return True

    def subscribe(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        """Call ``callback`` after every new token and change of state; return a function that stops this."""
        unsubscribe = [run.subscribe(callback) for run in self.runs]

        def stop() -> None:
            for one in unsubscribe:
                one()

        return stop

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per run and position.

        The columns are the run's index and model, those of ``Run.to_frame``, ``is_same`` (the text up to and including
        this token is the reference's) and ``kl_nats`` (NaN for the reference and where unknown).
        """
        import pandas as pd

        pairs: list[Pair | None] = [None, *self.pairs]
        rows = [
            (*_facts(index, run, token), *_compared(pair, token.position))
            for index, (run, pair) in enumerate(zip(self.runs, pairs, strict=True))
            for token in list(run.tokens)
        ]
        return pd.DataFrame(rows, columns=pd.Index([*_COLUMNS, "is_same", "kl_nats"]))

    def __repr__(self) -> str:
        return f"<Comparison with {self.runs[0].model}: {'; '.join(map(_summary, self.pairs))}>"


class _Vocabulary:
    """Tokens of two models; in one tokenizer, an id has one spelling, and a spelling one id."""

    def __init__(self) -> None:
        self._spelling: dict[int, bytes] = {}
        self._id: dict[bytes, int] = {}

    def contradiction(self, tokens: Sequence[TokenRecord]) -> str | None:
        """Return a contradiction to a common tokenizer among tokens and alternatives as text, or None."""
        seen: list[TokenRecord | Alternative] = [*tokens, *chain.from_iterable(token.alternatives for token in tokens)]
        for one in seen:
            if self._spelling.setdefault(one.token_id, one.bytes) != one.bytes:
                return f"their tokenizers differ: token {one.token_id} is {self._text(one)!r} and {one.text!r}"
            # One byte may be a token twice in one vocabulary, as a character and as a fallback; more may not.
            if len(one.bytes) > 1 and self._id.setdefault(one.bytes, one.token_id) != one.token_id:
                return f"their tokenizers differ: {one.text!r} is token {self._id[one.bytes]} and {one.token_id}"
        return None

    def _text(self, one: TokenRecord | Alternative) -> str:
        return self._spelling[one.token_id].decode(errors="replace")


def _prompt_difference(one: Compared, other: Compared) -> str | None:
    if one.prompt != other.prompt:
        return "their prompts differ"
    counts = one.usage.prompt_tokens, other.usage.prompt_tokens
    if 0 not in counts and counts[0] != counts[1]:
        return f"their prompts have {counts[0]} and {counts[1]} tokens"
    return None


def _has_stopped_short(one: int, other: int, ended: tuple[bool, bool]) -> bool:
    """Whether one run has ended where the other continues."""
    return (ended[0] and one < other) or (ended[1] and other < one)


def _bytes(tokens: Sequence[TokenRecord], text: str) -> bytes:
    joined = b"".join(token.bytes for token in tokens if not token.is_special)
    # The first token of SentencePiece models begins with a space that is not part of the text.
    return joined[1:] if joined.startswith(b" ") and not text.startswith(" ") else joined


def _token_at(tokens: Sequence[TokenRecord], joined: bytes, offset: int) -> int:
    """Return the position of the token with the byte at ``offset``; the number of tokens if the text is shorter."""
    end = len(joined) - sum(len(token.bytes) for token in tokens if not token.is_special)  # minus a dropped space
    for token in tokens:
        end += 0 if token.is_special else len(token.bytes)
        if end > offset:
            return token.position
    return len(tokens)


def _facts(index: int, run: Compared, token: TokenRecord) -> tuple[Any, ...]:
    return (index, run.model, *(getattr(token, name) for name in _COLUMNS[2:]))


def _compared(pair: Pair | None, position: int) -> tuple[bool, float]:
    if pair is None:
        return True, float("nan")
    is_same = pair.divergence is None or position < pair.divergence.other_position
    return is_same, pair.kl_nats[position] if position < len(pair.kl_nats) else float("nan")


def _summary(pair: Pair) -> str:
    where = "the same" if pair.divergence is None else f"differs from token {pair.divergence.position + 1}"
    mean = pair.mean_kl_nats
    far = f"no KL, {pair.why}" if mean is None and pair.why else None if mean is None else f"mean KL {mean:.2g} nat"
    return ", ".join(filter(None, [f"{pair.other.model} {where}", far]))
