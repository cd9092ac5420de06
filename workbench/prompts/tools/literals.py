"""Incremental reader of JSON values and Python literals: with an explicit stack, in linear time, without eval.

JSON is read according to RFC 8259, and where that leaves a choice:

- If an object has the same name twice, the last one counts, as in most readers. Only the value that was read is passed
  on, so no other reader can interpret the text differently.
- A lone surrogate in a string becomes U+FFFD: it is no character, and could not be encoded.
- Refused are NaN and infinity, numbers beyond a float's range or 4,300 digits, raw control characters in a string, and
  more than `MAX_DEPTH` nested brackets.

Python literals are the values of a call's keyword arguments, none of which may be repeated: strings (plain or
triple-quoted), numbers, ``True``, ``False``, ``None`` (or JSON's spelling of these three, which models mix in), lists,
tuples and dicts of them. Expressions are refused: names, calls, operators, ``*`` and ``**``, f-strings, adjacent
strings.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

MAX_DEPTH = 64
"""Levels of nested brackets; no schema of a tool requires as many."""

_SPACE = re.compile(r"[ \t\r\n]*")
_WORD = re.compile(r"[A-Za-z0-9_.+-]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_CLOSING = {"{": "}", "[": "]", "(": ")", "call": ")"}
_WHOLE, _FRACTION = r"(?:0|[1-9](?:_?[0-9])*)", r"(?:[0-9](?:_?[0-9])*)"
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_PYTHON_NUMBER = re.compile(rf"[+-]?(?:{_WHOLE}(?:\.{_FRACTION}?)?|\.{_FRACTION})(?:[eE][+-]?[0-9]+)?")
_JSON_CONSTANTS = {"true": True, "false": False, "null": None}
_PYTHON_CONSTANTS = _JSON_CONSTANTS | {"True": True, "False": False, "None": None}
_PYTHON_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPED = {"\n": "", "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPED |= {"\\": "\\", "'": "'", '"': '"', "/": "/"}  # the last is JSON's: models often write JSON strings here
_PLAIN = {
    quote: re.compile(rf"[^\\\x00-\x1f{quote[0]}]+" if len(quote) == 1 else rf"[^\\\x00{quote[0]}]+")
    for quote in ('"', "'", '"""', "'''")
}
"""Runs of ordinary characters of a string; a triple-quoted one may contain line breaks."""

Expected = Literal["value", "value or end", "name", "name or end", "separator", "comma or end"]


@dataclass(slots=True)
class _Frame:
    """An open bracket and its contents so far."""

    bracket: str
    """The bracket's character; ``call`` for the round one around a call's arguments."""
    items: list[Any] = field(default_factory=list)
    members: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    commas: int = 0

    @property
    def is_named(self) -> bool:
        return self.bracket in ("{", "call")

    def value(self) -> Any:
        if self.is_named:
            return self.members
        if self.bracket == "(" and len(self.items) == 1 and not self.commas:
            return self.items[0]
        return self.items


class LiteralReader:
    """Reader of one object, or of the arguments of one call after their opening bracket.

    Args:
        python: read Python literals instead of JSON.
        arguments: start inside the round bracket of a call, ``name=value`` and so on; the value is a dict.
    """

    def __init__(self, *, python: bool = False, arguments: bool = False) -> None:
        self.value: Any = None
        self.ended = False
        """Whether the value is complete."""
        self.fault: str | None = None
        """Why the text is not such a value; no more text is read then."""
        self._python = python
        self._frames: list[_Frame] = []
        self._expected: Expected = "value"
        self._token: list[str] = []
        self._quote = ""
        self._escaped = False
        self._quotes_seen = 0
        self._read: Callable[[str, int], int] = self._between
        if arguments:
            self._open("call")

    @property
    def depth(self) -> int:
        return len(self._frames)

    def feed(self, text: str, position: int = 0) -> int:
        """Read on; return the position behind the text that was read, or of the first unexpected character."""
        while position < len(text) and not self.ended and self.fault is None:
            position = self._read(text, position)
        return position

    # -------------------------------------------------------------------------------------------- between tokens

    def _between(self, text: str, position: int) -> int:
        found = _SPACE.match(text, position)
        position = found.end() if found else position
        if position == len(text):
            return position
        character = text[position]
        if character in "{[(":
            return position + self._open(character)
        if character in "}])":
            return position + self._close(character)
        if character in ",:=":
            return position + self._separate(character)
        if character == '"' or (character == "'" and self._python):
            return position + self._open_string(character)
        return self._open_word(text, position)

    def _refuse(self, reason: str) -> int:
        """Stop reading with a fault; return 0, the number of characters that were read."""
        self.fault = reason
        return 0

    def _open(self, bracket: str) -> int:
        if self._frames and self._expected not in ("value", "value or end"):
            return self._refuse(f"expected a {self._expected}, found {bracket}")
        if (not self._frames and bracket not in ("{", "call")) or (bracket == "(" and not self._python):
            return self._refuse(f"a value cannot begin with {bracket} here")
        if len(self._frames) == MAX_DEPTH:
            return self._refuse(f"brackets are nested more than {MAX_DEPTH} levels deep")
        self._frames.append(_Frame(bracket))
        self._expected = "name or end" if self._frames[-1].is_named else "value or end"
        return 1

    def _close(self, bracket: str) -> int:
        if not self._frames or _CLOSING[self._frames[-1].bracket] != bracket or "end" not in self._expected:
            return self._refuse(f"unexpected {bracket}")
        self._add(self._frames.pop().value())
        return 1

    def _separate(self, character: str) -> int:
        frame = self._frames[-1] if self._frames else None
        if frame and character == "," and self._expected == "comma or end":
            frame.commas += 1
            once_more: Expected = "name" if frame.is_named else "value"
            or_end: Expected = "name or end" if frame.is_named else "value or end"
            self._expected = or_end if self._python else once_more
            return 1
        if frame and self._expected == "separator" and character == ("=" if frame.bracket == "call" else ":"):
            self._expected = "value"
            return 1
        return self._refuse(f"expected a {self._expected}, found {character}")

    def _add(self, value: Any) -> None:
        if not self._frames:
            self.value, self.ended = value, True
            return
        frame = self._frames[-1]
        if frame.is_named:
            frame.members[frame.name] = value
        else:
            frame.items.append(value)
        self._expected = "comma or end"

    def _add_name(self, name: str) -> None:
        frame = self._frames[-1]
        if name in frame.members and frame.bracket == "call":
            self._refuse(f"{name!r} is given twice")
        frame.name = name
        self._expected = "separator"

    # --------------------------------------------------------------------------------------------------- strings

    def _open_string(self, quote: str) -> int:
        is_name = self._expected.startswith("name") and self._frames[-1].bracket == "{"
        if not self._frames or not (is_name or self._expected.startswith("value")):
            return self._refuse(f"expected a {self._expected}, found a string")
        self._quote, self._token, self._quotes_seen = quote, [], 0
        self._read = self._in_opening if self._python else self._in_string
        return 1

    def _in_opening(self, text: str, position: int) -> int:
        """Read on after the first quote: two more open a triple-quoted string, one more ends an empty one."""
        if text[position] == self._quote[0]:
            self._quote += self._quote[0]
            if len(self._quote) == 3:
                self._read = self._in_string
            return position + 1
        if len(self._quote) == 2:
            self._end_string()
        else:
            self._read = self._in_string
        return position

    def _in_string(self, text: str, position: int) -> int:
        character = text[position]
        if self._escaped:
            self._escaped = False
            self._token.append(character)
            return position + 1
        if character == self._quote[0]:
            self._quotes_seen += 1
            self._token.append(character)
            if self._quotes_seen == len(self._quote):
                del self._token[-len(self._quote) :]
                self._end_string()
            return position + 1
        self._quotes_seen = 0
        if plain := _PLAIN[self._quote].match(text, position):
            self._token.append(plain[0])
            return plain.end()
        if character != "\\":
            return position + self._refuse(f"a raw {character!r} is not allowed in a string")
        self._escaped = True
        self._token.append(character)
        return position + 1

    def _end_string(self) -> None:
        self._read = self._between
        raw = "".join(self._token)
        try:
            text = raw if "\\" not in raw else _python_text(raw) if self._python else json.loads(f'"{raw}"')
        except ValueError as error:
            self._refuse(f"invalid string: {error}")
            return
        text = _replace_surrogates(text)
        if self._expected.startswith("name"):
            self._add_name(text)
        else:
            self._add(text)

    # ------------------------------------------------------------------------------------------ numbers and names

    def _open_word(self, text: str, position: int) -> int:
        is_name = self._expected.startswith("name") and self._frames[-1].bracket == "call"
        if not self._frames or not (is_name or self._expected.startswith("value")) or not _WORD.match(text, position):
            return position + self._refuse(f"expected a {self._expected}, found {text[position]!r}")
        self._token = []
        self._read = self._in_word
        return position

    def _in_word(self, text: str, position: int) -> int:
        if more := _WORD.match(text, position):
            self._token.append(more[0])
            return more.end()
        self._read = self._between
        word = "".join(self._token)
        if self._expected.startswith("name"):
            if _NAME.fullmatch(word):
                self._add_name(word)
            else:
                self._refuse(f"{word[:60]!r} is not a name")
        else:
            self._add_word(word)
        return position

    def _add_word(self, word: str) -> None:
        constants = _PYTHON_CONSTANTS if self._python else _JSON_CONSTANTS
        if word in constants:
            self._add(constants[word])
            return
        if not (_PYTHON_NUMBER if self._python else _JSON_NUMBER).fullmatch(word):
            self._refuse(f"{word[:60]!r} is not a value")
            return
        try:
            number = float(word) if any(mark in word for mark in ".eE") else int(word)
        except ValueError:  # exceeds Python's limit of digits
            number = math.inf
        if isinstance(number, float) and not math.isfinite(number):
            self._refuse("a number is too large")
        else:
            self._add(number)


def _python_text(raw: str) -> str:
    """Return a string literal's characters; unknown escapes are literal, as in Python."""

    def character(match: re.Match[str]) -> str:
        body = match[1]
        if body in _ESCAPED:
            return _ESCAPED[body]
        if body[0] in "01234567":
            return chr(int(body, 8))
        if body[0] not in "xuUN":
            return match[0]
        if len(body) == 1:
            raise ValueError(f"{match[0]} is an incomplete escape")
        return chr(int(body[1:], 16))

    return _PYTHON_ESCAPE.sub(character, raw)


def _replace_surrogates(text: str) -> str:
    """Return the text with surrogate pairs joined to one character, and lone surrogates replaced by U+FFFD."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
