"""Which chunk marks which token, and how chunks are named; a test compares it with static/attribution_words.js."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from workbench.widgets.format import fixed, heat, to_precision, token_count

FOLDED = 240
"""Number of characters of a chunk that are shown while it is folded."""
_MOST_LINES = 4
_LONGEST_NAME = 60
_SPACE = re.compile(r"[ \t\r\n]+")
_LAST_WORD = re.compile(r"[ \t\n]+[^ \t\n]{0,24}\Z")


def mark(changes: Sequence[float]) -> int | None:
    """Return the index of the chunk that raised a token most; None if none made it about 1.5 times as probable.

    Args:
        changes: change of the token's logprob by each chunk, in nats; NaN if it is unknown.
    """
    marked = [index for index, change in enumerate(changes) if heat(-change) > 0]
    return max(marked, key=changes.__getitem__, default=None)


def stretches(marks: Sequence[object], is_blank: Sequence[bool]) -> list[int]:
    """Return the position of the first visible token of each stretch of tokens with the same mark.

    Args:
        marks: mark of each token; None for none.
        is_blank: whether each token is only white space, over which a number would seem misplaced.
    """
    starts: list[int] = []
    numbered: object = None
    for position, one in enumerate(marks):
        if one != numbered:
            numbered = None
        if one is not None and numbered is None and not is_blank[position]:
            starts.append(position)
            numbered = one
    return starts


def score_in_words(score: float) -> str:
    """Return a score with two digits after the point, or two significant digits if it is small."""
    if 0 < score < 1e-4:
        return "score under 0.0001"
    return f"score {to_precision(score, 2) if 0 < score < 0.1 else fixed(score, 2)}"


def name_of(index: int, document_id: str) -> str:
    """Return the number and the document of a chunk, as in the prompt; a long name is cut."""
    name = _SPACE.sub(" ", document_id).strip(" ")
    return f"[{index + 1}] {name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + '…'}"


def folded(text: str) -> str:
    """Return the beginning of a text; all of it if it is short."""
    start = "\n".join(text.split("\n")[:_MOST_LINES])
    start = start if len(start) <= FOLDED else start[: FOLDED - 1]
    return text if len(start) == len(text) else _LAST_WORD.sub("", start) + "…"


def summary(marks: Sequence[int | None], chunk_count: int) -> str:
    """Return how many tokens some chunk raised."""
    count = len(marks)
    if not count:
        return "The answer has no tokens."
    if not chunk_count:
        return "The prompt has no chunks, so none raised a token."
    raised = sum(one is not None for one in marks)
    if not raised:
        return f"No chunk made any of the {token_count(count)} 1.5 times as probable."
    are = "is" if raised == 1 else "are"
    return f"{raised} of {token_count(count)} {are} at least 1.5 times as probable because of a chunk."


def total(changes: Sequence[float]) -> float:
    """Return the change of the whole answer's logprob; NaN if that of a token is unknown."""
    return math.nan if any(math.isnan(change) for change in changes) else math.fsum(changes)
