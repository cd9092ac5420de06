"""Cutting of texts into chunks between tokens of an embedding model, and never inside a character.

A chunk has at most a number of tokens *by itself*, which is measured: cut out of its text, a part of a word may become
more tokens than it was. Where possible, chunks begin and end between words.

A character is a grapheme cluster, such as a letter with its accents, or a family in one emoji. Tokens of bytes can
split one; a chunk never does. The chunks without their overlaps, joined, are the text.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

from workbench.errors import InvalidRequestError

if TYPE_CHECKING:
    from workbench.records import TokenSpans

SpansOf: TypeAlias = "Callable[[str], Awaitable[TokenSpans]]"

_WINDOW = 50_000
"""Characters that are tokenized at once; the places of all tokens of a long text would take many times its memory."""


@dataclass(frozen=True, slots=True)
class TextChunk:
    """Part of a text, by its first character and the one after its last."""

    start: int
    end: int
    token_count: int


class Chunker:
    """Cutter of texts into chunks.

    Args:
        size: most tokens of a chunk.
        overlap: most tokens that a chunk shares with the one before; less than ``size``.
        spans_of: returns where the tokens of a text are.
    """

    def __init__(self, size: int, overlap: int, spans_of: SpansOf) -> None:
        self._size = size
        self._overlap = overlap
        self._spans_of = spans_of

    async def chunks(self, text: str, field: str, window: int = _WINDOW) -> list[TextChunk]:
        """Return the chunks of a text in order; none for the empty text.

        Raises:
            InvalidRequestError: one character of the text named ``field`` has more tokens than a chunk.
        """
        found: list[TextChunk] = []
        start = done = 0
        while done < len(text):
            part = await self._window(text[start : start + window])
            is_last = start + window >= len(text)
            found_here = self._cut(part, done - start, field, is_last=is_last)
            chunks = [chunk async for chunk in found_here if is_last or chunk.end < part.end]
            if not chunks:  # the window ends inside its first chunk
                window *= 2
                continue
            found += [TextChunk(start + chunk.start, start + chunk.end, chunk.token_count) for chunk in chunks]
            done = found[-1].end
            start += self._next_start(part, chunks[-1])
        return found

    async def _window(self, text: str) -> _Window:
        return await asyncio.to_thread(_Window, text, await self._spans_of(text))

    async def _cut(self, part: _Window, done: int, field: str, *, is_last: bool) -> AsyncIterator[TextChunk]:
        """Yield the chunks of a window from its beginning; the first one ends behind ``done``."""
        start = 0
        while done < part.end:
            chunk = await self._chunk(part, start, done) or await self._chunk(part, done, done)
            if chunk is None:
                character = part.character(done)
                if not is_last and done + len(character) == part.end:
                    return  # the window may end inside it, and its parts may have more tokens than it has
                allowed = f"text whose characters have at most {self._size} tokens each, the size of a chunk"
                raise InvalidRequestError(field, character, allowed)
            yield chunk
            start, done = self._next_start(part, chunk), chunk.end

    async def _chunk(self, part: _Window, start: int, done: int) -> TextChunk | None:
        """Return the longest chunk that begins at ``start`` and ends behind ``done``; None if there is none."""
        tokens = self._size
        while (end := part.last_cut(start, done, tokens)) is not None:
            count = await self._count(part, start, end)
            if count <= self._size:
                return TextChunk(start, end, count)
            tokens = min(tokens, part.tokens_between(start, end)) - (count - self._size)
        # No place between two tokens is near enough: a word that is one token may be several by its parts.
        characters = part.characters_until_cut(done)
        while characters:
            end = characters[-1]
            count = await self._count(part, start, end)
            if count <= self._size:
                return TextChunk(start, end, count)
            characters = characters[: len(characters) // 2]
        return None

    async def _count(self, part: _Window, start: int, end: int) -> int:
        return len((await self._spans_of(part.text[start:end])).spans)

    def _next_start(self, part: _Window, chunk: TextChunk) -> int:
        return part.overlap_start(chunk, self._overlap) if self._overlap else chunk.end


class _Window:
    """Part of a text with the places of its tokens, and those between them where it may be cut."""

    def __init__(self, text: str, spans: TokenSpans) -> None:
        self.text = text
        self.end = len(text)
        # Sorted already, but for tokenizers that move characters; what counts is how many tokens begin before a place.
        self._starts = list(accumulate((start for start, _ in spans.spans), max))
        self._borders = None if text.isascii() and "\r\n" not in text else frozenset(_character_ends(text))
        self._cuts = list(self._between_tokens(spans))

    def _between_tokens(self, spans: TokenSpans) -> Iterator[int]:
        last = reached = 0
        for start, end in spans.spans:
            if start > last and start >= reached and self._is_border(start):
                last = start
                yield start
            reached = max(reached, end)

    def _is_border(self, place: int) -> bool:
        return self._borders is None or place in self._borders

    def _is_word_border(self, place: int) -> bool:
        return self.text[place - 1].isspace() or self.text[place].isspace()

    def tokens_between(self, start: int, end: int) -> int:
        """Return how many tokens begin in a part of the text."""
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def last_cut(self, start: int, done: int, tokens: int) -> int | None:
        """Return the last place behind ``done`` with at most so many tokens since ``start``, rather between words."""
        if tokens < 1:
            return None
        first_beyond = bisect_left(self._starts, start) + tokens
        if first_beyond >= len(self._starts):
            return self.end
        after = bisect_right(self._cuts, self._starts[first_beyond])
        before = bisect_right(self._cuts, max(start, done))
        if after <= before:
            return None
        half = self._starts[first_beyond - (tokens + 1) // 2]
        for place in reversed(self._cuts[max(before, bisect_left(self._cuts, half)) : after]):
            if self._is_word_border(place):
                return place
        return self._cuts[after - 1]

    def overlap_start(self, chunk: TextChunk, overlap: int) -> int:
        """Return where the next chunk begins: behind the start of this one, at most ``overlap`` tokens back."""
        token = max(0, bisect_left(self._starts, chunk.end) - overlap)
        earliest = max(self._starts[token] if token < len(self._starts) else chunk.end, chunk.start + 1)
        places = self._cuts[bisect_left(self._cuts, earliest) : bisect_left(self._cuts, chunk.end)]
        return next(filter(self._is_word_border, places), places[0] if places else chunk.end)

    def characters_until_cut(self, done: int) -> list[int]:
        """Return the ends of the characters from ``done`` to the next cut."""
        index = bisect_right(self._cuts, done)
        until = self._cuts[index] if index < len(self._cuts) else self.end
        return [done + end for end in _character_ends(self.text[done:until])]

    def character(self, start: int) -> str:
        return self.text[start : start + next(_character_ends(self.text[start:]))]


def _character_ends(text: str) -> Iterator[int]:
    """Yield the place behind each grapheme cluster."""
    import regex

    return (match.end() for match in regex.finditer(r"\X", text))
