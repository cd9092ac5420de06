"""Offsets of a completion's tokens in its text, the same for whole and streamed answers."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.protocol import TokenLogProb, TokenLogProbs
from workbench.records import TokenRecord

Json = dict[str, Any]


@dataclass(slots=True)
class TextLogprobs:
    """Logprobs of one text: `feed` text and tokens as they come, and send each result with that text.

    A token is returned with the text in which it begins. One that ends within a character is buffered, and so is one
    that may belong to a stop string; the tokens of the stop string that ends the text are left out.

    Args:
        alternatives: number of the most probable tokens to return at each position.
    """

    alternatives: int
    _utf8: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))
    _tokens_length: int = 0
    """Number of characters in the tokens so far."""
    _begins_with_space: bool = False
    _text_length: int = 0
    """Number of characters in the text so far."""
    _has_space: bool = False
    _buffered: deque[tuple[int, bool, TokenLogProbs]] = field(default_factory=deque)
    """Offset of each buffered token, whether it has no text at all, and its logprobs."""

    def feed(self, text: str, entries: Sequence[TokenLogProbs], records: Sequence[TokenRecord], *, ended: bool) -> Json:
        """Return the logprobs that more text and more tokens make certain, in OpenAI's JSON."""
        if not self._text_length:
            self._has_space = text.startswith(" ")
        self._text_length += len(text)
        for at, entry in enumerate(entries):
            self._add(entry, records[at] if len(records) == len(entries) else None)
        certain: list[tuple[int, TokenLogProbs]] = []
        while self._buffered:
            # SentencePiece models begin their first token with a space that is no part of the text.
            start = max(0, self._buffered[0][0] - (self._begins_with_space and not self._has_space))
            is_outside = self._buffered[0][1]
            if start >= self._text_length and not ended:
                break
            _, _, entry = self._buffered.popleft()
            if start < self._text_length or is_outside:
                certain.append((min(start, self._text_length), entry))
        return self._json(certain)

    def _add(self, entry: TokenLogProbs, record: TokenRecord | None) -> None:
        sampled = sampled_of(entry)
        if record is not None:
            added = b"" if record.is_special else record.bytes
        else:
            added = bytes(sampled.bytes) if sampled else b""
        if sampled is not None:  # else its logprob is unknown
            self._buffered.append((self._tokens_length, not added, entry))
        text = self._utf8.decode(added)
        if not self._tokens_length:
            self._begins_with_space = text.startswith(" ")
        self._tokens_length += len(text)

    def _json(self, certain: list[tuple[int, TokenLogProbs]]) -> Json:
        sampled = [sampled_of(entry) for _, entry in certain]
        return {
            "tokens": [one.text for one in sampled if one],
            "token_logprobs": [one.logprob for one in sampled if one],
            "top_logprobs": [self._candidates(entry) for _, entry in certain],
            "text_offset": [start for start, _ in certain],
        }

    def _candidates(self, entry: TokenLogProbs) -> dict[str, float]:
        """Return logprobs by text; of tokens with equal texts the first, which is the likeliest, counts."""
        by_text: dict[str, float] = {}
        for at, one in enumerate(entry.tokens):
            if at < self.alternatives or one.is_sampled:
                by_text.setdefault(one.text, one.logprob)
        return by_text


def sampled_of(entry: TokenLogProbs) -> TokenLogProb | None:
    """Return the sampled token of a position; None if its logprob is unknown."""
    return next((one for one in entry.tokens if one.is_sampled), None)
