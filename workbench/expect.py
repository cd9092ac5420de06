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
from workbench.protocol.insides import MAX_CELL_WORDS, LensKind
from workbench.protocol.sampling import is_count
from workbench.records import Score, TokenRecord
from workbench.session.capsule import Capsule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workbench.records import LensCell
    from workbench.session.run import Run

    Answer: TypeAlias = "Run[Any, Any] | Score"
    Tokens: TypeAlias = "Run[Any, Any] | Score | Capsule | Sequence[int | str]"

__all__ = ["divergence", "effect", "lens", "logprob", "prob", "rank", "same_tokens"]


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


def lens(
    run: Run[Any, Any],
    token: str | int,
    *,
    by_layer: int,
    position: int = 0,
    rank_at_most: int = 1,
    kind: LensKind = "logit",
) -> int:
    """Check that a lens reads a token at a layer up to ``by_layer``, and return the first layer at which it does.

    Args:
        rank_at_most: worst rank at which the token counts as read, at most 20.
        kind: the lens, as in `Run.lens`.
    """
    for name, value, least, most in (
        ("by_layer", by_layer, 0, None),
        ("rank_at_most", rank_at_most, 1, MAX_CELL_WORDS),
    ):
        if not is_count(value) or value < least or (most is not None and value > most):
            raise InvalidRequestError(name, value, f"a whole number from {least}" + (f" to {most}" if most else ""))
    _wait(run)
    wanted = Position(run, position).find(token)
    (column,) = run.lens_columns([position], kind=kind, words=MAX_CELL_WORDS)
    if by_layer >= len(column.cells):
        raise InvalidRequestError("by_layer", by_layer, f"a layer from 0 to {len(column.cells) - 1}")
    is_said = column.token_id == wanted.token_id
    ranks = [_rank_in(cell, wanted.token_id, is_said=is_said) for cell in column.cells]
    found = next((layer for layer, rank in enumerate(ranks) if rank <= rank_at_most), None)
    if found is None or found > by_layer:
        at = "at no layer" if found is None else f"first at layer {found}"
        wish = f"{wanted.text!r} with a rank of at most {rank_at_most} by layer {by_layer}"
        lines = [f"expected the {kind} lens to read {wish}; it does {at}", *map(_lens_line, ranks, column.cells)]
        raise AssertionError("\n".join(lines))
    return found


def effect(
    run: Run[Any, Any],
    edited: Run[Any, Any],
    *,
    position: int = 0,
    kl_at_least: float | None = None,
    kl_at_most: float | None = None,
    token: str | int | None = None,
    logit_change: float | None = None,
) -> float:
    """Check what an edit did to the distribution of one token, and return the KL divergence from the run, in nats.

    Args:
        edited: a run with edits, such as ``run.edit(...)``; up to the position, both must have the same tokens.
        kl_at_least, kl_at_most: bounds of the divergence.
        token: token whose logprob is to change.
        logit_change: least change of its logprob, in nats: at least so much higher, or if negative so much lower.
    """
    if kl_at_least is not None or kl_at_most is not None or logit_change is None:
        _check_bounds({"at_least": kl_at_least, "at_most": kl_at_most}, math.inf, "a divergence in nats, 0 or above")
    if (token is None) != (logit_change is None):
        raise InvalidRequestError("token", token, "given together with logit_change")
    if logit_change is not None and (not _is_number(logit_change) or logit_change == 0):
        raise InvalidRequestError("logit_change", logit_change, "a number of nats other than 0")
    before, after = (_logprobs_at(one, position) for one in (run, edited))
    if (apart := first_difference(_ids(run, "run")[:position], _ids(edited, "edited")[:position])) is not None:
        raise InvalidRequestError("position", position, f"at most {apart}, where the two runs first differ")
    known = before > -math.inf  # a token of probability 0 adds nothing
    divergence = max(0.0, float((math.e ** before[known] * (before[known] - after[known])).sum()))
    if _outside(divergence, kl_at_least, kl_at_most):
        wanted = _bounds(kl_at_least, kl_at_most)
        raise AssertionError(f"expected a divergence of {wanted} nats at position {position}; it is {divergence:.4g}")
    if token is not None and logit_change is not None:
        found = Position(run, position).find(token)
        change = float(after[found.token_id] - before[found.token_id])
        if change < logit_change if logit_change > 0 else change > logit_change:
            wanted = f"{'rise' if logit_change > 0 else 'fall'} by at least {abs(logit_change):g}"
            raise AssertionError(f"expected the logprob of {found.text!r} to {wanted}; it changed by {change:+.4g}")
    return divergence


def _logprobs_at(run: Run[Any, Any], position: int) -> NDArray[np.float64]:
    _wait(run)
    Position(run, position)  # checks the position
    return run.logprobs(position).astype("float64")


def _rank_in(cell: LensCell, token_id: int, *, is_said: bool) -> float:
    """Return a token's rank in a cell of a lens; infinity if it is not among the cell's words."""
    if is_said:
        return cell.rank
    places = [place for place, word in enumerate(cell.words, 1) if word.token_id == token_id]
    return places[0] if places else math.inf


def _lens_line(rank: float, cell: LensCell) -> str:
    shown = "above 20" if rank == math.inf else f"{rank:.0f}"
    return f"  rank {shown:>8}; most probable: {cell.words[0].text!r} ({cell.words[0].probability:.3f})"


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
