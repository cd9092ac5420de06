"""Tool calls token by token: the probability that one begins, its parse state, and what a schema does not allow.

A call begins with a fixed text, such as ``<tool_call>`` or ``{``. The probability that it begins at a position is that
of all tokens with which the text may begin, without leading white space. For JSON that is any object.
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
    tokens: Sequence[TokenRecord], parts: Sequence[str | CallAttempt], openers: Openers, inspector: Inspector | None
) -> list[CallStep]:
    """Return one step for each token.

    Args:
        parts: plain text and calls of the answer, in order.
        openers: tokens with which a call begins; pass the same object again while the run continues.
        inspector: of the run; without one, probabilities are lower bounds.
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
    """Return the parse state of each token, from the offsets of the parts in the text of the tokens.

    Text between two parts, such as a closing tag, has the state ``text``.
    """
    texts = decoded(tokens)
    ends = list(accumulate(map(len, texts)))
    states = [TEXT] * len(tokens)
    for part, start, stop in located("".join(texts), parts):
        if isinstance(part, CallAttempt):
            _mark(states, ends, start, stop, part.status)
    return states


def decoded(tokens: Sequence[TokenRecord]) -> list[str]:
    """Return the characters that each token completes, and the names of control tokens, which may be tags."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [token.text if token.is_special else decoder.decode(token.bytes) for token in tokens]


def located(text: str, parts: Sequence[str | CallAttempt]) -> Iterator[tuple[str | CallAttempt, int, int]]:
    """Yield each part of an answer with its start and end in the text of the tokens; parts not found are left out.

    Args:
        text: of all tokens, including those that belong to no part, such as a closing tag.
    """
    cursor = 0
    joined = _joined(parts)
    for index, part in enumerate(joined):
        raw = part if isinstance(part, str) else part.text
        # A short text after a call may also occur in the closing tag, so the last one is searched from the end.
        is_last_text = index > 0 and index == len(joined) - 1 and isinstance(part, str)
        start = text.rfind(raw, cursor) if is_last_text else text.find(raw, cursor)
        if raw and start >= 0:
            cursor = start + len(raw)
            yield part, start, cursor


def _joined(parts: Sequence[str | CallAttempt]) -> list[str | CallAttempt]:
    """Return the parts with adjacent texts joined, because a longer text is found more reliably."""
    joined: list[str | CallAttempt] = []
    for part in parts:
        if joined and isinstance(part, str) and isinstance(before := joined[-1], str):
            joined[-1] = before + part
        else:
            joined.append(part)
    return joined


def _mark(states: list[str], ends: Sequence[int], start: int, stop: int, status: str) -> None:
    """Set the states of the tokens that overlap the characters from ``start`` to ``stop``."""
    inside = [i for i, end in enumerate(ends) if start < end and (ends[i - 1] if i else 0) < stop]
    for i in inside:
        states[i] = "in_progress"
    if inside and status in ("success", "failure"):
        states[inside[-1]] = status
    if len(inside) > 1 or (inside and status in ("started", "in_progress")):
        states[inside[0]] = "started"


class Openers:
    """Tokens with which a tool call may begin, and their known probabilities.

    Raises:
        InvalidRequestError: ``opening`` is empty, because the run has no tools that are parsed from its text.
    """

    def __init__(self, opening: str) -> None:
        if not opening:
            raise InvalidRequestError(
                "tools", "none", "given to a run whose tool calls are parsed from the model's text"
            )
        self._opening = opening
        self._token_ids: list[int] | None = None
        self._exact: dict[int, float] = {}
        """Exact probabilities by position; the logits may be gone at the next call."""

    def probability(self, token: TokenRecord, inspector: Inspector | None) -> tuple[float, bool]:
        """Return their total probability at a token's position, and whether it is exact."""
        if inspector is not None and token.position not in self._exact:
            with suppress(WorkbenchError):  # the logits are gone, or the model was closed
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
