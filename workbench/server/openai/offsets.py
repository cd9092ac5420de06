"""Where the tokens of a completion stand in its text, whole or streamed alike."""

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
    """The logprobs of one text: `feed` text and tokens as they come, and tell what comes back beside that text.

    A token is told with the text in which it begins, so one whose bytes are yet no whole character waits, and so does
    one that may belong to a stop string; those of the stop string that ends the text are not part of it.

    Args:
        alternatives: of the most probable tokens at each position.
    """

    alternatives: int
    _utf8: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))
    _read: int = 0
    """Characters of the tokens so far."""
    _begins_with_space: bool = False
    _told: int = 0
    """Characters of the text so far."""
    _has_space: bool = False
    _waiting: deque[tuple[int, bool, TokenLogProbs]] = field(default_factory=deque)
    """Where a token begins, and whether it is no part of the text whatever comes."""

    def feed(self, text: str, entries: Sequence[TokenLogProbs], records: Sequence[TokenRecord], *, ended: bool) -> Json:
        """What is certain with more of the text and of its tokens."""
        if not self._told:
            self._has_space = text.startswith(" ")
        self._told += len(text)
        for at, entry in enumerate(entries):
            self._add(entry, records[at] if len(records) == len(entries) else None)
        told: list[tuple[int, TokenLogProbs]] = []
        while self._waiting:
            # SentencePiece models begin their first token with a space that is no part of the text.
            start = max(0, self._waiting[0][0] - (self._begins_with_space and not self._has_space))
            is_outside = self._waiting[0][1]
            if start >= self._told and not ended:
                break
            _, _, entry = self._waiting.popleft()
            if start < self._told or is_outside:
                told.append((min(start, self._told), entry))
        return self._json(told)

    def _add(self, entry: TokenLogProbs, record: TokenRecord | None) -> None:
        sampled = sampled_of(entry)
        if record is not None:
            added = b"" if record.is_special else record.bytes
        else:
            added = bytes(sampled.bytes) if sampled else b""
        if sampled is not None:  # else nobody told its logprob
            self._waiting.append((self._read, not added, entry))
        text = self._utf8.decode(added)
        if not self._read:
            self._begins_with_space = text.startswith(" ")
        self._read += len(text)

    def _json(self, told: list[tuple[int, TokenLogProbs]]) -> Json:
        sampled = [sampled_of(entry) for _, entry in told]
        return {
            "tokens": [one.text for one in sampled if one],
            "token_logprobs": [one.logprob for one in sampled if one],
            "top_logprobs": [self._candidates(entry) for _, entry in told],
            "text_offset": [start for start, _ in told],
        }

    def _candidates(self, entry: TokenLogProbs) -> dict[str, float]:
        """By their texts; of two with one text the likelier, which stands first, keeps it."""
        by_text: dict[str, float] = {}
        for at, one in enumerate(entry.tokens):
            if at < self.alternatives or one.is_sampled:
                by_text.setdefault(one.text, one.logprob)
        return by_text


def sampled_of(entry: TokenLogProbs) -> TokenLogProb | None:
    """Return the token that stands there; None where nobody told its logprob."""
    return next((one for one in entry.tokens if one.is_sampled), None)
