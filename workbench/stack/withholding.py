"""Emissions of an answer, withheld until the sentences that they belong to have passed."""

from __future__ import annotations

import codecs
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from workbench.protocol import ToolArgument, ToolCall, ToolCallDelta, ToolCallParseStatus
from workbench.providers.folding import folded
from workbench.records import Emission
from workbench.stack.sentences import SentenceSplitter

_BEGUN = (ToolCallParseStatus.started, ToolCallParseStatus.in_progress)


class Sentence(NamedTuple):
    """Part of an answer that is judged as one: a sentence of its text, or the arguments of a tool call."""

    text: str
    size: int
    """Extent in the answer, in the unit of `_Withheld.end`."""


@dataclass(frozen=True, slots=True)
class _Withheld:
    emission: Emission
    end: int
    """Extent of the answer with its delta: the bytes of its text and calls, and one more for each delta of a call."""
    tokens_end: int
    """Extent with the text of its tokens, which may be ahead of the deltas where a stop string may have begun."""


class WithheldEmissions:
    """Queue of the emissions of one answer.

    `add` returns the sentences that an emission completes, and `let_pass` accepts each that is harmless, in order. A
    tool call is complete when it ends, and the text before it when it begins.
    """

    def __init__(self) -> None:
        self.text = ""
        """Text that has passed; a tool call is represented by its arguments, each on a line of its own."""
        self._queue: deque[_Withheld] = deque()
        self._splitter = SentenceSplitter()
        self._call: list[str] | None = None
        """Texts of the call that has begun; None outside calls."""
        self._call_size = 0
        self._end = self._passed = 0
        self._text_bytes = self._token_bytes = 0
        # Bytes that are no characters count as in the text, where each becomes U+FFFD.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._has_ended = False

    def add(self, emission: Emission) -> list[Sentence]:
        """Withhold an emission and return the sentences that it completes."""
        sentences = [*self._completed(emission.delta)]
        self._count_tokens(emission)
        ahead = max(0, self._token_bytes + len(self._decoder.getstate()[0]) - self._text_bytes)
        self._queue.append(_Withheld(emission, self._end, self._end + ahead))
        return sentences if emission.stop_reason is None else sentences + self.end()

    def end(self) -> list[Sentence]:
        """Return what is left of an answer that has ended."""
        self._has_ended = True
        return [*self._ended_text(), *self._ended_call()]

    def let_pass(self, sentence: Sentence) -> None:
        """Accept the first of the sentences that were returned and not accepted yet."""
        self.text += sentence.text
        self._passed += sentence.size

    def passed(self, notes: tuple[str, ...]) -> Iterator[Emission]:
        """Remove and yield the emissions that belong to accepted sentences alone, with notes added to their own."""
        while self._queue and self._has_passed(self._queue[0]):
            yield _with_notes(self._queue.popleft().emission, notes)

    def before_refusal(self, notes: tuple[str, ...]) -> Iterator[Emission]:
        """Remove all emissions, and yield what precedes the refused sentence in them, without records of tokens.

        The last one has the text before the refused sentence, if there is some, and the facts of the whole answer:
        its usage includes the tokens that were withheld.
        """
        while self._queue and self._queue[0].end <= self._passed:
            yield _without_tokens(_with_notes(self._queue.popleft().emission, notes))
        if not self._queue:
            return
        first = self._queue[0]
        facts = folded([withheld.emission for withheld in self._queue])
        self._queue.clear()
        yield _without_tokens(_with_notes(replace(facts, delta=self._passed_text(first)), notes))

    def _has_passed(self, withheld: _Withheld) -> bool:
        if self._has_ended and self._passed == self._end:
            return True  # tokens of a stop string are in no delta
        return max(withheld.end, withheld.tokens_end) <= self._passed

    def _passed_text(self, withheld: _Withheld) -> str:
        delta = withheld.emission.delta
        if not isinstance(delta, str):
            return ""
        written = _encoded(delta)
        count = self._passed - (withheld.end - len(written))
        return written[: max(0, count)].decode(errors="surrogatepass")

    def _completed(self, delta: str | ToolCallDelta) -> Iterator[Sentence]:
        written = delta if isinstance(delta, str) else delta.content
        size = len(_encoded(written)) if isinstance(written, str) else 0
        self._text_bytes += size
        if isinstance(delta, str):
            yield from self._ended_call() if delta else ()
            self._end += size
            yield from map(_sentence, self._splitter.feed(delta))
            return
        yield from self._ended_text()
        self._end += size + 1
        self._call_size += size + 1
        if isinstance(written, ToolCall):
            self._call = [_arguments(written)]
        elif delta.parse_status in _BEGUN:
            self._call = [*(self._call or ()), written]
            return
        else:
            self._call = [written]  # the raw text of a malformed call repeats what was written of it
        yield from self._ended_call()

    def _ended_text(self) -> Iterator[Sentence]:
        if rest := self._splitter.flush():
            yield _sentence(rest)

    def _ended_call(self) -> Iterator[Sentence]:
        if self._call is not None:
            yield Sentence("".join(self._call), self._call_size)
        self._call, self._call_size = None, 0

    def _count_tokens(self, emission: Emission) -> None:
        added = self._decoder.decode(b"".join(token.bytes for token in emission.tokens if not token.is_special))
        delta = emission.delta
        # The first token of SentencePiece models begins with a space that is not part of the text.
        if not self._token_bytes and isinstance(delta, str) and delta and not delta.startswith(" "):
            added = added.removeprefix(" ")
        self._token_bytes += len(_encoded(added))


def _with_notes(emission: Emission, notes: tuple[str, ...]) -> Emission:
    return replace(emission, notes=emission.notes + notes) if notes else emission


def _without_tokens(emission: Emission) -> Emission:
    logprobs = None if emission.logprobs is None else ()
    return replace(emission, tokens=(), logprobs=logprobs, end=None, stop_reason=None)


def _sentence(text: str) -> Sentence:
    return Sentence(text, len(_encoded(text)))


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _arguments(call: ToolCall) -> str:
    """Return the names and values of a call's arguments, each on a line of its own."""
    return "".join(f"\n{line}" for line in _lines(call.arguments)) + "\n"


def _lines(value: ToolArgument) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _lines(item)
    elif isinstance(value, list):
        for item in value:
            yield from _lines(item)
    else:
        yield value if isinstance(value, str) else json.dumps(value)
