"""The shortest way from anywhere in a grammar to an end, found byte by byte.

A grammar over bytes has few choices where one over a vocabulary has thousands, and what is found in it may be cut into
any tokens afterwards. First the way is tried that closes whatever is open; where that leads to no end in the room that
is left, all ways are searched side by side, the shortest first.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SEARCHED = 3_000
"""States that are looked at before a search is given up."""

_BYTES_PER_TOKEN = 8
"""A way that may have so many tokens is looked for among those of so many bytes each."""

_SPECIAL = b"\xff"
"""Where a special token is forced, llguidance tells its number behind this byte."""

_CLOSING = b'}]"'
_FREE = 64
"""Where more bytes than these may follow, a text is being written, and its quote ends it."""
_RANGES = (range(ord("0"), ord("9") + 1), range(ord("a"), ord("z") + 1), range(ord("A"), ord("Z") + 1), range(128, 248))
"""Bytes that a grammar rarely tells apart where it allows all of them: two of each are tried."""
_LAST = b',-\\ {['
"""What opens or goes on is tried last."""


class _Bytes:
    """What `llguidance.TokenizerWrapper` asks for: special tokens by their ids, and every byte behind the vocabulary."""

    bos_token_id = None

    def __init__(self, special: dict[int, bytes], vocab_size: int, end_id: int | None) -> None:
        self.tokens = [special.get(token_id, b"") for token_id in range(vocab_size)] + [bytes([i]) for i in range(256)]
        self.special_token_ids = sorted(special)
        self.eos_token_id = end_id
        self._first = vocab_size

    def __call__(self, text: str) -> list[int]:
        return [self._first + byte for byte in text.encode()]


class Endings:
    """Ways to an end in the grammars of one vocabulary.

    Args:
        tokens: the bytes of every token.
        special_ids: tokens that stand for themselves alone.
        cut: cuts bytes into tokens.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        special_ids: Iterable[int],
        end_ids: Sequence[int],
        cut: Callable[[bytes], list[int]],
    ) -> None:
        self._tokens = tokens
        self._special = frozenset(special_ids)
        self._cut = cut
        self._first = len(tokens)
        special = {token_id: tokens[token_id] for token_id in self._special}
        cutter = _Bytes(special, len(tokens), end_ids[0] if end_ids else None)
        self._tokenizer = LLTokenizer(TokenizerWrapper(cutter), eos_token=list(end_ids) or None, slices=[])
        self._no_ways = np.array([*end_ids], dtype=np.int64)

    def matcher(self, source: str) -> LLMatcher:
        """Return the start of a grammar over bytes."""
        return LLMatcher(self._tokenizer, source, log_level=0, limits=LLParserLimits(verbose_errors=False))

    def opens(self, token_id: int) -> bool:
        """Whether a token opens a bracket."""
        return b"{" in self._tokens[token_id] or b"[" in self._tokens[token_id]

    def follow(self, matcher: LLMatcher, token_ids: Sequence[int]) -> bool:
        """Go on by tokens of the vocabulary; tells whether the grammar allows them."""
        for token_id in token_ids:
            ids = [token_id] if token_id in self._special else [self._first + byte for byte in self._tokens[token_id]]
            if matcher.try_consume_tokens(ids) != len(ids):
                return False
        return True

    def shortest(self, matcher: LLMatcher, room: int) -> list[int] | None:
        """Return the tokens of a way to an end, the shortest that is found, of any length if none has room.

        Returns None where no end is found.
        """
        limit = room * _BYTES_PER_TOKEN + 256
        closed = self._closed(matcher.deep_copy(), limit)
        tokens = None if closed is None else self._in_tokens(closed)
        if tokens is not None and len(tokens) <= room:
            return tokens
        found = self._searched(matcher, limit)
        searched = None if found is None else self._in_tokens(found)
        return min((one for one in (tokens, searched) if one is not None), key=len, default=None)

    def _closed(self, matcher: LLMatcher, limit: int) -> list[int] | None:
        """The way that closes what is open and opens nothing, if that leads to an end."""
        path: list[int] = []
        while len(path) <= limit:
            if matcher.is_accepting():
                return path
            following = self._forced(matcher) or self._ways(matcher)[:1]
            if not following or not matcher.consume_tokens(following):
                return None
            path += following
        return None

    def _searched(self, matcher: LLMatcher, limit: int) -> list[int] | None:
        """The shortest of all ways."""
        order = itertools.count()
        waiting: list[tuple[int, int, LLMatcher, list[int]]] = [(0, next(order), matcher.deep_copy(), [])]
        seen: set[tuple[int, bytes]] = set()
        for _ in range(MAX_SEARCHED):
            if not waiting:
                return None
            length, _, state, path = heapq.heappop(waiting)
            if state.is_accepting():
                return path
            if length > limit:
                continue
            mask = (length, state.compute_bitmask())
            if mask in seen:
                continue
            seen.add(mask)
            if forced := self._forced(state):
                if state.consume_tokens(forced):
                    heapq.heappush(waiting, (length + len(forced), next(order), state, path + forced))
                continue
            for way in self._ways(state):
                following = state.deep_copy()
                if following.consume_token(way):
                    heapq.heappush(waiting, (length + 1, next(order), following, [*path, way]))
        return None

    def _forced(self, matcher: LLMatcher) -> list[int]:
        forced: bytes = matcher.compute_ff_bytes()
        return [self._first + byte for byte in forced.partition(_SPECIAL)[0]]

    def _ways(self, matcher: LLMatcher) -> list[int]:
        """What may follow, the likeliest to lead to an end first; of bytes that are alike, a few."""
        bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
        allowed = np.flatnonzero(bits)
        known = allowed[allowed < self._first]
        found = (allowed[(allowed >= self._first) & (allowed < self._first + 256)] - self._first).tolist()
        if len(found) > _FREE and ord('"') in found:
            return [self._first + ord('"')]
        left = set(found)
        for alike in _RANGES:
            if left.issuperset(alike):
                left -= set(alike[1:-1])
            elif alike.start == 128 and len(both := sorted(left.intersection(alike))) > 2:
                left -= set(both[1:])
        ordered = sorted(left, key=_rank)
        return [self._first + byte for byte in ordered] + [int(i) for i in known if i not in self._no_ways]

    def _in_tokens(self, path: Sequence[int]) -> list[int]:
        tokens: list[int] = []
        for is_bytes, part in itertools.groupby(path, key=lambda one: one >= self._first):
            ids = list(part)
            tokens += self._cut(bytes(one - self._first for one in ids)) if is_bytes else ids
        return tokens


def _rank(byte: int) -> tuple[int, int]:
    if byte in _CLOSING:
        return 0, _CLOSING.index(byte)
    return (2, _LAST.index(byte)) if byte in _LAST else (1, byte)

