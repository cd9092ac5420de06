"""The text that each token adds to an answer with tool calls before, between and after its texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, dropwhile

from workbench.analysis.tool_call_steps import decoded, located
from workbench.records import CallAttempt, TokenRecord


def pieces_beside_calls(tokens: Sequence[TokenRecord], parts: Sequence[str | CallAttempt]) -> tuple[list[str], int]:
    """Return the text that each token adds, and the number of tokens that the parts account for.

    A token of a call, or of a tag around it, adds nothing; a call that could not be parsed is text.
    """
    # The end token is left out, because no part can lie in its text.
    named = list(dropwhile(lambda token: token.is_special, reversed(tokens)))[::-1]
    whole = decoded(named)
    is_shown = bytearray(sum(map(len, whole)))
    covered = 0
    for part, start, covered in located("".join(whole), parts):
        if isinstance(part, str) or part.status == "failure":
            is_shown[start:covered] = bytes([1]) * (covered - start)
    ends = list(accumulate(map(len, whole)))
    starts = [0, *ends]
    pieces = [
        "".join(char for at, char in enumerate(piece, starts[i]) if is_shown[at]) for i, piece in enumerate(whole)
    ]
    known = sum(end <= covered for end in ends)
    return [*pieces, *[""] * (len(tokens) - len(named))], known
