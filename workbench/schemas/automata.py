"""Automata of patterns, which complete a text that has begun until it matches, the shortest completions first.

They support only what the search for an ending needs. Each completion is tried in the grammar itself, so an unsupported
pattern costs an ending, but never an answer.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache

MAX_STATES = 4_000
_MAX_CACHED = 2_000
_LOOK_BACK = 64
"""Characters by which a text may be longer than a cached one whose states are reused."""
MAX_LENGTH = 96
"""Characters of the longest completion."""

_CHARS = " ".join(string.ascii_lowercase + string.digits + string.ascii_uppercase + string.punctuation) + "é年😀\t\n"
"""Characters in the order of preference in which a member of a class is chosen."""

Class = Callable[[str], bool]


class UnknownPatternError(Exception):
    """The pattern uses unsupported syntax."""


@dataclass(slots=True)
class _Part:
    """A part of an automaton, from its first state to its last."""

    first: int
    last: int


@dataclass(slots=True)
class Automaton:
    """A nondeterministic automaton with numbered states; an edge reads a character of its class, or none."""

    silent: list[list[int]] = field(default_factory=list)
    edges: list[list[tuple[Class, int]]] = field(default_factory=list)
    part: _Part = field(default_factory=lambda: _Part(0, 0))
    _known: dict[str, frozenset[int]] = field(default_factory=dict)
    """The states after earlier texts."""
    _reaching: list[frozenset[int]] = field(default_factory=list)
    """For each number of characters, the states from which that many lead to the end."""

    def endings(self, prefix: str) -> Iterator[str]:
        """Yield completions of a text to a match, one of each length, the shortest first."""
        states = self._after(prefix)
        if not states:
            return
        for length in range(MAX_LENGTH):
            reaching = self._reach(length)
            if states & reaching[length]:
                yield self._written(states, reaching[: length + 1])

    def _after(self, prefix: str) -> frozenset[int]:
        longest = range(len(prefix), max(0, len(prefix) - _LOOK_BACK), -1)
        known = next((end for end in longest if prefix[:end] in self._known), 0)
        found = set(self._known[prefix[:known]]) if known else self._closed({self.part.first})
        for character in prefix[known:]:
            found = self._closed({target for state in found for fits, target in self.edges[state] if fits(character)})
        if len(self._known) > _MAX_CACHED:
            self._known.clear()
        self._known[prefix] = frozenset(found)
        return self._known[prefix]

    def _reach(self, length: int) -> list[frozenset[int]]:
        if not self._reaching:
            last = self.part.last
            self._reaching.append(frozenset(one for one in range(len(self.silent)) if last in self._closed({one})))
        while len(self._reaching) <= length:
            goal = self._reaching[-1]
            direct = {one for one in range(len(self.edges)) if any(target in goal for _, target in self.edges[one])}
            self._reaching.append(frozenset(one for one in range(len(self.silent)) if self._closed({one}) & direct))
        return self._reaching

    def _written(self, states: AbstractSet[int], reaching: list[frozenset[int]]) -> str:
        text = ""
        for goal in reversed(reaching[:-1]):
            fits = next(fits for state in states for fits, target in self.edges[state] if target in goal)
            text += next((one for one in _CHARS if fits(one)), "a")
            states = self._closed({target for state in states for fits, target in self.edges[state] if fits(text[-1])})
        return text

    def _closed(self, states: set[int]) -> set[int]:
        found, waiting = set(states), list(states)
        while waiting:
            for target in self.silent[waiting.pop()]:
                if target not in found:
                    found.add(target)
                    waiting.append(target)
        return found


@lru_cache(64)
def automaton(pattern: str, *, searched: bool) -> Automaton | None:
    """Return the automaton of a pattern; None if it uses unsupported syntax.

    Args:
        searched: whether the pattern may match a part of the text, as in JSON schema.
    """
    try:
        return _Reader(pattern, searched=searched).read()
    except (UnknownPatternError, IndexError, ValueError):
        return None


def _any(character: str) -> bool:
    return character != "\n"


_ESCAPED: dict[str, Class] = {
    "d": lambda one: one in string.digits,
    "w": lambda one: one in string.ascii_letters + string.digits + "_",
    "s": lambda one: one in " \t\n\r\f\v",
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}


class _Reader:
    """Recursive-descent reader of one pattern."""

    def __init__(self, pattern: str, *, searched: bool) -> None:
        self._pattern = pattern
        self._searched = searched
        self._position = 0
        self._made = Automaton()

    def read(self) -> Automaton:
        part = self._choice(outermost=True)
        if self._position < len(self._pattern):
            raise UnknownPatternError(self._pattern)
        self._made.part = part
        return self._made

    def _state(self) -> int:
        if len(self._made.silent) >= MAX_STATES:
            raise UnknownPatternError(self._pattern)
        self._made.silent.append([])
        self._made.edges.append([])
        return len(self._made.silent) - 1

    def _next(self) -> str:
        return self._pattern[self._position : self._position + 1]

    def _accept(self, text: str) -> bool:
        found = self._pattern.startswith(text, self._position)
        self._position += len(text) * found
        return found

    def _choice(self, *, outermost: bool = False) -> _Part:
        whole = _Part(self._state(), self._state())
        while True:
            branch = self._row(outermost=outermost)
            self._made.silent[whole.first].append(branch.first)
            self._made.silent[branch.last].append(whole.last)
            if not self._accept("|"):
                return whole

    def _row(self, *, outermost: bool) -> _Part:
        row = _Part(state := self._state(), state)
        is_open = outermost and self._searched
        if not (self._accept("^") or self._accept("\\A")) and is_open:
            row.last = self._repeated(lambda: self._one(lambda _: True), 0, None, row.last)
        while self._next() not in ("", "|", ")"):
            if self._accept("$"):
                if not outermost or self._next() not in ("", "|"):
                    raise UnknownPatternError(self._pattern)
                return row
            start = self._position
            part = self._atom()
            end = self._position
            least, most = self._count()
            after = self._position
            if (least, most) == (1, 1):
                self._made.silent[row.last].append(part.first)
                row.last = part.last
                continue

            def again(start: int = start, end: int = end) -> _Part:
                self._position = start
                part = self._atom()
                assert self._position == end
                return part

            row.last = self._repeated(again, least, most, row.last)
            self._position = after
        if is_open:
            row.last = self._repeated(lambda: self._one(lambda _: True), 0, None, row.last)
        return row

    def _repeated(self, make: Callable[[], _Part], least: int, most: int | None, last: int) -> int:
        """Append `least` to `most` repetitions of a part to a state; return the state behind them."""
        for _ in range(least):
            part = make()
            self._made.silent[last].append(part.first)
            last = part.last
        end = self._state()
        self._made.silent[last].append(end)
        if most is None:
            part = make()
            self._made.silent[last].append(part.first)
            self._made.silent[part.last] += [part.first, end]
        for _ in range(0 if most is None else most - least):
            part = make()
            self._made.silent[last].append(part.first)
            self._made.silent[part.last].append(end)
            last = part.last
        return end

    def _count(self) -> tuple[int, int | None]:
        counts: dict[str, tuple[int, int | None]] = {"?": (0, 1), "*": (0, None), "+": (1, None)}
        found: tuple[int, int | None] = (1, 1)
        if self._next() in counts and self._next():
            found = counts[self._next()]
            self._position += 1
        elif self._next() == "{":
            end = self._pattern.index("}", self._position)
            low, comma, high = self._pattern[self._position + 1 : end].partition(",")
            found = (int(low or 0), int(high) if high else None if comma else int(low))
            self._position = end + 1
        else:
            return found
        self._accept("?")  # a lazy quantifier matches the same texts
        return found

    def _one(self, fits: Class) -> _Part:
        part = _Part(self._state(), self._state())
        self._made.edges[part.first].append((fits, part.last))
        return part

    def _atom(self) -> _Part:
        if self._accept("("):
            if self._next() == "?" and not self._accept("?:"):
                raise UnknownPatternError(self._pattern)
            part = self._choice()
            if not self._accept(")"):
                raise UnknownPatternError(self._pattern)
            return part
        if self._accept("."):
            return self._one(_any)
        if self._accept("["):
            return self._one(self._class())
        if self._next() in "*+?{^$":
            raise UnknownPatternError(self._pattern)
        return self._one(self._character())

    def _character(self) -> Class:
        """Read one character or class outside of brackets."""
        if not self._accept("\\"):
            character = self._next()
            self._position += 1
            return lambda one: one == character
        letter = self._next()
        self._position += 1
        if letter.lower() in _ESCAPED:
            fits = _ESCAPED[letter.lower()]
            return fits if letter.islower() else lambda one: not fits(one)
        if letter.isalnum() and letter not in _CONTROLS:
            raise UnknownPatternError(self._pattern)
        plain = _CONTROLS.get(letter, letter)
        return lambda one: one == plain

    def _class(self) -> Class:
        negative = self._accept("^")
        parts: list[Class] = []
        for index in itertools.count():
            if self._next() == "]" and index:
                break
            if self._next() == "[":
                raise UnknownPatternError(self._pattern)
            literal = self._pattern[self._position + (self._next() == "\\")]
            part = self._character()
            if self._next() == "-" and self._pattern[self._position + 1] != "]" and part(literal):
                self._position += 1
                high = self._pattern[self._position + (self._next() == "\\")]
                self._character()
                parts.append(lambda one, low=literal, high=high: low <= one <= high)  # type: ignore[misc]
            else:
                parts.append(part)
        self._position += 1
        return lambda one: any(fits(one) for fits in parts) != negative
