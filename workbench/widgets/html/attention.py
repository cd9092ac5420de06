"""The static twin of the attention view: arcs of the chosen token as inline SVG, its weights, and a table of heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from workbench.widgets.attention_words import NOTE, TITLES, head_value, head_words, rest_words, strongest
from workbench.widgets.format import fixed, in_unit, percent, visible
from workbench.widgets.html.twins import MOST_ROWS, code, document, line, shown

MOST_TOKENS = 40
"""Number of tokens in the drawing, up to the chosen one."""
_PITCH, _ARCS, _NAMES = 20, 120, 96
_INK = "rgb(21,101,192)"


def attention_html(
    labels: Sequence[str],
    row: Mapping[str, Any],
    heads: Sequence[Sequence[Sequence[float | None]]],
    message: str,
    *,
    measure: str = "first",
    averaged: int = 0,
    unit: str = "bits",
) -> str:
    """Return the attention of one token and of all heads as HTML.

    Args:
        labels: texts of the tokens of prompt and answer.
        row, heads: the wire form of a row and of the heads; see `wire.attention`.
        message: why there is nothing to show; empty if there is something.
        averaged: number of tokens over which the numbers of the heads are averaged.
        unit: unit of the entropy.
    """
    parts = [line(message)] if message else []
    if row:
        said = f"Token {row['position'] + 1} in layer {row['layer']}, head {row['head']}. {NOTE}"
        parts += [line(said), _drawing(labels, row), _weights(labels, row["weights"])]
    if heads:
        parts += [line(f"Every head, on average over the last {averaged:,} tokens: {TITLES[measure].lower()}.")]
        parts += [_heads(heads, measure, unit)]
    return document(*parts)


def _drawing(labels: Sequence[str], row: Mapping[str, Any]) -> str:
    """Return an SVG of the arcs of the chosen token to those shortly before it."""
    position, weights = row["position"], row["weights"]
    first = max(0, position + 1 - MOST_TOKENS)
    keys = [key for key in strongest(weights) if key >= first]
    arcs = "".join(_arc(key - first, position - first, weights[key]) for key in reversed(keys))
    names = "".join(_name(at, labels[key]) for at, key in enumerate(range(first, position + 1)))
    width, height = (position - first + 1) * _PITCH + _NAMES // 2, _ARCS + _NAMES
    title = f"Arcs from token {position + 1} to the tokens that it attends to"
    svg = (
        f'<svg class="wb-arcs" role="img" aria-label="{title}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" fill="none">{arcs}{names}</svg>'
    )
    return f'<div style="overflow-x:auto">{svg}</div>'


def _arc(key: int, position: int, weight: float) -> str:
    start, end = (key + 0.5) * _PITCH, (position + 0.5) * _PITCH
    rise = min(_ARCS - 8, 24 + (end - start) / 2)
    path = f"M{start:g} {_ARCS} C{start:g} {_ARCS - rise:g} {end:g} {_ARCS - rise:g} {end:g} {_ARCS}"
    if key == position:
        path = f"M{start - 4:g} {_ARCS} C{start - 12:g} {_ARCS - 24} {start + 12:g} {_ARCS - 24} {start + 4:g} {_ARCS}"
    opacity, width = 0.25 + 0.75 * weight, 1 + 5 * weight
    return f'<path d="{path}" stroke="{_INK}" stroke-width="{width:.1f}" stroke-opacity="{opacity:.2f}"/>'


def _name(at: int, label: str) -> str:
    x, y = (at + 0.5) * _PITCH, _ARCS + 10
    text = visible(label)
    text = escape(shown(text if len(text) <= 14 else f"{text[:13]}…"))
    style = "font:12px ui-monospace,Menlo,Consolas,monospace;fill:currentColor"
    return f'<text x="{x:g}" y="{y}" style="{style}" transform="rotate(60 {x:g} {y})">{text}</text>'


def _weights(labels: Sequence[str], weights: Sequence[float | None]) -> str:
    keys = strongest(weights)
    rows = "".join(
        f"<tr><td>{key + 1}</td><td>{code(labels[key])}</td><td>{escape(percent(weights[key] or 0))}</td></tr>"
        for key in keys
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("#", "token", "weight"))
    rest = rest_words(weights, keys)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return table + (line(f"{rest}.") if rest else "")


def _heads(heads: Sequence[Sequence[Sequence[float | None]]], measure: str, unit: str) -> str:
    names = ("layer", *(f"head {head}" for head in range(len(heads[0]))))
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{layer}</th>{"".join(_cell(values, measure, unit) for values in one)}</tr>'
        for layer, one in enumerate(heads[:MOST_ROWS])
    )
    rest = line(f"{len(heads) - MOST_ROWS} more layers.") if len(heads) > MOST_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}"


def _cell(values: Sequence[float | None], measure: str, unit: str) -> str:
    value = head_value(values, measure)
    if measure == "entropy":
        return f"<td>{fixed(None if value is None else in_unit(value, unit), 2)}</td>"
    return f"<td>{escape(head_words(value, measure, unit))}</td>"
