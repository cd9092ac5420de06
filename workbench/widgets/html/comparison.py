"""The static twin of a comparison: the texts with the first difference marked, and their tokens side by side.

Speeds are left out, because stored outputs of lessons are compared on other machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from workbench.analysis.comparison import Comparison, Pair
from workbench.records import TokenRecord
from workbench.widgets.contract import RunLike
from workbench.widgets.format import STATE_WORDS, divergence, percent_of, stop_words, token_count
from workbench.widgets.html.twins import MOST_ROWS, code, document, line, prompt_block, rest_line, shown
from workbench.widgets.wire.comparison import LETTERS, in_sentences
from workbench.widgets.wire.run import error_text, label, whole_pieces

_MARK = "background:rgba(217,119,6,0.35)"


def compare_html(
    comparison: Comparison | None, sides: Sequence[Mapping[str, Any]], prompt: str, unit: str = "bits"
) -> str:
    """Return a comparison as HTML; before its first run, the prompt and the sides."""
    if comparison is None:
        return document(prompt_block(prompt), *(line(title_of(side)) for side in sides), line("No run yet."))
    pairs: list[Pair | None] = [None, *comparison.pairs]
    texts = [
        line(title_of(side)) + ("" if side.get("beside") else _text(run, _first_difference(pairs, index)) + _end(run))
        for index, (side, run) in enumerate(zip(sides, comparison.runs, strict=True))
    ]
    said = [line(sentence) for sentence in in_sentences(comparison.pairs, unit)]
    return document(prompt_block(prompt) if prompt else "", *texts, *said, _table(comparison, unit))


def title_of(side: Mapping[str, Any]) -> str:
    return " · ".join(filter(None, [f"{side['letter']}: {side['model']}", side["settings"]]))


def _first_difference(pairs: Sequence[Pair | None], index: int) -> int | None:
    """Return the position to mark in a run; in the reference, the earliest first difference of any other run."""
    pair = pairs[index]
    if pair is not None:
        return None if pair.divergence is None else pair.divergence.other_position
    parted = [one.divergence.position for one in pairs if one is not None and one.divergence is not None]
    return min(parted, default=None)


def _text(run: RunLike, marked: int | None) -> str:
    tokens, pieces = whole_pieces(run)
    spans = [_span(token, piece, token.position == marked) for token, piece in zip(tokens, pieces, strict=True)]
    style = "white-space:pre-wrap;overflow-wrap:anywhere;font-family:Georgia,serif;line-height:1.8;margin:0.5em 0"
    return f'<pre dir="auto" style="{style}">{"".join(spans) or escape(shown(run.text))}</pre>'


def _span(token: TokenRecord, piece: str, is_marked: bool) -> str:
    text = escape(shown(token.text if token.is_special else piece))
    text = f"<small>{text}</small>" if token.is_special else text
    if not is_marked:
        return text
    title = escape(f"token {token.position + 1}, {percent_of(token.logprob)}")
    return f'<strong title="{title}" style="{_MARK}">{text}</strong>'


def _end(run: RunLike) -> str:
    stopped = stop_words(run.stop_reason) if run.state == "finished" else None
    words = [token_count(len(run.tokens)), stopped or STATE_WORDS.get(run.state, run.state)]
    if run.state == "failed" and run.error is not None:
        words.append(error_text(run.error))
    return line(" · ".join(words))


def _table(comparison: Comparison, unit: str) -> str:
    letters = LETTERS[: len(comparison.runs)]
    names = ["#", *(name for letter in letters for name in (letter, "probability"))]
    names += [f"KL(A‖{letter})" for letter in letters[1:]]
    count = max((len(run.tokens) for run in comparison.runs), default=0)
    if count == 0:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(_row(comparison, position, unit) for position in range(min(count, MOST_ROWS)))
    rest = rest_line(count)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}"


def _row(comparison: Comparison, position: int, unit: str) -> str:
    cells = [str(position + 1)]
    for run in comparison.runs:
        token = run.tokens[position] if position < len(run.tokens) else None
        if token is None:
            cells += ["–", "–"]
        else:
            cells += [code(label(token.text, token.bytes)), escape(percent_of(token.logprob))]
    for pair in comparison.pairs:
        cells.append(escape(divergence(pair.kl_nats[position], unit)) if position < len(pair.kl_nats) else "–")
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
