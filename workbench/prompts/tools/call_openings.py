"""The beginnings of calls in streamed answers, recognized from a few characters so that prose is not delayed.

A pattern sees a window of `WINDOW` characters. A text that these leave undecided, for example because of a name of a
thousand letters, is prose.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

WINDOW = 256

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


def look_for_any(patterns: Iterable[Pattern], text: str, start: int) -> Look:
    """Return the first match; without one, whether a pattern may still match."""
    looks = [pattern.look(text, start) for pattern in patterns]
    return next((look for look in looks if isinstance(look, re.Match)), "maybe" if "maybe" in looks else None)


@dataclass(frozen=True, slots=True)
class CallOpening:
    """The characters around a call, or around several in a list, perhaps inside a tag."""

    first: str
    """The character that every call begins with."""
    head: Pattern
    """The beginning up to the arguments; its group ``name``, if it has one, is the tool's name."""
    certain: tuple[Pattern, ...]
    """Longer beginnings that make it a call at any position."""
    after_line_break: bool = False
    """Whether the head alone makes it a call at the beginning of a line; that of a known tool does at any position."""
    tag: str = ""
    """The literal beginning of the head; in some vocabularies it is a control token."""
    closing_tag: str = ""
    lists: Literal["never", "perhaps", "always"] = "never"
    """Whether square brackets enclose the calls: behind the tag, or as the head itself."""
    next_head: Pattern | None = None
    """The comma and the beginning of the next call in a list."""

    @property
    def tags(self) -> frozenset[str]:
        """The texts that a model may write as control tokens."""
        return frozenset({self.tag, self.closing_tag})

    def look(self, text: str, start: int, is_known: Callable[[str], bool], *, begins_line: bool) -> Look:
        """Return the head of a call that begins at ``start``, once it is certain that it is one."""
        head = self.head.look(text, start)
        if not isinstance(head, re.Match):
            return head
        if (begins_line and self.after_line_break) or is_known(head.groupdict().get("name", "")):
            return head
        certain = look_for_any(self.certain, text, start)
        return head if isinstance(certain, re.Match) else certain


SPACE = re.compile(r"[ \t\r\n]*")
BRACKET = re.compile(r"[{\[]")
LIST_END = Pattern(SPACE, re.compile(",?"), SPACE, "]")
NEXT_OBJECT = Pattern(SPACE, ",", SPACE, "{")


def end_of_tag(tag: str) -> Pattern:
    """Return a pattern for the closing tag and the white space before it."""
    return Pattern(SPACE, tag)
