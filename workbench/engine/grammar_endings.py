"""The shortest way from anywhere in a grammar to an end, found byte by byte.

A grammar over bytes has few choices where one over a vocabulary has thousands, and what is found in it may be cut into
any tokens afterwards. First the way is tried that closes whatever is open; where that leads to no end in the room that
is left, all ways are searched side by side, the shortest first.
"""

from __future__ import annotations

import heapq
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from workbench.schemas.automata import Automaton, automaton

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SEARCHED = 1_000
"""States that are looked at before a search is given up."""

MAX_CLOSING = 1_024
"""Steps on the way that closes what is open before it is given up: a text may go on for ever."""

MAX_ENDINGS = 40
"""Of a pattern, of one length each: what else is said of the text may refuse the short ones."""

MAX_LITERALS = 12
"""Values of the grammar that are tried in one place: that they are like others of their kind does not show."""

_ALIKE = 4
"""Ways of one length that are followed though the same bytes may come next: what came before may tell them apart."""

_TAIL = 48
"""Characters before the end of a text, among which a pattern without quotes may have begun to match."""

MAX_BYTES = 16_384
"""Of the longest way that is looked for."""

_BYTES_PER_TOKEN = 8
"""A way that may have so many tokens is looked for among those of so many bytes each."""

_SPECIAL = b"\xff"
"""Where a special token is forced, llguidance tells its number behind this byte."""

_CLOSING = b'}]"'
_FREE = 64
"""Where more bytes than these may follow, a text is being written, and its quote ends it."""
_BEYOND_ASCII = 128
_RANGES = (
    range(ord("a"), ord("z") + 1),
    range(ord("A"), ord("Z") + 1),
    range(_BEYOND_ASCII, 248),
)
"""Bytes that a grammar rarely tells apart where it allows all of them: two of each are tried."""
_LAST = b",-\\ {["
"""What opens or goes on is tried last."""


class _Bytes:
    """What `llguidance.TokenizerWrapper` asks for: special tokens by their ids, and all bytes behind the vocabulary."""

    bos_token_id = None

    def __init__(self, special: dict[int, bytes], vocab_size: int, end_id: int | None) -> None:
        self.tokens = [special.get(token_id, b"") for token_id in range(vocab_size)] + [bytes([i]) for i in range(256)]
        self.special_token_ids = sorted(special)
        self.eos_token_id = end_id
        self._first = vocab_size

    def __call__(self, text: str) -> list[int]:
        return [self._first + byte for byte in text.encode()]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that stands in a grammar."""

    automaton: Automaton
    is_quoted: bool
    """Whether it speaks of what stands between quotes, in JSON."""


class Written:
    """How far an answer has come in its grammar over bytes."""

    def __init__(self, matcher: LLMatcher, text: bytes, patterns: Sequence[Pattern], literals: Sequence[bytes]) -> None:
        self.matcher = matcher
        self.literals = literals
        self._text = text
        self._patterns = patterns

    def copy(self) -> Written:
        return Written(self.matcher.deep_copy(), self._text, self._patterns, self.literals)

    def take(self, ids: list[int], text: bytes) -> bool:
        """Go on by these bytes; tells whether the grammar allows them."""
        self._text += text
        return bool(self.matcher.try_consume_tokens(ids) == len(ids))

    def endings(self) -> Iterator[Iterable[bytes]]:
        """For each pattern, how a text that it speaks of might come to its end; whether it may is to be tried."""
        if not self._patterns:
            return
        opened = _OPEN_STRING.fullmatch(self._text)
        begun = _decoded(opened[1]) if opened else None
        for pattern in self._patterns:
            if pattern.is_quoted and begun is not None:
                found = itertools.islice(pattern.automaton.endings(begun), MAX_ENDINGS)
                yield (json.dumps(ending, ensure_ascii=False)[1:].encode() for ending in found)
            elif not pattern.is_quoted:
                yield self._bare(pattern.automaton)

    def _bare(self, automaton: Automaton) -> Iterator[bytes]:
        """The ending from each place where the pattern may have begun to match."""
        text = self._text.decode(errors="ignore")
        for start in sorted({0, *range(max(0, len(text) - _TAIL), len(text) + 1)}):
            yield from (one.encode() for one in itertools.islice(automaton.endings(text[start:]), 1))


_OPEN_STRING = re.compile(rb'(?:[^"]|"(?:[^"\\]|\\.)*+")*+"((?:[^"\\]|\\.)*)', re.DOTALL)
"""A text that ends between quotes, and what stands behind the last one."""


def _decoded(quoted: bytes) -> str | None:
    try:
        text: str = json.loads(b'"' + quoted + b'"')
    except ValueError:  # half an escape or half a character
        return None
    return text


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

    def start(self, source: str, patterns: Sequence[Pattern] = (), literals: Sequence[bytes] = ()) -> Written:
        """Return a grammar over bytes, before its first one.

        Args:
            patterns: those that stand in it, where they are known.
            literals: values that stand in it, the shortest first.
        """
        limits = LLParserLimits(verbose_errors=False)
        return Written(LLMatcher(self._tokenizer, source, log_level=0, limits=limits), b"", patterns, literals)

    def opens(self, token_id: int) -> bool:
        """Whether a token opens a bracket."""
        return b"{" in self._tokens[token_id] or b"[" in self._tokens[token_id]

    def follow(self, written: Written, token_ids: Sequence[int]) -> bool:
        """Go on by tokens of the vocabulary; tells whether the grammar allows them."""
        for token_id in token_ids:
            ids = [token_id] if token_id in self._special else self._ids(self._tokens[token_id])
            if not written.take(ids, b"" if token_id in self._special else self._tokens[token_id]):
                return False
        return True

    def shortest(self, written: Written, room: int) -> list[int] | None:
        """Return the tokens of a way to an end, the shortest that is found, of any length if none has room.

        Returns None where no end is found.
        """
        limit = min(room * _BYTES_PER_TOKEN + 256, MAX_BYTES)
        closed = self._closed(written.copy(), limit)
        tokens = None if closed is None else self._in_tokens(closed)
        if tokens is not None and len(tokens) <= room:
            return tokens
        found = self._searched(written, limit)
        searched = None if found is None else self._in_tokens(found)
        return min((one for one in (tokens, searched) if one is not None), key=len, default=None)

    def _closed(self, written: Written, limit: int) -> list[int] | None:
        """The way that closes what is open and opens nothing, if that leads to an end."""
        path: list[int] = []
        for _ in range(MAX_CLOSING):
            if written.matcher.is_accepting():
                return path
            if len(path) > limit:
                return None
            following = self._forced(written) or next(self._ways(written), [])
            if not following or not self._take(written, following):
                return None
            path += following
        return None

    def _searched(self, written: Written, limit: int) -> list[int] | None:
        """The shortest of all ways."""
        order = itertools.count()
        waiting: list[tuple[int, int, Written, list[int]]] = [(0, next(order), written.copy(), [])]
        seen: Counter[tuple[int, bytes]] = Counter()
        for _ in range(MAX_SEARCHED):
            if not waiting:
                return None
            length, _, state, path = heapq.heappop(waiting)
            if state.matcher.is_accepting():
                return path
            mask = (length, state.matcher.compute_bitmask())
            seen[mask] += 1
            if seen[mask] > _ALIKE or length > limit:
                continue
            forced = self._forced(state)
            for way in [forced] if forced else self._ways(state):
                following = state.copy()
                if self._take(following, way):
                    heapq.heappush(waiting, (length + len(way), next(order), following, [*path, *way]))
        return None

    def _take(self, written: Written, ids: list[int]) -> bool:
        return written.take(ids, bytes(one - self._first for one in ids if one >= self._first))

    def _ids(self, text: bytes) -> list[int]:
        return [self._first + byte for byte in text]

    def _forced(self, written: Written) -> list[int]:
        forced: bytes = written.matcher.compute_ff_bytes()
        return self._ids(forced.partition(_SPECIAL)[0])

    def _ways(self, written: Written) -> Iterator[list[int]]:
        """What may follow, the likeliest to lead to an end first; of bytes that are alike, a few."""
        bits = np.unpackbits(np.frombuffer(written.matcher.compute_bitmask(), np.uint8), bitorder="little")
        allowed = np.flatnonzero(bits)
        found = (allowed[(allowed >= self._first) & (allowed < self._first + 256)] - self._first).tolist()
        if len(found) > _FREE and ord('"') in found:
            yield self._ids(b'"')
            return
        closing = [byte for byte in _CLOSING if byte in found]
        yield from (self._ids(bytes([byte])) for byte in closing)
        for endings in written.endings():
            ways = (self._ids(ending) for ending in endings)
            yield from itertools.islice((ids for ids in ways if self._take(written.copy(), ids)), 1)
        known = (literal for literal in written.literals if literal[0] in found)
        for literal in itertools.islice(known, MAX_LITERALS):
            ids = self._ids(literal)
            if self._take(written.copy(), ids):
                yield ids
        left = set(found) - set(closing)
        for alike in _RANGES:
            if left.issuperset(alike):
                left -= set(alike[1:-1])
            elif alike.start == _BEYOND_ASCII:
                left -= set(sorted(left.intersection(alike))[1:])
        yield from (self._ids(bytes([byte])) for byte in sorted(left, key=_rank))
        yield from ([int(one)] for one in allowed[allowed < self._first] if one not in self._no_ways)

    def _in_tokens(self, path: Sequence[int]) -> list[int]:
        tokens: list[int] = []
        for is_bytes, part in itertools.groupby(path, key=lambda one: one >= self._first):
            ids = list(part)
            tokens += self._cut(bytes(one - self._first for one in ids)) if is_bytes else ids
        return tokens


def _rank(byte: int) -> tuple[int, int]:
    return (1, _LAST.index(byte)) if byte in _LAST else (0, byte)


_PATTERN = re.compile(r'"pattern": ("(?:[^"\\]|\\.)*")')
_TERMINAL = re.compile(r"/((?:[^/\\\n]|\\.)+)/")
_LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_MOST_PATTERNS = 24


def patterns_in(lark: str) -> tuple[Pattern, ...]:
    """The patterns of a grammar in llguidance's dialect of Lark, as far as they are understood."""
    quoted = dict.fromkeys(json.loads(found[1]) for found in _PATTERN.finditer(lark))
    terminals = dict.fromkeys(found[1] for found in _TERMINAL.finditer(_PATTERN.sub("", lark)))
    bare = [one.replace("\\/", "/") for one in terminals if not one.startswith(('"', "(?:"))]
    made = [Pattern(one, is_quoted=True) for text in quoted if (one := automaton(text, searched=True))]
    made += [one for text in bare for one in pattern_of(text)]
    return tuple(made[:_MOST_PATTERNS])


def literals_in(lark: str) -> tuple[bytes, ...]:
    """The numbers and texts that stand in a grammar as they are, the shortest first."""
    values: set[bytes] = set()
    for found in _LITERAL.finditer(_PATTERN.sub("", lark)):
        with suppress(ValueError):  # an escape of Lark's own
            text = json.loads(found[0])
            if text[:1] in "-0123456789" or (text[:1] == '"' and text.endswith('"')):
                values.add(text.encode(errors="ignore"))
    return tuple(sorted(values - {b""}, key=lambda one: (len(one), one)))


def pattern_of(regex: str) -> tuple[Pattern, ...]:
    """A pattern that a whole text matches."""
    found = automaton(regex, searched=False)
    return (Pattern(found, is_quoted=False),) if found else ()
