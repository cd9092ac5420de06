"""Tool calls token by token: where one may begin, how far its reading has come, and what a schema forbade.

A call begins with a fixed text, such as ``<tool_call>`` or ``{``. The probability that it begins at a position is that
of all tokens that the text may begin with there, white space before it left aside. For JSON that is any object.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequestError, WorkbenchError
from workbench.records import Alternative, CallAttempt, CallStep, Inspector, TokenRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXT = "text"


def call_steps(
    tokens: Sequence[TokenRecord],
    parts: Sequence[str | CallAttempt],
    openers: Openers,
    inspector: Inspector | None,
) -> list[CallStep]:
    """One step for each token.

    Args:
        parts: plain text and calls of the answer, in order.
        openers: what a call begins with; kept from look to look by whoever looks again as the run goes on.
        inspector: of the run; without one there are bounds alone.
    """
    steps, inside = [], False
    for token, state in zip(tokens, parse_states(tokens, parts), strict=True):
        probability, is_exact = (
            (math.nan, True) if inside and state != "started" else openers.probability(token, inspector)
        )
        inside = state in ("started", "in_progress")
        steps.append(
            CallStep(
                position=token.position,
                token_id=token.token_id,
                text=token.text,
                start_probability=probability,
                is_exact=is_exact,
                parse_state=state,
                removed_mass=token.removed_mass,
                is_forced=token.is_forced,
            )
        )
    return steps


def parse_states(tokens: Sequence[TokenRecord], parts: Sequence[str | CallAttempt]) -> list[str]:
    """The parse state of each token, by where the parts lie in the text that the tokens make up.

    What stands between two parts, such as a closing tag, belongs to neither: it is text.
    """
    pieces = decoded(tokens)
    ends = list(accumulate(map(len, pieces)))
    states = [TEXT] * len(tokens)
    for part, start, stop in located("".join(pieces), parts):
        if isinstance(part, CallAttempt):
            _mark(states, ends, start, stop, part.status)
    return states


def decoded(tokens: Sequence[TokenRecord]) -> list[str]:
    """The characters that each token completes; control tokens as they are called, for a tag may be one."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [token.text if token.is_special else decoder.decode(token.bytes) for token in tokens]


def located(text: str, parts: Sequence[str | CallAttempt]) -> Iterator[tuple[str | CallAttempt, int, int]]:
    """Where each part of an answer lies in the text of its tokens; what is not found there is left out.

    Args:
        text: of all tokens, also of those that belong to no part, such as a closing tag.
    """
    cursor = 0
    joined = _joined(parts)
    for index, part in enumerate(joined):
        raw = part if isinstance(part, str) else part.text
        # After a call a short text may be found in the closing tag too; the last one is what the tokens end with.
        is_last_text = index > 0 and index == len(joined) - 1 and isinstance(part, str)
        start = text.rfind(raw, cursor) if is_last_text else text.find(raw, cursor)
        if raw and start >= 0:
            cursor = start + len(raw)
            yield part, start, cursor


def _joined(parts: Sequence[str | CallAttempt]) -> list[str | CallAttempt]:
    """The parts, neighbouring texts as one: the longer a text, the surer the place at which it is found."""
    joined: list[str | CallAttempt] = []
    for part in parts:
        if joined and isinstance(part, str) and isinstance(before := joined[-1], str):
            joined[-1] = before + part
        else:
            joined.append(part)
    return joined


def _mark(states: list[str], ends: Sequence[int], start: int, stop: int, status: str) -> None:
    """Mark the tokens whose last character lies from ``start`` to before ``stop``, and the one that holds the end."""
    inside = [i for i, end in enumerate(ends) if start < end and (ends[i - 1] if i else 0) < stop]
    for i in inside:
        states[i] = "in_progress"
    if inside and status in ("success", "failure"):
        states[inside[-1]] = status
    if len(inside) > 1 or (inside and status in ("started", "in_progress")):
        states[inside[0]] = "started"


class Openers:
    """The tokens that a call of one run may begin with, and how probable they were where that is known exactly.

    Raises:
        InvalidRequestError: there are no tools whose calls are read from the text, and so no ``opening``.
    """

    def __init__(self, opening: str) -> None:
        if not opening:
            raise InvalidRequestError(
                "tools", "none", "given to a run whose tool calls are parsed from the model's text"
            )
        self._opening = opening
        self._token_ids: list[int] | None = None
        self._exact: dict[int, float] = {}
        """By position; its logits may be gone when somebody looks again."""

    def probability(self, token: TokenRecord, inspector: Inspector | None) -> tuple[float, bool]:
        """Of all of them together at a token's position, and whether that is exact."""
        if inspector is not None and token.position not in self._exact:
            with suppress(WorkbenchError):  # no longer kept, or its model was closed
                logprobs = inspector.logprobs(token.position)
                self._exact[token.position] = self._over_vocabulary(logprobs, inspector)
        if token.position in self._exact:
            return self._exact[token.position], True
        if not math.isfinite(token.logprob):
            return math.nan, False
        known: list[TokenRecord | Alternative] = [token, *token.alternatives]
        return math.fsum(item.probability for item in known if self._opens(item.text)), False

    def _over_vocabulary(self, logprobs: NDArray[np.float32], inspector: Inspector) -> float:
        import numpy as np

        if self._token_ids is None:
            self._token_ids = [token_id for token_id in range(len(logprobs)) if self._opens(inspector.text(token_id))]
        return float(np.exp(logprobs[self._token_ids].astype(np.float64)).sum())

    def _opens(self, text: str) -> bool:
        begun = text.lstrip(" \t\r\n")
        return bool(begun) and (begun.startswith(self._opening) or self._opening.startswith(begun))
