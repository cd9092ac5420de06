"""A syntax of tool calls as data: how calls are written, how they begin in a streamed answer, how a template shows one.

The instructions to the model, the text of past calls, the grammar of required calls, the parser and the probe of chat
templates all read the same object, so that what a model is shown is what it may write and what is read from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

WINDOW = 256
"""Characters that a pattern sees. A text that these leave undecided, as a name of a thousand letters does, is prose."""

Look: TypeAlias = re.Match[str] | Literal["maybe"] | None
"""A match; a beginning that further characters may complete; or neither."""


class Pattern:
    """A regular expression that also matches the beginnings of its matches; parts of type ``str`` are literal."""

    def __init__(self, *parts: str | re.Pattern[str]) -> None:
        atoms: list[str] = []
        for part in parts:
            atoms += map(re.escape, part) if isinstance(part, str) else [part.pattern]
        self._whole = re.compile("".join(atoms))
        beginning = ""
        for atom in reversed(atoms):
            beginning = f"(?:{atom}{beginning})?"
        self._beginning = re.compile(beginning)

    def look(self, text: str, start: int) -> Look:
        end = min(len(text), start + WINDOW)
        if found := self._whole.match(text, start, end):
            return found
        return "maybe" if end < start + WINDOW and self._beginning.fullmatch(text, start, end) else None


SPACE = re.compile(r"[ \t\r\n]*")
BRACKET = re.compile(r"[{\[]")
LIST_END = Pattern(SPACE, re.compile(",?"), SPACE, "]")
NEXT_OBJECT = Pattern(SPACE, ",", SPACE, "{")


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """One way to write tool calls."""

    head: Callable[[str], str]
    """The text of a call before its arguments, from the tool's name."""
    tail: str
    """The text of a call behind its arguments."""
    probe: str
    """The beginning of the call in the output of a probed chat template; a space matches any white space."""
    first: str
    """The character that every call begins with."""
    opening: Pattern
    """The beginning of a call up to its arguments; the group ``name``, if there is one, is the tool's name."""
    certain: tuple[Pattern, ...]
    """Longer beginnings that make it a call at any position."""
    after_line_break: bool = False
    """Whether `opening` alone makes it a call at the beginning of a line; that of a known tool does at any position."""
    tag: str = ""
    """The literal beginning of `opening`; in some vocabularies it is a control token."""
    closing_tag: str = ""
    list_head: str = ""
    """The beginning of the list of all calls of a turn; empty if each call is written on lines of its own."""
    lists: Literal["never", "perhaps", "always"] = "never"
    """Whether square brackets enclose the calls that are read: behind the tag, or as `opening` itself."""
    next_opening: Pattern | None = None
    """The comma and the beginning of the next call in a list."""
    python: bool = False
    """Whether arguments are Python's keyword arguments instead of a JSON object."""
    short_call_ids: bool = False
    """Whether templates accept no call ids but those of nine letters and digits."""

    @property
    def tags(self) -> frozenset[str]:
        """The texts that a model may write as control tokens."""
        return frozenset({self.tag, self.closing_tag})

    @property
    def example(self) -> str:
        """A call with ``NAME``, ``PARAMETER`` and ``VALUE`` in place of its parts."""
        arguments = "PARAMETER=VALUE" if self.python else '{"PARAMETER": VALUE}'
        return self.join([f"{self.head('NAME')}{arguments}{self.tail}"])

    def join(self, calls: Iterable[str]) -> str:
        """Return the calls of one turn as one text."""
        return f"{self.list_head}{', '.join(calls)}]" if self.list_head else "\n".join(calls)

    def is_shown(self, rendered: str) -> bool:
        """Return whether the output of a probed chat template contains the probe's call in this syntax."""
        return bool(re.search(r"\s*".join(map(re.escape, self.probe.split())), rendered))

    def look(self, text: str, start: int, is_known: Callable[[str], bool], *, begins_line: bool) -> Look:
        """Return the opening of a call that begins at ``start``, once it is certain that it is one."""
        opening = self.opening.look(text, start)
        if not isinstance(opening, re.Match):
            return opening
        if (begins_line and self.after_line_break) or is_known(opening.groupdict().get("name", "")):
            return opening
        looks = [pattern.look(text, start) for pattern in self.certain]
        if any(isinstance(look, re.Match) for look in looks):
            return opening
        return "maybe" if "maybe" in looks else None


def json_text(value: object) -> str:
    """Return a JSON value on one line, with characters beyond ASCII as they are."""
    return json.dumps(value, ensure_ascii=False)
