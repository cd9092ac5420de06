"""Search for the shortest ending from any state of a grammar, byte by byte.

A grammar over bytes has few choices where one over a vocabulary has thousands, and the bytes found are tokenized
afterwards. First a greedy search closes everything that is open. If that finds no ending that fits, a best-first search
tries all endings, the shortest first.
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
"""States after which the best-first search is given up."""

MAX_CLOSING = 1_024
"""Steps after which the greedy search is given up: a text may continue without end."""

MAX_ENDINGS = 40
"""Endings of a pattern that are tried, one per length: the grammar may not allow the short ones."""

MAX_LITERALS = 12
"""Literals of the grammar that are tried in one state."""

_ALIKE = 4
"""Paths of equal length and equal next bytes that are all followed: they may differ in their history."""

_TAIL = 48
"""Characters at the end of a text in which a match of an unquoted pattern may have begun."""

MAX_BYTES = 16_384
"""Length of the longest ending that is searched."""

_BYTES_PER_TOKEN = 8
"""Bytes assumed per token to limit the search."""

_SPECIAL = b"\xff"
"""Byte after which llguidance encodes the id of a forced special token."""

_CLOSING = b'}]"'
_FREE = 64
"""Number of allowed bytes above which the state is within a string, which a quote ends."""
_BEYOND_ASCII = 128
_RANGES = (range(ord("a"), ord("z") + 1), range(ord("A"), ord("Z") + 1), range(_BEYOND_ASCII, 248))
"""Bytes that a grammar that allows all of them rarely distinguishes: two of each are tried."""
_LAST = b",-\\ {["
"""Bytes that open or continue something are tried last."""


class _Bytes:
    """Tokenizer for `llguidance.TokenizerWrapper`: special tokens by their ids, and all bytes after the vocabulary."""

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
    """A regular expression in a grammar."""

    automaton: Automaton
    is_quoted: bool
    """Whether it matches the content of a JSON string."""


class ByteState:
    """State of an answer in its grammar over bytes."""

    def __init__(self, matcher: LLMatcher, text: bytes, patterns: Sequence[Pattern], literals: Sequence[bytes]) -> None:
        self.matcher = matcher
        self.literals = literals
        self._text = text
        self._patterns = patterns

    def copy(self) -> ByteState:
        return ByteState(self.matcher.deep_copy(), self._text, self._patterns, self.literals)

    def consume(self, ids: list[int], text: bytes) -> bool:
        """Advance by these bytes; return whether the grammar allows them."""
        self._text += text
        return bool(self.matcher.try_consume_tokens(ids) == len(ids))

    def endings(self) -> Iterator[Iterable[bytes]]:
        """Yield possible endings of the current text for each pattern; the grammar may not allow them."""
        if not self._patterns:
            return
        opened = _OPEN_STRING.fullmatch(self._text)
        begun = _json_string(opened[1]) if opened else None
        for pattern in self._patterns:
            if pattern.is_quoted and begun is not None:
                found = itertools.islice(pattern.automaton.endings(begun), MAX_ENDINGS)
                yield (json.dumps(ending, ensure_ascii=False)[1:].encode() for ending in found)
            elif not pattern.is_quoted:
                yield self._unquoted(pattern.automaton)

    def _unquoted(self, automaton: Automaton) -> Iterator[bytes]:
        """Yield the ending from each offset at which the pattern may have begun to match."""
        text = self._text.decode(errors="ignore")
        for start in sorted({0, *range(max(0, len(text) - _TAIL), len(text) + 1)}):
            yield from (one.encode() for one in itertools.islice(automaton.endings(text[start:]), 1))


_OPEN_STRING = re.compile(rb'(?:[^"]|"(?:[^"\\]|\\.)*+")*+"((?:[^"\\]|\\.)*)', re.DOTALL)
"""Text that ends within a string; the group is the string so far."""


def _json_string(quoted: bytes) -> str | None:
    try:
        text: str = json.loads(b'"' + quoted + b'"')
    except ValueError:  # half an escape or half a character
        return None
    return text


class Endings:
    """Search for endings in grammars of one vocabulary.

    Args:
        tokens: the bytes of every token.
        special_ids: control tokens, which text never encodes to.
        tokenize: function from bytes to tokens.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        special_ids: Iterable[int],
        end_ids: Sequence[int],
        tokenize: Callable[[bytes], list[int]],
    ) -> None:
        self._tokens = tokens
        self._special = frozenset(special_ids)
        self._tokenize = tokenize
        self._first = len(tokens)
        special = {token_id: tokens[token_id] for token_id in self._special}
        byte_tokenizer = _Bytes(special, len(tokens), end_ids[0] if end_ids else None)
        self._tokenizer = LLTokenizer(TokenizerWrapper(byte_tokenizer), eos_token=list(end_ids) or None, slices=[])
        self._end_ids = np.array([*end_ids], dtype=np.int64)

    def start(self, source: str, patterns: Sequence[Pattern] = (), literals: Sequence[bytes] = ()) -> ByteState:
        """Return the state of a grammar over bytes, before the first one.

        Args:
            patterns: regular expressions in the grammar, if known.
            literals: values in the grammar, the shortest first.
        """
        limits = LLParserLimits(verbose_errors=False)
        return ByteState(LLMatcher(self._tokenizer, source, log_level=0, limits=limits), b"", patterns, literals)

    def opens(self, token_id: int) -> bool:
        """Whether a token opens a bracket."""
        return b"{" in self._tokens[token_id] or b"[" in self._tokens[token_id]

    def consume(self, state: ByteState, token_ids: Sequence[int]) -> bool:
        """Advance by tokens of the vocabulary; return whether the grammar allows them."""
        for token_id in token_ids:
            ids = [token_id] if token_id in self._special else self._ids(self._tokens[token_id])
            if not state.consume(ids, b"" if token_id in self._special else self._tokens[token_id]):
                return False
        return True

    def shortest(self, state: ByteState, room: int) -> list[int] | None:
        """Return the tokens of the shortest ending found, even if it exceeds ``room`` tokens; None if none is found."""
        limit = min(room * _BYTES_PER_TOKEN + 256, MAX_BYTES)
        closed = self._close(state.copy(), limit)
        tokens = None if closed is None else self._tokens_of(closed)
        if tokens is not None and len(tokens) <= room:
            return tokens
        found = self._search(state, limit)
        searched = None if found is None else self._tokens_of(found)
        return min((one for one in (tokens, searched) if one is not None), key=len, default=None)

    def _close(self, state: ByteState, limit: int) -> list[int] | None:
        """Return the greedy ending, which closes what is open; None if there is none."""
        path: list[int] = []
        for _ in range(MAX_CLOSING):
            if state.matcher.is_accepting():
                return path
            if len(path) > limit:
                return None
            following = self._forced(state) or next(self._continuations(state), [])
            if not following or not self._consume(state, following):
                return None
            path += following
        return None

    def _search(self, start: ByteState, limit: int) -> list[int] | None:
        """Return the shortest ending by best-first search."""
        order = itertools.count()
        queue: list[tuple[int, int, ByteState, list[int]]] = [(0, next(order), start.copy(), [])]
        seen: Counter[tuple[int, bytes]] = Counter()
        for _ in range(MAX_SEARCHED):
            if not queue:
                return None
            length, _, state, path = heapq.heappop(queue)
            if state.matcher.is_accepting():
                return path
            mask = (length, state.matcher.compute_bitmask())
            seen[mask] += 1
            if seen[mask] > _ALIKE or length > limit:
                continue
            forced = self._forced(state)
            for ids in [forced] if forced else self._continuations(state):
                following = state.copy()
                if self._consume(following, ids):
                    heapq.heappush(queue, (length + len(ids), next(order), following, [*path, *ids]))
        return None

    def _consume(self, state: ByteState, ids: list[int]) -> bool:
        return state.consume(ids, bytes(one - self._first for one in ids if one >= self._first))

    def _ids(self, text: bytes) -> list[int]:
        return [self._first + byte for byte in text]

    def _forced(self, state: ByteState) -> list[int]:
        forced: bytes = state.matcher.compute_ff_bytes()
        return self._ids(forced.partition(_SPECIAL)[0])

    def _continuations(self, state: ByteState) -> Iterator[list[int]]:
        """Yield what may follow, the likeliest to end first; of similar bytes only a few."""
        bits = np.unpackbits(np.frombuffer(state.matcher.compute_bitmask(), np.uint8), bitorder="little")
        allowed = np.flatnonzero(bits)
        found = (allowed[(allowed >= self._first) & (allowed < self._first + 256)] - self._first).tolist()
        if len(found) > _FREE and ord('"') in found:
            yield self._ids(b'"')
            return
        closing = [byte for byte in _CLOSING if byte in found]
        yield from (self._ids(bytes([byte])) for byte in closing)
        for endings in state.endings():
            candidates = (self._ids(ending) for ending in endings)
            yield from itertools.islice((ids for ids in candidates if self._consume(state.copy(), ids)), 1)
        literals = (literal for literal in state.literals if literal[0] in found)
        for literal in itertools.islice(literals, MAX_LITERALS):
            ids = self._ids(literal)
            if self._consume(state.copy(), ids):
                yield ids
        left = set(found) - set(closing)
        for alike in _RANGES:
            if left.issuperset(alike):
                left -= set(alike[1:-1])
            elif alike.start == _BEYOND_ASCII:
                left -= set(sorted(left.intersection(alike))[1:])
        yield from (self._ids(bytes([byte])) for byte in sorted(left, key=_rank))
        yield from ([int(one)] for one in allowed[allowed < self._first] if one not in self._end_ids)

    def _tokens_of(self, path: Sequence[int]) -> list[int]:
        tokens: list[int] = []
        for is_bytes, part in itertools.groupby(path, key=lambda one: one >= self._first):
            ids = list(part)
            tokens += self._tokenize(bytes(one - self._first for one in ids)) if is_bytes else ids
        return tokens


def _rank(byte: int) -> tuple[int, int]:
    return (1, _LAST.index(byte)) if byte in _LAST else (0, byte)


_PATTERN = re.compile(r'"pattern": ("(?:[^"\\]|\\.)*")')
_TERMINAL = re.compile(r"/((?:[^/\\\n]|\\.)+)/")
_LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_MAX_PATTERNS = 24


def patterns_in(lark: str) -> tuple[Pattern, ...]:
    """Return the regular expressions of a grammar in llguidance's dialect of Lark, without unsupported ones."""
    quoted = dict.fromkeys(json.loads(found[1]) for found in _PATTERN.finditer(lark))
    terminals = dict.fromkeys(found[1] for found in _TERMINAL.finditer(_PATTERN.sub("", lark)))
    unquoted = [one.replace("\\/", "/") for one in terminals if not one.startswith(('"', "(?:"))]
    patterns = [Pattern(one, is_quoted=True) for text in quoted if (one := automaton(text, searched=True))]
    patterns += [one for text in unquoted for one in pattern_of(text)]
    return tuple(patterns[:_MAX_PATTERNS])


def literals_in(lark: str) -> tuple[bytes, ...]:
    """Return the numbers and strings that are literals of a grammar, the shortest first."""
    values: set[bytes] = set()
    for found in _LITERAL.finditer(_PATTERN.sub("", lark)):
        with suppress(ValueError):  # an escape that only Lark has
            text = json.loads(found[0])
            if text[:1] in "-0123456789" or (text[:1] == '"' and text.endswith('"')):
                values.add(text.encode(errors="ignore"))
    return tuple(sorted(values - {b""}, key=lambda one: (len(one), one)))


def pattern_of(regex: str) -> tuple[Pattern, ...]:
    """Return the pattern of a regular expression for a whole text; empty if it is not supported."""
    found = automaton(regex, searched=False)
    return (Pattern(found, is_quoted=False),) if found else ()
