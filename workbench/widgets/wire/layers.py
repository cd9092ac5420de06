"""What is sent to the page of a lens: a column for each token, and the words of one of them."""

from __future__ import annotations

from typing import Any

from workbench.records import LensCell, LensColumn, LensWord
from workbench.widgets.format import percent

_DIGITS = 4


def wire_column(position: int, column: LensColumn) -> list[Any]:
    """Return ``[position, cells]``, with a `wire_cell` for each layer, the first layer first."""
    return [position, [wire_cell(cell) for cell in column.cells]]


def wire_cell(cell: LensCell) -> list[Any]:
    """Return id, label and probability of the most probable token, then probability and rank of the token said."""
    return [*wire_word(cell.words[0]), wire_probability(cell.probability), cell.rank]


def wire_words(column: LensColumn) -> list[list[list[Any]]]:
    """Return for each layer its most probable tokens, each as a `wire_word`."""
    return [[wire_word(word) for word in cell.words] for cell in column.cells]


def wire_word(word: LensWord) -> list[Any]:
    """Return id, label and probability."""
    return [word.token_id, word_label(word), wire_probability(word.probability)]


def word_label(word: LensWord) -> str:
    """Return the token's text, or its id in angle brackets if that is no whole character."""
    return f"⟨id {word.token_id}⟩" if "\ufffd" in word.text else word.text


def wire_probability(probability: float) -> float:
    """Return a probability rounded for the wire, unless its percentage would then be another one."""
    rounded = float(f"{probability:.{_DIGITS}g}")
    return rounded if percent(rounded) == percent(probability) else probability
