"""The static twin of an attribution: the answer with the chunks' numbers in it, the chunks, and a table of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from workbench.records import Attribution, TokenRecord
from workbench.widgets.attribution_words import folded, mark, name_of, score_in_words, stretches, summary, total
from workbench.widgets.format import change, heat, percent_of, times
from workbench.widgets.html.twins import MOST_ROWS, code, document, line, prompt_block, rest_line, shown
from workbench.widgets.wire.attribution import answer_pieces, score_of
from workbench.widgets.wire.chat import text_of
from workbench.widgets.wire.run import label

HUES = ("0,114,178", "213,94,0", "0,158,115", "204,121,167", "230,159,0", "86,180,233")
"""Colors of the chunks, repeated in this order; readers with any color vision can tell them apart (Okabe and Ito)."""
_NOTE = "A number is the chunk that raised the marked tokens after it most."


def attribution_html(attribution: Attribution, unit: str = "nats") -> str:
    """Return an attribution as HTML.

    Args:
        unit: unit of the changes, one of `UNITS`.
    """
    by_token = list(zip(*attribution.changes, strict=True)) or [()] * len(attribution.tokens)
    marks = [mark(changes) for changes in by_token]
    said = line(summary(marks, len(attribution.chunks)))
    if not attribution.tokens:
        return document(said, _chunks(attribution, unit))
    note = line(_NOTE) if any(one is not None for one in marks) else ""
    text = _text(attribution.tokens, by_token, marks, unit)
    return document(said, text, note, _chunks(attribution, unit), _tokens(attribution.tokens, by_token, unit))


def _text(
    tokens: Sequence[TokenRecord], by_token: Sequence[Sequence[float]], marks: Sequence[int | None], unit: str
) -> str:
    pieces = answer_pieces(tokens)
    starts = set(stretches(marks, [not piece.strip() for piece in pieces]))
    spans = []
    for position, (token, piece, marked) in enumerate(zip(tokens, pieces, marks, strict=True)):
        text = token.text if token.is_special else piece
        if marked is None:
            spans.append(escape(shown(text)))
        else:
            number = f"<sup>{marked + 1}</sup>" if position in starts else ""
            spans.append(_span(text, number, marked, by_token[position][marked], unit))
    style = "white-space:pre-wrap;overflow-wrap:anywhere;font-family:Georgia,serif;line-height:1.8;margin:0.5em 0"
    return f'<pre dir="auto" style="{style}">{"".join(spans)}</pre>'


def _span(text: str, number: str, index: int, nats: float, unit: str) -> str:
    word = text.removeprefix(" ") or text  # the space before it may be at the end of the previous line
    hue, amount = HUES[index % len(HUES)], heat(-nats)
    line_style = "dotted" if index // len(HUES) % 2 else "solid"
    style = (
        f"background:rgba({hue},{0.1 + 0.35 * amount:.2f});border-bottom:{1 + 2 * amount:.1f}px {line_style} rgb({hue})"
    )
    title = escape(f"raised by [{index + 1}]: {change(nats, unit)}, {times(nats)}")
    gap = text[: len(text) - len(word)]
    return f'{gap}{number}<span title="{title}" style="{style}">{escape(shown(word))}</span>'


def _chunks(attribution: Attribution, unit: str) -> str:
    parts = []
    for index, (chunk, changes) in enumerate(zip(attribution.chunks, attribution.changes, strict=True)):
        score = score_of(attribution, index)
        facts = [] if score is None else [score_in_words(score)]
        facts.append(f"{change(total(changes), unit)} on the answer")
        name = escape(shown(name_of(index, chunk.document_id)))
        parts.append(f"<p><strong>{name}</strong> · {escape(' · '.join(facts))}</p>")
        parts.append(prompt_block(folded(text_of(chunk.content))))
    return "".join(parts)


def _tokens(tokens: Sequence[TokenRecord], by_token: Sequence[Sequence[float]], unit: str) -> str:
    numbers = [f"[{index + 1}], {unit}" for index in range(len(by_token[0]))]
    head = "".join(f'<th scope="col">{name}</th>' for name in ("#", "token", "probability", *numbers))
    rows = "".join(_row(token, changes, unit) for token, changes in zip(tokens[:MOST_ROWS], by_token, strict=False))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return table + rest_line(len(tokens))


def _row(token: TokenRecord, changes: Sequence[float], unit: str) -> str:
    marked = mark(changes)
    cells = [str(token.position + 1), code(label(token.text, token.bytes)), escape(percent_of(token.logprob))]
    for index, nats in enumerate(changes):
        text = "–" if math.isnan(nats) else change(nats, unit).removesuffix(f" {unit}")
        cells.append(f"<strong>{text}</strong>" if index == marked else text)
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
