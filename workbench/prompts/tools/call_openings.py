"""How a call begins in each syntax, and what follows one: decided on a few characters, so that prose is not held back.

A text is looked at through a window of `WINDOW` characters. What cannot be told from them, for example because of a
name of a thousand letters, is prose.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from workbench.prompts.tools.definitions import NAME
from workbench.prompts.tools.syntaxes import ToolSyntax

WINDOW = 256

Look: TypeAlias = re.Match[str] | Literal["maybe"] | None
"""Found; not yet, but the next characters may complete it; or not there."""

_SPACE = re.compile(r"[ \t\r\n]*")
_NAME = re.compile(f"(?P<name>{NAME.pattern})")
_KEYWORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_TAG_NAME = re.compile(r"(?P<name>[^<>\n]{1,128})")
_QUOTED_NAME = re.compile(r'"[^"\\{\n]{0,128}')
_BRACKET = re.compile(r"[{\[]")
_COMMA_OR_END = re.compile(r"[,}]")
_NO_SECOND_EQUALS = re.compile(r"[^=]")
_PERHAPS_COMMA = re.compile(",?")


class Pattern:
    """A regular expression that also knows the beginnings of what it matches; texts among its parts are literal."""

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
    """The first that is found; else whether one of them may still be."""
    looks = [pattern.look(text, start) for pattern in patterns]
    return next((look for look in looks if isinstance(look, re.Match)), "maybe" if "maybe" in looks else None)


@dataclass(frozen=True, slots=True)
class CallForm:
    """One syntax: a call, or several in a list, perhaps inside a tag."""

    first: str
    """The character that every call begins with."""
    head: Pattern
    """The beginning, as far as it is no part of the arguments; a group ``name`` where the tool's name stands in it."""
    certain: tuple[Pattern, ...]
    """Longer beginnings that make a call of it wherever they stand."""
    after_line_break: bool = False
    """Whether the head is enough at the beginning of a line; that of a known tool is enough anywhere."""
    tag: str = ""
    """What the head begins with, where that is a text of its own; in some vocabularies it is a control token."""
    closing_tag: str = ""
    lists: Literal["never", "perhaps", "always"] = "never"
    """Whether square brackets stand around the calls: behind the tag, or as the head itself."""
    next_head: Pattern | None = None
    """The comma and the beginning of the next call in a list."""

    def look(self, text: str, start: int, is_known: Callable[[str], bool], *, begins_line: bool) -> Look:
        """The head of a call that begins at ``start``, once it is certain that it is one."""
        head = self.head.look(text, start)
        if not isinstance(head, re.Match):
            return head
        if (begins_line and self.after_line_break) or is_known(head.groupdict().get("name", "")):
            return head
        certain = look_for_any(self.certain, text, start)
        return head if isinstance(certain, re.Match) else certain


LIST_END = Pattern(_SPACE, _PERHAPS_COMMA, _SPACE, "]")
_NEXT_OBJECT = Pattern(_SPACE, ",", _SPACE, "{")
_CALL = ("[", _SPACE, _NAME, _SPACE, "(")
_TYPED = ("{", _SPACE, '"type"', _SPACE, ":", _SPACE, '"function"', _SPACE, _COMMA_OR_END)
_NAMED = ("{", _SPACE, '"name"', _SPACE, ":", _SPACE, _QUOTED_NAME, '"', _SPACE, ",", _SPACE)


def end_of_tag(tag: str) -> Pattern:
    """The closing tag, with white space before it."""
    return Pattern(_SPACE, tag)


FORMS: dict[ToolSyntax, CallForm] = {
    ToolSyntax.json: CallForm(
        first="{",
        head=Pattern(""),
        certain=(
            Pattern(*_TYPED),
            Pattern(*_NAMED, '"parameters"', _SPACE, ":"),
            Pattern(*_NAMED, '"arguments"', _SPACE, ":"),
            Pattern(*_NAMED, '"type"', _SPACE, ":", _SPACE, '"function"'),
        ),
    ),
    ToolSyntax.function_tag: CallForm(
        first="<",
        head=Pattern("<function=", _TAG_NAME, ">"),
        certain=(Pattern("<function=", _TAG_NAME, ">", _SPACE, "{"),),
        after_line_break=True,
        tag="<function=",
        closing_tag="</function>",
    ),
    ToolSyntax.python_list: CallForm(
        first="[",
        head=Pattern(*_CALL),
        certain=(
            Pattern(*_CALL, _SPACE, ")"),
            Pattern(*_CALL, _SPACE, _KEYWORD, _SPACE, "=", _NO_SECOND_EQUALS),
        ),
        lists="always",
        next_head=Pattern(_SPACE, ",", _SPACE, _NAME, _SPACE, "("),
    ),
    ToolSyntax.tool_call_tag: CallForm(
        first="<",
        head=Pattern("<tool_call>"),
        certain=(Pattern("<tool_call>", _SPACE, _BRACKET),),
        after_line_break=True,
        tag="<tool_call>",
        closing_tag="</tool_call>",
        lists="perhaps",
        next_head=_NEXT_OBJECT,
    ),
    ToolSyntax.mistral: CallForm(
        first="[",
        head=Pattern("[TOOL_CALLS]"),
        certain=(Pattern("[TOOL_CALLS]", _SPACE, _BRACKET),),
        after_line_break=True,
        tag="[TOOL_CALLS]",
        lists="perhaps",
        next_head=_NEXT_OBJECT,
    ),
}
