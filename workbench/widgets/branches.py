"""Where the runs of one prompt part: by their token ids, however each of them came about.

A run that was branched, one that was regenerated and one that began anew are told apart by nothing but their tokens,
so the tree is read from those. It holds for every provider, and two runs that chose the same tokens are one branch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.records import TokenRecord
from workbench.widgets.contract import RunLike
from workbench.widgets.format import bits
from workbench.widgets.wire.run import label, logprob_number, number, stop_name, whole_pieces

# A picture of the surprisal has no more bars than it has room for.
MOST_COLUMNS = 120
_MOST_CHARACTERS = 160


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A run and where it leaves the one above it."""

    run: RunLike
    parent: int | None
    """Index of the branch that it leaves; None for the first run."""
    at: int
    """Position of its first token that the parent does not have."""


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids two sequences share from the start on."""
    for i, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return i
    return min(len(first), len(second))


def forks(run: RunLike, others: Sequence[RunLike]) -> list[int]:
    """Positions of a run's tokens in whose place another run has another token."""
    own = _ids(run)
    partings = ((common_length(own, ids), ids) for ids in map(_ids, others))
    return sorted({at for at, ids in partings if at < min(len(own), len(ids))})


def arrange(runs: Sequence[RunLike], shown: RunLike | None) -> list[Branch]:
    """The runs as a tree in reading order: each below the one that it leaves, late partings first.

    A run of which another one is the continuation is no branch of its own, unless it is the one shown.
    """
    kept = [(run, ids) for run, ids in _endings([(run, _ids(run)) for run in runs], shown)]
    parents: list[tuple[int | None, int]] = []
    for i, (_, ids) in enumerate(kept):
        # The earliest of those that share most: its own tokens, and not those of its parent, are what is left.
        shared = [common_length(ids, earlier) for _, earlier in kept[:i]]
        parents.append((shared.index(max(shared)), max(shared)) if shared else (None, 0))
    order = _reading_order(parents)
    row_of: dict[int | None, int | None] = {None: None, **{i: row for row, i in enumerate(order)}}
    return [Branch(kept[i][0], row_of[parents[i][0]], parents[i][1]) for i in order]


def wire_branches(branches: Sequence[Branch], shown: RunLike | None, runs: Sequence[RunLike]) -> list[dict[str, Any]]:
    """One dictionary a branch, as the page draws it.

    ``{run, name, parent, at, count, total, state, stop, own, instead, text, bits, perplexity, shown}``; ``own`` and
    ``instead`` are ``[label, logprob]`` of the token that parts it and of the parent's; ``bits`` the surprisal of its
    own tokens, the largest of a column where there are more tokens than columns.

    Args:
        runs: all runs in the order in which they began. Branches are called by their order, from 1; one that continues
            another run has the place of that run.
    """
    total = max((len(branch.run.tokens) for branch in branches), default=0)
    names = _names(branches, runs)
    return [_wire(branch, branches, total, shown, names) for branch in branches]


def _wire(
    branch: Branch, branches: Sequence[Branch], total: int, shown: RunLike | None, names: Sequence[str]
) -> dict[str, Any]:
    run, at = branch.run, branch.at
    tokens = list(run.tokens)
    parent = None if branch.parent is None else branches[branch.parent].run
    return {
        "run": run.id,
        "name": names.index(run.id) + 1,
        "parent": branch.parent,
        "at": at,
        "count": len(tokens),
        "total": total,
        "state": run.state,
        "stop": stop_name(run),
        "own": None if parent is None else _token(tokens, at),
        "instead": None if parent is None else _token(list(parent.tokens), at),
        "text": text_from(run, at)[:_MOST_CHARACTERS],
        "bits": _columns(tokens, at, total),
        "perplexity": perplexity(tokens),
        "shown": run is shown,
    }


def _names(branches: Sequence[Branch], runs: Sequence[RunLike]) -> list[str]:
    """The ids of the branches' runs in the order of their names."""
    ids = {run.id: _ids(run) for run in runs}
    kept = [run.id for run in runs if any(branch.run is run for branch in branches)]

    def began(run_id: str) -> int:
        continued = (at for at, one in enumerate(ids) if one not in kept and ids[run_id][: len(ids[one])] == ids[one])
        return min([*continued, list(ids).index(run_id)])

    return sorted(kept, key=began)


def text_from(run: RunLike, at: int) -> str:
    """The run's text from a token on."""
    tokens, pieces = whole_pieces(run)
    return "".join(pieces[at:]) if tokens else run.text


def perplexity(tokens: Sequence[TokenRecord]) -> float | None:
    """Inverse geometric mean of the probabilities; None where none is known."""
    known = [token.logprob for token in tokens if math.isfinite(token.logprob)]
    return number(math.exp(-math.fsum(known) / len(known)), digits=2) if known else None


def column_of(position: int, total: int) -> int:
    """Which bar of the picture a token belongs to."""
    return position if total <= MOST_COLUMNS else position * MOST_COLUMNS // total


def _columns(tokens: Sequence[TokenRecord], at: int, total: int) -> list[float]:
    columns: dict[int, float] = {}
    for position in range(at, len(tokens)):
        column = column_of(position, total)
        columns[column] = max(columns.get(column, 0.0), bits(tokens[position].logprob) or 0.0)
    return [round(value, 1) for value in columns.values()]


def _token(tokens: Sequence[TokenRecord], at: int) -> list[Any] | None:
    if at >= len(tokens):
        return None
    return [label(tokens[at].text, tokens[at].bytes), logprob_number(tokens[at].logprob)]


def _endings(runs: list[tuple[RunLike, list[int]]], shown: RunLike | None) -> list[tuple[RunLike, list[int]]]:
    def goes_on_in(i: int, j: int) -> bool:
        (_, ids), (other, longer) = runs[i], runs[j]
        if i == j or longer[: len(ids)] != ids:
            return False
        return len(longer) > len(ids) or other is shown or j > i

    return [
        pair for i, pair in enumerate(runs) if pair[0] is shown or not any(goes_on_in(i, j) for j in range(len(runs)))
    ]


def _reading_order(parents: Sequence[tuple[int | None, int]]) -> list[int]:
    order: list[int] = []
    waiting = [i for i, (parent, _) in enumerate(parents) if parent is None]
    while waiting:
        i = waiting.pop()
        order.append(i)
        # Taken from the end: the latest parting comes next, so that no line crosses a branch.
        waiting += sorted(
            (k for k, (parent, _) in enumerate(parents) if parent == i), key=lambda k: (parents[k][1], -k)
        )
    return order


def _ids(run: RunLike) -> list[int]:
    return [token.token_id for token in list(run.tokens)]
