"""The static twin of the tool-call microscope: one row per token, each number with a bar behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from workbench.records import CallStep
from workbench.widgets.format import percent, token_count, visible
from workbench.widgets.html.twins import MOST_ROWS, document, line, rest_line

_BAR = "91,127,181"
_COLUMNS = ("#", "token", "a call begins", "parse state", "removed by the schema")


def microscope_html(steps: Sequence[CallStep], message: str) -> str:
    """Return a table of the first tokens below a summary of all."""
    if message or not steps:
        return document(line(message or "No tokens yet."))
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    rows = "".join(_row(step) for step in steps[:MOST_ROWS])
    rest = rest_line(len(steps))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return document(line(summary(steps)), table, rest)


def summary(steps: Sequence[CallStep]) -> str:
    """Return the number of calls, and the share of the tokens that a schema decided."""
    whole = sum(step.parse_state == "success" for step in steps)
    broken = sum(step.parse_state == "failure" for step in steps)
    forced = sum(step.is_forced for step in steps)
    calls = f"{whole} complete call{'' if whole == 1 else 's'}" + (
        f", {broken} that could not be parsed" if broken else ""
    )
    return f"{token_count(len(steps))}: {calls}. The schema left no choice at {forced} of them."


def start_in_words(step: CallStep) -> str:
    """Return the probability that a call begins; a lower bound if only some tokens are known."""
    if math.isnan(step.start_probability):
        return "–"
    return percent(step.start_probability) if step.is_exact else f"≥ {percent(step.start_probability)}"


def removed_in_words(step: CallStep) -> str:
    removed = percent(step.removed_mass) if step.removed_mass > 0 else "–"
    return f"{removed}, no choice left" if step.is_forced else removed


def _row(step: CallStep) -> str:
    start = 0.0 if math.isnan(step.start_probability) else step.start_probability
    cells = [
        f"<td>{step.position + 1}</td>",
        f"<td><code>{escape(visible(step.text))}</code></td>",
        _bar_cell(start, start_in_words(step)),
        f"<td>{escape(step.parse_state.replace('_', ' '))}</td>",
        _bar_cell(step.removed_mass, removed_in_words(step)),
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _bar_cell(share: float, text: str) -> str:
    end = f"{100 * min(1.0, share):.1f}%"
    style = f"background:linear-gradient(90deg,rgba({_BAR},0.35) {end},transparent {end})"
    return f'<td style="{style}">{escape(text)}</td>'
