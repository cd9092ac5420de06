"""The static twin of a lens: a table of layers and tokens, with what was said in the last row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from workbench.records import LensCell, LensColumn, TokenRecord
from workbench.widgets.format import percent
from workbench.widgets.html.twins import code, document, line
from workbench.widgets.wire.layers import word_label
from workbench.widgets.wire.run import label

MOST_COLUMNS = 24
"""Columns in the table; others are left out, which its caption says."""
NAMES = {"logit": "logit lens", "jacobian": "Jacobian lens"}
_MARK = "●"
_HUE = "79,110,190"


def layers_html(
    columns: Mapping[int, LensColumn], tokens: Sequence[TokenRecord], *, kind: str, message: str = ""
) -> str:
    """Return the last of some columns as a table, one row for each layer.

    Args:
        columns: those that were computed, by position.
        tokens: those of the run.
        kind: ``logit`` or ``jacobian``.
        message: why there is nothing to show, or what is missing.
    """
    shown = sorted(columns)[-MOST_COLUMNS:]
    if not shown:
        return document(line(message or "No layers were read."))
    layers = range(len(columns[shown[0]].cells))
    head = "".join(f'<th scope="col">{position + 1}</th>' for position in shown)
    rows = [_row(str(layer), [_cell(columns[position], layer) for position in shown]) for layer in layers]
    said = _row("said", [f"<td><strong>{_said(tokens[position])}</strong></td>" for position in shown])
    caption = f"<caption>{escape(caption_of(kind, len(shown), len(tokens)))}</caption>"
    table = f'{caption}<thead><tr><th scope="col">layer</th>{head}</tr></thead><tbody>{"".join(rows)}{said}</tbody>'
    problem = line(message) if message else ""
    return document(f'<div style="overflow-x:auto"><table>{table}</table></div>', problem)


def caption_of(kind: str, shown: int, count: int) -> str:
    """Return what a table shows, and how many tokens it leaves out."""
    name = NAMES[kind][0].upper() + NAMES[kind][1:]
    left = count - shown
    rest = f" {left:,} of {count:,} tokens are left out." if left else ""
    return (
        f"{name}, computed: the most probable token after each layer and its probability. "
        f"{_MARK} marks the token that was said.{rest}"
    )


def _row(name: str, cells: Sequence[str]) -> str:
    return f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _cell(column: LensColumn, layer: int) -> str:
    cell = column.cells[layer]
    top = cell.words[0]
    mark = f"{_MARK} " if top.token_id == column.token_id else ""
    style = f' style="background:rgba({_HUE},{0.55 * top.probability:.2f})"' if top.probability >= 0.01 else ""
    return f'<td title="{escape(_title(cell))}"{style}>{mark}{code(word_label(top))} {escape(percent(top.probability))}</td>'


def _title(cell: LensCell) -> str:
    return f"said: {percent(cell.probability)}, rank {cell.rank:,}"


def _said(token: TokenRecord) -> str:
    return code(label(token.text, token.bytes))
