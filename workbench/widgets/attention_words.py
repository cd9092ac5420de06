"""The numbers of attention that the view and its static twin show alike; static/attention_words.js has the same."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.widgets.format import information, percent

MOST_ARCS = 24
LEAST_ARC = 0.005
"""Smaller weights have no arc."""
NOTE = "Derived: the weights are computed again from the queries and keys of this run."
TITLES = {"first": "Share on the first token", "previous": "Share on the previous token", "entropy": "Entropy"}
"""Titles of the numbers of a head."""


def strongest(weights: Sequence[float | None], most: int = MOST_ARCS) -> list[int]:
    """Return the positions with the largest weights that have an arc, the largest first."""
    shown = [key for key, weight in enumerate(weights) if (weight or 0) >= LEAST_ARC]
    return sorted(shown, key=lambda key: (-(weights[key] or 0), key))[:most]


def head_value(values: Sequence[float | None], measure: str) -> float | None:
    """Return one of the numbers of a head, ``[on_first, on_previous, entropy]``."""
    return values[list(TITLES).index(measure)]


def head_words(value: float | None, measure: str, unit: str) -> str:
    """Return a number of a head with its unit."""
    if value is None:
        return "–"
    return information(value, unit, 2) if measure == "entropy" else percent(value)


def rest_words(weights: Sequence[float | None], shown: Sequence[int]) -> str:
    """Return the share of the tokens that are not shown; empty if there are none."""
    left = sum(1 for weight in weights if weight) - len(shown)
    share = sum(weight or 0 for weight in weights) - sum(weights[key] or 0 for key in shown)
    if left <= 0:
        return ""
    return f"{left:,} other {'token' if left == 1 else 'tokens'}: {percent(max(0.0, round(share, 4)))}"
