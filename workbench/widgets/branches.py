"""The tree of the runs of one prompt, by the positions at which their token ids diverge.

The tree depends on tokens alone and not on how a run was started, so it works with every provider, and two runs with
the same tokens are one branch.
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

# The number of bars that fit into the chart of a branch's surprisal.
MOST_COLUMNS = 120
_MOST_CHARACTERS = 160


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A run and the position at which it diverges from its parent branch."""

    run: RunLike
    parent: int | None
    """Index of the parent branch; None for the first run."""
    at: int
    """Position of its first token that the parent does not have."""


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the length of the common prefix of two sequences of ids."""
    for i, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return i
    return min(len(first), len(second))


def forks(run: RunLike, others: Sequence[RunLike]) -> list[int]:
    """Return the positions at which another run diverges from a run."""
    own = _ids(run)
    divergences = ((common_length(own, ids), ids) for ids in map(_ids, others))
    return sorted({at for at, ids in divergences if at < min(len(own), len(ids))})


def arrange(runs: Sequence[RunLike], shown: RunLike | None) -> list[Branch]:
    """Return the runs as a tree in reading order: each below its parent, the latest divergence first.

    A run that another one continues is no branch of its own, unless it is the one shown.
    """
    kept = [(run, ids) for run, ids in _endings([(run, _ids(run)) for run in runs], shown)]
    parents: list[tuple[int | None, int]] = []
    for i, (_, ids) in enumerate(kept):
        # Of the runs with the longest common prefix the earliest is the parent.
        shared = [common_length(ids, earlier) for _, earlier in kept[:i]]
        parents.append((shared.index(max(shared)), max(shared)) if shared else (None, 0))
    order = _reading_order(parents)
    row_of: dict[int | None, int | None] = {None: None, **{i: row for row, i in enumerate(order)}}
    return [Branch(kept[i][0], row_of[parents[i][0]], parents[i][1]) for i in order]


def wire_branches(branches: Sequence[Branch], shown: RunLike | None, runs: Sequence[RunLike]) -> list[dict[str, Any]]:
    """Return one dictionary per branch, as the page draws it.

    ``{run, name, parent, at, count, total, state, stop, own, instead, text, bits, perplexity, shown}``; ``own`` and
    ``instead`` are ``[label, logprob]`` of the token at which it diverges and of the parent's; ``bits`` is the
    surprisal of its own tokens, the maximum of each column if there are more tokens than columns.

    Args:
        runs: all runs in the order in which they started. Branches are numbered in this order from 1; a continuation
            has the number of the run that it continues.
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
    """Return the ids of the branches' runs in the order of their names."""
    ids = {run.id: _ids(run) for run in runs}
    kept = [run.id for run in runs if any(branch.run is run for branch in branches)]

    def began(run_id: str) -> int:
        continued = (at for at, one in enumerate(ids) if one not in kept and ids[run_id][: len(ids[one])] == ids[one])
        return min([*continued, list(ids).index(run_id)])

    return sorted(kept, key=began)


def text_from(run: RunLike, at: int) -> str:
    """Return the run's text from a token on."""
    tokens, pieces = whole_pieces(run)
    return "".join(pieces[at:]) if tokens else run.text


def perplexity(tokens: Sequence[TokenRecord]) -> float | None:
    """Return the inverse geometric mean of the probabilities; None if none is known."""
    known = [token.logprob for token in tokens if math.isfinite(token.logprob)]
    return number(math.exp(-math.fsum(known) / len(known)), digits=2) if known else None


def column_of(position: int, total: int) -> int:
    """Return the bar of the chart to which a token belongs."""
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
    def continues_in(i: int, j: int) -> bool:
        (_, ids), (other, longer) = runs[i], runs[j]
        if i == j or longer[: len(ids)] != ids:
            return False
        return len(longer) > len(ids) or other is shown or j > i

    return [
        pair for i, pair in enumerate(runs) if pair[0] is shown or not any(continues_in(i, j) for j in range(len(runs)))
    ]


def _reading_order(parents: Sequence[tuple[int | None, int]]) -> list[int]:
    order: list[int] = []
    waiting = [i for i, (parent, _) in enumerate(parents) if parent is None]
    while waiting:
        i = waiting.pop()
        order.append(i)
        # Taken from the end: the latest divergence comes next, so that no line crosses a branch.
        waiting += sorted(
            (k for k, (parent, _) in enumerate(parents) if parent == i), key=lambda k: (parents[k][1], -k)
        )
    return order


def _ids(run: RunLike) -> list[int]:
    return [token.token_id for token in list(run.tokens)]
