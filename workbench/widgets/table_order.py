"""Filtering and sorting of a token table; static/table_order.js has the same rules.

A query has words that a token must contain and comparisons such as ``rank>3`` or ``probability<=0.1``; all must hold.
Numbers are rounded as on the page, so that both sides agree on every tie. Surprisal and entropy are compared in the
unit shown, logprobs in nats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from workbench.records import TokenRecord
from workbench.widgets.format import visible
from workbench.widgets.wire.run import label, logprob_number, number

SORTABLE = ("position", "text", "token_id", "probability", "surprisal", "rank", "entropy")
_COMPARISON = re.compile(
    r"(position|id|token_id|probability|logprob|surprisal|rank|entropy)(<=|>=|<|>|=)(-?\d+(?:\.\d+)?)(%?)"
)
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": lambda one, other: one < other,
    ">": lambda one, other: one > other,
    "<=": lambda one, other: one <= other,
    ">=": lambda one, other: one >= other,
    "=": lambda one, other: one == other,
}


def rows(tokens: Sequence[TokenRecord], *, sort_by: str, descending: bool, query: str, unit: str) -> list[int]:
    """Return the positions of the rows that match a query, sorted; rows without a value come last, ties by position."""
    terms = [_term(word, unit) for word in query.split()]
    matching = [i for i, token in enumerate(tokens) if all(term(token) for term in terms)]
    known = [i for i in matching if _value(tokens[i], sort_by) is not None]
    unknown = [i for i in matching if _value(tokens[i], sort_by) is None]
    return sorted(known, key=lambda i: _value(tokens[i], sort_by), reverse=descending) + unknown


def _term(word: str, unit: str) -> Callable[[TokenRecord], bool]:
    comparison = _COMPARISON.fullmatch(word)
    if comparison is None:
        return lambda token: _contains(token, word.lower())
    name, sign, digits, percent = comparison.groups()
    limit = float(digits) / (100 if percent else 1)
    if unit == "bits" and name in ("surprisal", "entropy"):
        limit *= math.log(2)

    def holds(token: TokenRecord) -> bool:
        value = _value(token, "token_id" if name == "id" else name)
        return value is not None and _COMPARE[sign](value, limit)

    return holds


def _contains(token: TokenRecord, word: str) -> bool:
    shown = label(token.text, token.bytes)
    return word in shown.lower() or word in visible(shown).lower()


def _value(token: TokenRecord, name: str) -> Any:
    if name == "text":
        # JavaScript compares strings by their 16-bit units.
        return label(token.text, token.bytes).encode("utf-16-be", "surrogatepass")
    if name == "probability":
        logprob = logprob_number(token.logprob)
        return None if logprob is None else math.exp(logprob)
    if name == "entropy":
        return number(token.entropy, digits=3)
    if name in ("logprob", "surprisal"):
        logprob = logprob_number(token.logprob)
        return logprob if logprob is None or name == "logprob" else -logprob
    if name == "rank":
        return token.rank or None
    return getattr(token, name)
