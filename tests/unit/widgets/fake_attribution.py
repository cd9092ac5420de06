"""Attributions that are made up, and runs that measure them when a test says so."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from tests.unit.widgets.fake_session import token, words
from workbench.errors import InvalidRequestError
from workbench.protocol import Chunk, UserMessage
from workbench.records import Attribution, RunState, TokenRecord
from workbench.session.attribution import RunAttribution

ANSWER = "The observatory opens at nine on Fridays, and Marta Quill keeps the key."
TEXTS = {
    "hours.md": "On Fridays the observatory opens at nine in the evening. On other days it stays closed.",
    "staff.md": "Marta Quill keeps the key of the dome. Ask her before you climb the stairs.",
    "history.md": "The observatory was built in 1911 on the hill behind the school. " * 12,
}
_RAISED = {("hours.md", " nine"): 3.4, ("hours.md", " Fridays,"): 1.7, ("hours.md", " opens"): 0.9}
_RAISED |= {("staff.md", " Marta"): 6.1, ("staff.md", " Quill"): 2.31, ("staff.md", " key."): 1.2}
_RAISED |= {("history.md", " observatory"): 0.8, ("history.md", " nine"): -1.1, ("history.md", " Marta"): -0.7}


def attributed(
    texts: Sequence[str] | None = None,
    chunks: Sequence[Chunk] | None = None,
    raised: dict[tuple[int, int], float] | None = None,
    *,
    records: Sequence[TokenRecord] | None = None,
) -> RunAttribution:
    """An attribution with the changes in nats that are given by chunk and position; without any, a small example."""
    if texts is None and records is None:
        return _example()
    tokens = tuple(records or (token(at, text) for at, text in enumerate(texts or ())))
    found = tuple(chunks or ())
    changes = raised or {}
    without = tuple(
        tuple(one.logprob - changes.get((index, at), 0.0) for at, one in enumerate(tokens))
        for index in range(len(found))
    )
    return RunAttribution(tokens, found, without, tuple(0.9 - 0.01 * index for index in range(len(found))))


def chunk(document_id: str, text: str) -> Chunk:
    return Chunk(content=text, token_count=len(text.split()), document_id=document_id)


def large(token_count: int, chunk_count: int) -> RunAttribution:
    """Every token is raised by some chunk, and lowered by another."""
    chunks = [chunk(f"document-{index}.md", f"Text of chunk {index}. " * 30) for index in range(chunk_count)]
    raised = {(at % chunk_count, at): 0.5 + at % 7 for at in range(token_count)}
    raised |= {((at + 1) % chunk_count, at): -0.5 - at % 3 for at in range(token_count)}
    return attributed([f" w{at}" for at in range(token_count)], chunks, raised)


def with_unknown(attribution: Attribution, position: int) -> RunAttribution:
    """The same, but nobody knows the logprob of one token."""
    tokens = list(attribution.tokens)
    tokens[position] = replace(tokens[position], logprob=math.nan)
    return RunAttribution(tuple(tokens), attribution.chunks, attribution.without, attribution.scores)


class FakeAskedRun:
    """An answer to a question; a test ends it, and its measurement."""

    def __init__(self, attribution: Attribution | None = None, *, run_id: str = "run-1", done: bool = True) -> None:
        self.id, self.model = run_id, "tiny"
        self.prompt: list[Any] = [UserMessage(content="When does it open?", context="[1] ...")]
        self.measured = attribution or attributed()
        self.tokens: Sequence[TokenRecord] = self.measured.tokens
        self.chunks: Sequence[Chunk] = self.measured.chunks
        self.state: RunState = "running"
        self.error: BaseException | None = None
        self.futures: list[Future[Any]] = []
        self.refusal: Exception | None = None
        self._ended = threading.Event()
        if done:
            self.end()

    @property
    def done(self) -> bool:
        return self._ended.is_set()

    def end(self, state: RunState = "finished", error: BaseException | None = None) -> None:
        self.state, self.error = state, error
        self._ended.set()

    def wait(self, timeout: float | None = None) -> bool:
        return self._ended.wait(timeout)

    def start_attribution(self) -> Future[Any]:
        if not self.done:
            raise InvalidRequestError("attribution", self.state, "used after the run has ended")
        if self.refusal is not None:
            raise self.refusal
        self.futures.append(Future())
        return self.futures[-1]

    def measure(self) -> None:
        """End the measurement that goes on."""
        self.futures[-1].set_result(self.measured)


def _example() -> RunAttribution:
    texts = words(ANSWER)
    chunks = [chunk(name, text) for name, text in TEXTS.items()]
    raised = {(list(TEXTS).index(name), texts.index(word)): nats for (name, word), nats in _RAISED.items()}
    return attributed(texts, chunks, raised)
