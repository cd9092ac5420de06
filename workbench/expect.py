"""Assertions about what a model computed, for notebooks and tests: ``wb.expect.prob(run, " Paris", at_least=0.3)``.

Each function waits for the run, returns the value it checked, and raises an `AssertionError` that shows the
distribution if the check fails. A token is given by its text or its id; positions count the generated tokens from 0.
A check uses the whole distribution if the model runs in this process, and the requested alternatives otherwise. A
`Score` can be checked like a run. A check that cannot fail, or names something that does not exist, raises an
`InvalidRequestError`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from workbench.analysis.distributions import Candidate, Position, first_difference, identities
from workbench.errors import InvalidRequestError
from workbench.protocol.sampling import is_count
from workbench.records import Score, TokenRecord
from workbench.session.capsule import Capsule

if TYPE_CHECKING:
    from workbench.session.run import Run

    Answer: TypeAlias = "Run[Any, Any] | Score"
    Tokens: TypeAlias = "Run[Any, Any] | Score | Capsule | Sequence[int | str]"

__all__ = ["divergence", "logprob", "prob", "rank", "same_tokens"]


def prob(
    run: Answer, token: str | int, *, position: int = 0, at_least: float | None = None, at_most: float | None = None
) -> float:
    """Check that a token's probability, under the raw softmax, is within bounds, and return it."""
    _check_bounds({"at_least": at_least, "at_most": at_most}, 1.0, "a probability, from 0 to 1")
    at, found = _lookup(run, token, position)
    wanted = _bounds(at_least, at_most)
    if _outside(found.probability, at_least, at_most):
        _fail(f"expected the probability of {found.text!r} to be {wanted}; it is {found.probability:.4g}", at, found)
    return found.probability


def rank(
    run: Answer, token: str | int, *, position: int = 0, at_least: int | None = None, at_most: int | None = None
) -> int:
    """Check that a token's rank in the vocabulary (1 is the most probable) is within bounds, and return it."""
    bounds = {"at_least": at_least, "at_most": at_most}
    for name, bound in bounds.items():
        if bound is not None and not (is_count(bound) and bound >= 1):
            raise InvalidRequestError(name, bound, "a rank, 1 (the most probable) or above")
    _check_bounds(bounds, math.inf, "a rank, 1 or above")
    at, found = _lookup(run, token, position)
    if found.rank < 1:
        raise InvalidRequestError("token", token, "a token whose rank is known; this server does not report ranks")
    if _outside(found.rank, at_least, at_most):
        _fail(f"expected the rank of {found.text!r} to be {_bounds(at_least, at_most)}; it is {found.rank}", at, found)
    return found.rank


def logprob(run: Answer, token: str | int, expected: float, *, tolerance: float, position: int = 0) -> float:
    """Check that a token's natural log probability is within ``tolerance`` nats of ``expected``, and return it."""
    if not _is_number(expected) or expected > 0:
        raise InvalidRequestError("expected", expected, "a finite log probability, 0 or below")
    if not _is_number(tolerance) or tolerance < 0:
        raise InvalidRequestError("tolerance", tolerance, "a number of nats, 0 or above")
    at, found = _lookup(run, token, position)
    off = abs(found.logprob - expected)
    if off > tolerance:
        wanted = f"within {tolerance:g} of {expected:.6g}"
        _fail(
            f"expected the logprob of {found.text!r} to be {wanted}; it is {found.logprob:.6g}, {off:.2g} off",
            at,
            found,
        )
    return found.logprob


def same_tokens(run: Tokens, other: Tokens) -> list[int | str]:
    """Check that two runs, or a run and a capsule or a list of ids, have the same tokens, and return their ids.

    The text of a token stands in for its id if a remote server reports no ids.
    """
    ids, others = _ids(run, "run"), _ids(other, "other")
    at = first_difference(ids, others)
    if at is not None:
        _fail_apart(f"expected the same tokens; they differ from position {at}", run, other, at)
    return ids


def divergence(run: Tokens, other: Tokens, *, position: int | None) -> int | None:
    """Check that two runs first differ at ``position`` (None: they never differ), and return that position."""
    if position is not None and not is_count(position):
        raise InvalidRequestError("position", position, "the index of a generated token, 0 or above, or None")
    at = first_difference(_ids(run, "run"), _ids(other, "other"))
    if at != position:
        wanted = "the same tokens" if position is None else f"the tokens to differ from position {position}"
        found = "are the same" if at is None else f"differ from position {at}"
        _fail_apart(f"expected {wanted}; they {found}", run, other, at)
    return at


def _lookup(run: Answer, token: str | int, position: int) -> tuple[Position, Candidate]:
    """Return a position of a run that has ended, and one candidate token there."""
    if not _has_distributions(run):
        raise InvalidRequestError("run", run, "a Run or a Score")
    _wait(run)
    at = Position(run, position)
    return at, at.find(token)


def _has_distributions(source: object) -> bool:
    """Return whether a source has tokens with their alternatives; a capsule has tokens only."""
    return hasattr(source, "tokens") and not isinstance(source, Capsule)


def _wait(run: object) -> None:
    if (result := getattr(run, "result", None)) is not None:
        result()


def _ids(source: Tokens, field: str) -> list[int | str]:
    if isinstance(source, list | tuple):
        if not all(isinstance(one, str) or is_count(one) for one in source):
            raise InvalidRequestError(field, source, "a list of token ids, or of token texts")
        return [one if isinstance(one, str) else int(one) for one in source]
    tokens: Sequence[TokenRecord] | None = getattr(source, "tokens", None)
    if tokens is None:
        raise InvalidRequestError(field, source, "a Run, a Score, a Capsule or a list of token ids")
    _wait(source)
    return identities(tokens)


def _check_bounds(bounds: dict[str, Any], highest: float, allowed: str) -> None:
    low, high = bounds["at_least"], bounds["at_most"]
    for name, bound in bounds.items():
        if bound is not None and not (_is_number(bound) and 0 <= bound <= highest):
            raise InvalidRequestError(name, bound, allowed)
    if low is None and high is None:
        raise InvalidRequestError("at_least", None, "given, or at_most: without a bound nothing is checked")
    if low is not None and high is not None and low > high:
        raise InvalidRequestError("at_least", low, f"no larger than at_most, which is {high}")


def _outside(value: float, low: float | None, high: float | None) -> bool:
    return (low is not None and value < low) or (high is not None and value > high)


def _bounds(low: float | None, high: float | None) -> str:
    if low is not None and low == high:
        return f"{low:g}"
    words = [f"at least {low:g}"] if low is not None else []
    return " and ".join(words + ([f"at most {high:g}"] if high is not None else []))


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, numbers.Real) and math.isfinite(value)


def _fail(message: str, at: Position, token: Candidate) -> None:
    raise AssertionError(f"{message}\n{at.table([token.token_id])}")


def _fail_apart(message: str, run: Tokens, other: Tokens, position: int | None) -> None:
    """Raise an AssertionError that shows both tokens at the position, with the known distributions."""
    lines = [message]
    if position is not None:
        sides = {"run": run, "other": other}
        ids = {name: _ids(side, name)[position : position + 1] for name, side in sides.items()}
        for name, side in sides.items():
            lines.append(f"{name}: {_named(side, position)}")
            if _has_distributions(side) and ids[name]:
                lines.append(Position(side, position).table([one for found in ids.values() for one in found]))
    raise AssertionError("\n".join(lines))


def _named(side: Tokens, position: int) -> str:
    tokens: Sequence[Any] = side if isinstance(side, list | tuple) else side.tokens  # type: ignore[union-attr]
    if position >= len(tokens):
        return f"ended after {len(tokens)} tokens"
    token = tokens[position]
    if isinstance(token, str):
        return repr(token)
    return f"token {token}" if isinstance(token, numbers.Integral) else f"{token.text!r} (token {token.token_id})"
