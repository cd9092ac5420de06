"""Context-free grammars as data, and their text in llguidance's dialect of Lark.

Rules without a finite text are left out: a model that entered one could never finish its answer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|, |: |[\[\]{}]|[^"\[\]{},: ]+|.', re.DOTALL)
"""Tokens of a JSON text. A constant is cut into the same literals as a rule, so that they share their beginnings."""


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A reference to another rule."""

    name: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """An expression in Lark that refers to no rule."""

    lark: str


@dataclass(frozen=True, slots=True)
class Many:
    """Repetitions of a sequence of symbols, from `least` to `most`."""

    part: tuple[Symbol, ...]
    least: int = 0
    most: int | None = None


Symbol: TypeAlias = Text | Rule | Leaf | Many
Body: TypeAlias = tuple[Symbol, ...]


class Rules:
    """Rules by their names; `lark` writes those that are reachable and have a finite text."""

    def __init__(self) -> None:
        self._bodies: dict[str, list[Body]] = {}
        self._terminals: dict[str, str] = {}
        self._lists: dict[str, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._bodies)

    def new(self) -> Rule:
        """Return a rule whose bodies `set` defines later."""
        name = f"r{len(self._bodies)}"
        self._bodies[name] = []
        return Rule(name)

    def set(self, rule: Rule, bodies: Iterable[Body]) -> Rule:
        """Define a rule as a choice of bodies; return it."""
        self._bodies[rule.name] = list(dict.fromkeys(bodies))
        return rule

    def of(self, bodies: Iterable[Body]) -> Rule:
        return self.set(self.new(), bodies)

    def terminal(self, lark: str) -> Leaf:
        """Return a terminal for a regular expression with ``&`` and ``~``, which Lark permits only there."""
        return Leaf(self._terminals.setdefault(lark, f"T{len(self._terminals)}"))

    def choice(self, texts: Sequence[str], least: int, most: int) -> Rule:
        """Return a rule for a list of some of the texts, each at most once, in any order."""
        first, rest = f"r{len(self._bodies)}", f"s{len(self._bodies)}"
        self._bodies[first] = [(Leaf(f"{rest}::0"),)] if most else [()]
        bits = f"[0:{len(texts)}]"
        bodies = [f'"" %if bit_count_ge({bits}, {least})']
        for index, text in enumerate(texts):
            follows = f"and(bit_clear({index}), bit_count_lt({bits}, {most}))"
            bodies.append(f"{_quoted(text)} {rest}_::set_bit({index}) %if {follows}")
        later = [bodies[0], *(f'", " {body}' for body in bodies[1:])]
        self._lists[first] = (f"{rest}::_: " + "\n  | ".join(bodies), f"{rest}_::_: " + "\n  | ".join(later))
        return Rule(first)

    def lark(self, start: Sequence[Symbol]) -> str | None:
        """Return the grammar, whose first rule is ``start``; None if it has no finite text."""
        lengths = self._lengths()
        if math.isinf(_length(start, lengths)):
            return None
        lines, used, waiting = [f"start: {_written(start, lengths)}"], set[str](), _names(start)
        while waiting:
            name = waiting.pop()
            if name in used or math.isinf(lengths[name]):
                continue
            used.add(name)
            bodies = [body for body in self._bodies[name] if not math.isinf(_length(body, lengths))]
            lines.append(f"{name}: {' | '.join(_written(body, lengths) for body in bodies)}")
            lines += self._lists.get(name, ())
            waiting += [one for body in bodies for one in _names(body)]
        text = "\n".join(lines)
        terminals = [f"{name}: {lark}" for lark, name in self._terminals.items()]
        return "\n".join([text, *terminals, ""])

    def _lengths(self) -> dict[str, float]:
        """Return a bound of each rule's shortest text; infinite if it has none."""
        lengths = dict.fromkeys(self._bodies, math.inf)
        users: dict[str, set[str]] = {name: set() for name in self._bodies}
        for name, bodies in self._bodies.items():
            for body in bodies:
                for other in _names(body):
                    users[other].add(name)
        waiting = set(self._bodies)
        while waiting:
            name = waiting.pop()
            length = min((_length(body, lengths) for body in self._bodies[name]), default=math.inf)
            if length < lengths[name]:
                lengths[name] = length
                waiting |= users[name]
        return lengths


def _length(body: Sequence[Symbol], lengths: dict[str, float]) -> float:
    total = 0.0
    for symbol in body:
        match symbol:
            case Text(text):
                total += len(text)
            case Rule(name):
                total += lengths[name]
            case Leaf():
                total += 1
            case Many(part, least, _):
                total += least * _length(part, lengths) if least else 0
    return total


def _names(body: Sequence[Symbol]) -> list[str]:
    names = []
    for symbol in body:
        if isinstance(symbol, Rule):
            names.append(symbol.name)
        elif isinstance(symbol, Many):
            names += _names(symbol.part)
    return names


def _written(body: Sequence[Symbol], lengths: dict[str, float]) -> str:
    parts: list[str] = []
    for symbol in body:
        match symbol:
            case Text(text):
                parts += map(_quoted, _TOKENS.findall(text))
            case Rule(name):
                parts.append(name)
            case Leaf(lark):
                parts.append(lark)
            case Many(part, least, most) if most != 0 and not math.isinf(_length(part, lengths)):
                parts.append(f"({_written(part, lengths)}){{{least},{'' if most is None else most}}}")
    return " ".join(parts) or '""'


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # llguidance reads no raw DEL
