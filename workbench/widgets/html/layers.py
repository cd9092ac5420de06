"""The static twin of a lens: tables of layers and tokens, with what was said in the last row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from workbench.records import LensColumn, TokenRecord
from workbench.widgets.format import fixed, percent
from workbench.widgets.html.twins import code, document, line
from workbench.widgets.wire.layers import word_label
from workbench.widgets.wire.run import label

MOST_COLUMNS = 24
"""Columns that are shown; the first line says how many others are left out."""
_TABLE_COLUMNS = 12
"""Columns side by side, as many as fit on a page."""
NAMES = {"logit": "logit lens", "jacobian": "Jacobian lens"}
_MARK = "●"
_HUE = "79,110,190"


def layers_html(
    columns: Mapping[int, LensColumn], tokens: Sequence[TokenRecord], *, kind: str, message: str = ""
) -> str:
    """Return the last of some columns as tables, one row for each layer.

    Args:
        columns: those that were computed, by position.
        tokens: those of the run.
        kind: ``logit`` or ``jacobian``.
        message: why there is nothing to show, or what is missing.
    """
    shown = sorted(columns)[-MOST_COLUMNS:]
    if not shown:
        return document(line(message or "No layers were read."))
    tables = [
        _table(shown[start : start + _TABLE_COLUMNS], columns, tokens) for start in range(0, len(shown), _TABLE_COLUMNS)
    ]
    said = line(message) if message else ""
    return document(line(caption_of(kind, len(shown), len(tokens))), *tables, said)


def caption_of(kind: str, shown: int, count: int) -> str:
    """Return what the tables show, and how many tokens they leave out."""
    name = NAMES[kind][0].upper() + NAMES[kind][1:]
    left = count - shown
    rest = f" {left:,} of {count:,} tokens are left out." if left else ""
    return (
        f"{name}, computed: the most probable token after each layer and its probability. "
        f"{_MARK} marks the token that was said.{rest}"
    )


def _table(positions: Sequence[int], columns: Mapping[int, LensColumn], tokens: Sequence[TokenRecord]) -> str:
    layers = len(columns[positions[0]].cells)
    head = "".join(f'<th scope="col">{position + 1}</th>' for position in positions)
    rows = [_row(str(layer), [_cell(columns[position], layer) for position in positions]) for layer in range(layers)]
    said = _row("said", [f"<td><strong>{_said(tokens[position])}</strong></td>" for position in positions])
    body = f'<thead><tr><th scope="col">layer</th>{head}</tr></thead><tbody>{"".join(rows)}{said}</tbody>'
    return f'<table style="font-size:smaller;white-space:nowrap">{body}</table>'


def _row(name: str, cells: Sequence[str]) -> str:
    return f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _cell(column: LensColumn, layer: int) -> str:
    cell = column.cells[layer]
    top = cell.words[0]
    mark = f" {_MARK}" if top.token_id == column.token_id else ""
    style = f' style="background:rgba({_HUE},{0.55 * top.probability:.2f})"' if top.probability >= 0.01 else ""
    title = f"said: {percent(cell.probability)}, rank {cell.rank:,}"
    share = f"{fixed(100 * top.probability, 0)}\u00a0%"
    return f'<td title="{escape(title)}"{style}>{code(word_label(top))} {share}{mark}</td>'


def _said(token: TokenRecord) -> str:
    return code(label(token.text, token.bytes))
