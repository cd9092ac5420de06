"""Division of a text into sentences, as the units that a shield judges.

The division does not have to be linguistically right: an abbreviation may end a sentence too early, which only makes
the parts shorter. It has to be complete, so that no part of a text escapes judgment.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

MAX_BYTES = 240
"""Size of the longest sentence in UTF-8; a longer one is cut at white space.

A token has at least one byte, so that a sentence model with a limit of 256 tokens reads every sentence to its end.
"""

_END = re.compile(r"""[.!?\u2026]+["'\u2019\u201d)\]]*\s+|[\u3002\uff01\uff1f]+\s*|\s*[\r\n\u2028\u2029]+\s*""")
"""End of a sentence: punctuation before white space, full-width punctuation, or a line break."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """Part of a text without the white space around it."""

    text: str
    start: int
    """Index of its first character in the whole text."""

    @property
    def end(self) -> int:
        """Index after its last character."""
        return self.start + len(self.text)


def sentences(text: str) -> list[Sentence]:
    """Return the sentences of a text in order; together they have all of its characters but white space."""
    return [window for start, end in _spans(text) for window in _windows(text, start, end)]


def packed_sentences(text: str) -> list[Sentence]:
    """Return parts of a text that are whole sentences, as many as fit into `MAX_BYTES` together."""
    packed: list[Sentence] = []
    for sentence in sentences(text):
        if packed:
            joined = text[packed[-1].start : sentence.end]
            if _byte_size(joined) <= MAX_BYTES:
                packed[-1] = Sentence(joined, packed[-1].start)
                continue
        packed.append(sentence)
    return packed


def normalized(text: str) -> str:
    """Return a text as a model should read it: in compatible characters, and without invisible ones."""
    compatible = unicodedata.normalize("NFKC", text)
    return "".join(character for character in compatible if unicodedata.category(character) != "Cf")


def _spans(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for found in _END.finditer(text):
        yield start, found.end()
        start = found.end()
    yield start, len(text)


def _windows(text: str, start: int, end: int) -> Iterator[Sentence]:
    """Yield the span in parts of at most `MAX_BYTES`, cut after white space where there is some."""
    while start < end:
        stop = _window_end(text, start, end)
        part = text[start:stop]
        if stripped := part.strip():
            yield Sentence(stripped, start + len(part) - len(part.lstrip()))
        start = stop


def _window_end(text: str, start: int, end: int) -> int:
    head = text[start : min(end, start + MAX_BYTES)]
    fitting = head[: _fitting_characters(head)]
    if len(fitting) == end - start:
        return end
    spaces = [found.end() for found in re.finditer(r"\s+", fitting)]
    return start + (spaces[-1] if spaces and spaces[-1] > len(fitting) // 2 else len(fitting))


def _fitting_characters(text: str) -> int:
    """Return how many of the first characters have at most `MAX_BYTES` together; at least one."""
    sizes = itertools.accumulate(map(_byte_size, text))
    return 1 + sum(1 for size in itertools.islice(sizes, 1, None) if size <= MAX_BYTES)


def _byte_size(text: str) -> int:
    """Return the size of a text in UTF-8, as it is or in compatible characters, whichever is larger."""
    if text.isascii():
        return len(text)
    forms = (text, unicodedata.normalize("NFKC", text))
    return max(len(form.encode("utf-8", "surrogatepass")) for form in forms)
