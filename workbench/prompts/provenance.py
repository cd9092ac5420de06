"""Texts that record the origin of each of their characters: the template itself, or a part of the request.

A chat template receives the texts of a conversation unchanged, so that comparing, splitting, cutting, joining and
escaping give their usual results: the characters are always computed by the operation itself, on plain texts. The
alternative of respelling the texts, so that none spells a control token, fails: a template that searches a text for
``</think>`` would need both spellings, for every way in which Jinja can search.

A text here carries a mark for each character, and every operation that derives texts from texts moves the marks along.
An operation without support for marks, or one that cannot trace them, marks its result as lost. So only the template's
own characters are ever marked as such: an unsupported operation may refuse a conversation, but cannot forge a token.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, SupportsIndex, TypeAlias

import markupsafe
from jinja2 import Environment
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from markupsafe import Markup

TEMPLATE = "t"
"""Mark of characters that the template has written itself."""
OTHER = "\U0010fffc"
"""Mark of the request outside of its messages: a tool's description, the brackets of a list."""
LOST = "\U0010fffd"
"""Mark of an unknown origin."""
_FIRST_MESSAGE = 0xF0000

_Change: TypeAlias = Callable[["Traced"], Any]


def message_mark(index: int) -> str:
    """Return the mark of the characters of a message."""
    return chr(min(_FIRST_MESSAGE + index, ord(OTHER)))


def message_index(mark: str) -> int | None:
    """Return the index of the message that a mark belongs to; None for other marks."""
    return ord(mark) - _FIRST_MESSAGE if _FIRST_MESSAGE <= ord(mark) < ord(OTHER) else None


class Traced(str):
    """A text with a mark for each of its characters.

    It compares and hashes as any text does. Jinja's sandbox hides its own attributes, which begin with an underscore.
    """

    __slots__ = ("_marks",)
    _marks: str

    def __new__(cls, text: str = "", marks: str | None = None) -> Self:
        self = str.__new__(cls, str.__str__(text))
        self._marks = marks if marks is not None and len(marks) == len(self) else LOST * len(self)
        return self

    def __str__(self) -> Traced:
        return self

    def __add__(self, other: Any) -> Any:
        return _concatenated(bare(self) + bare(other), (self, other))

    def __radd__(self, other: Any) -> Any:
        return _concatenated(bare(other) + bare(self), (other, self))

    def __mul__(self, count: Any) -> Any:
        return traced(bare(self) * count, self._marks * count)

    __rmul__ = __mul__

    def __mod__(self, values: Any) -> Any:
        operands = as_escaped(values) if isinstance(self, Markup) else values
        return formatted(bare(self) % bare(operands), self, lambda form: form % shadow(operands), values)

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        return type(self)(str.__getitem__(self, key), self._marks[key])

    def __iter__(self) -> Iterator[Any]:
        return map(Traced, str.__iter__(self), self._marks)

    def split(self, sep: Any = None, maxsplit: SupportsIndex = -1) -> Any:
        return _in_order(self, str.split(self, sep, maxsplit), sep and len(sep))

    def rsplit(self, sep: Any = None, maxsplit: SupportsIndex = -1) -> Any:
        return _in_order(self, str.rsplit(self, sep, maxsplit), sep and len(sep))

    def splitlines(self, keepends: bool = False) -> Any:
        return _in_order(self, str.splitlines(self, keepends), None)

    def partition(self, sep: str, /) -> Any:
        return tuple(_in_order(self, str.partition(self, sep), 0))

    def rpartition(self, sep: str, /) -> Any:
        return tuple(_in_order(self, str.rpartition(self, sep), 0))

    def strip(self, chars: str | None = None, /) -> Any:
        return _cut(self, str.strip(self, chars), len(self) - len(str.lstrip(self, chars)))

    def lstrip(self, chars: str | None = None, /) -> Any:
        return _cut(self, str.lstrip(self, chars), len(self) - len(str.lstrip(self, chars)))

    def rstrip(self, chars: str | None = None, /) -> Any:
        return _cut(self, str.rstrip(self, chars), 0)

    def removeprefix(self, prefix: str, /) -> Any:
        text = str.removeprefix(self, prefix)
        return _cut(self, text, len(self) - len(text))

    def removesuffix(self, suffix: str, /) -> Any:
        return _cut(self, str.removesuffix(self, suffix), 0)

    def replace(self, old: Any, new: Any, count: SupportsIndex = -1, /) -> Any:
        result = bare(self).replace(bare(old), bare(new), count)
        between = marks_of(escaped_text(new) if isinstance(self, Markup) else new)
        if not old:
            return traced(result, self._marks.replace("", between, count))
        return traced(result, between.join(map(marks_of, self.split(old, count))))

    def join(self, items: Iterable[Any], /) -> Any:
        parts = list(map(escaped_text, items) if isinstance(self, Markup) else items)
        return traced(bare(self).join(map(bare, parts)), self._marks.join(map(marks_of, parts)))


class TracedMarkup(Traced, Markup):
    """A traced text that is marked as safe HTML; texts joined to it are escaped."""

    __slots__ = ()

    def __str__(self) -> Traced:
        return Traced(self, self._marks)

    __repr__ = Markup.__repr__


def _moved(name: str) -> Callable[..., Any]:
    """Return a traced version of a method that pads the text."""

    def move(self: Traced, width: SupportsIndex, fillchar: str = " ", /) -> Any:
        fill = marks_of(fillchar) if isinstance(fillchar, Traced) else TEMPLATE
        return traced(getattr(bare(self), name)(width, bare(fillchar)), getattr(self._marks, name)(width, fill))

    return move


def _changed(name: str) -> Callable[..., Any]:
    """Return a traced version of a method that changes characters, most of them one by one."""

    def change(self: Traced, *values: Any, **named: Any) -> Any:
        operands = bare(values)
        result = getattr(bare(self), name)(*operands, **named)
        each = (
            [len(getattr(character, name)(*operands, **named)) for character in str.__iter__(self)]
            if is_mixed(self)
            else []
        )
        if each and sum(each) == len(result):
            return traced(result, "".join(map(operator.mul, self._marks, each)))
        return aligned(result, self, *values)

    return change


for _name in ("center", "ljust", "rjust"):
    setattr(Traced, _name, _moved(_name))
for _name in ("capitalize", "casefold", "expandtabs", "lower", "swapcase", "title", "translate", "upper", "zfill"):
    setattr(Traced, _name, _changed(_name))


# ------------------------------------------------------------------------------------------------- marks and values


def traced(text: Any, marks: str) -> Any:
    """Return the text with its marks; all are lost if their number differs from that of the characters."""
    return (TracedMarkup if isinstance(text, Markup) else Traced)(text, marks)


def marks_of(text: str) -> str:
    return text._marks if isinstance(text, Traced) else LOST * len(text)  # noqa: SLF001 - hidden from templates alone


def bare(value: Any) -> Any:
    """Return the value without marks, also in its lists and objects."""
    return _mapped(value, _bare_text)


def _bare_text(text: Traced) -> str:
    plain = str.__str__(text)
    return Markup(plain) if isinstance(text, Markup) else plain  # noqa: S704 - marked as it is


def shadow(value: Any) -> Any:
    """Return the value with all characters that are not the template's own replaced by their marks."""
    return _mapped(value, _shadow_of)


def as_escaped(value: Any) -> Any:
    """Return the value with HTML's special characters escaped in all texts that are not marked as safe."""
    return _mapped(value, escaped_text)


def _shadow_of(text: Traced) -> str:
    shown = "".join(map(_shadow, marks_of(text), str.__str__(text)))
    return Markup(shown) if isinstance(text, Markup) else shown  # noqa: S704 - marked as it is


def _shadow(mark: str, character: str) -> str:
    return character if mark == TEMPLATE else mark


def _mapped(value: Any, change: _Change) -> Any:
    if isinstance(value, Traced):
        return change(value)
    if type(value) is dict:
        return {_mapped(key, change): _mapped(item, change) for key, item in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(_mapped(item, change) for item in value)
    return value


def _all_marks(value: Any) -> Iterator[str]:
    """Yield the marks of every text in a value; `LOST` for objects that may contain texts out of reach."""
    if isinstance(value, str):
        yield marks_of(value)
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from _all_marks(pair)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _all_marks(item)
    elif value is not None and not isinstance(value, int | float | Environment | EvalContext | Context):
        yield LOST


def is_mixed(text: str) -> bool:
    """Return whether the characters of a text have more than one origin."""
    marks = marks_of(text)
    return marks != marks[:1] * len(marks)


def aligned(result: Any, *values: Any) -> Any:
    """Return the result of an operation on values, with the marks of the first text if they can be traced."""
    if not isinstance(result, str) or LOST not in marks_of(result):
        return result
    kinds = set().union(*map(set, _all_marks(values)))
    if len(kinds) <= 1 or not kinds & {TEMPLATE, LOST}:  # all are of one origin, or all of the request
        every = "".join(sorted(kinds)) or TEMPLATE
        return traced(result, (every * len(result))[: len(result)])
    text = next((value for value in values if isinstance(value, Traced)), Traced())
    if len(text) == len(result) and text.casefold() == result.casefold():
        return traced(result, marks_of(text))
    if "".join(str.split(text)) != "".join(str.split(result)):
        return result
    visible = (
        mark for mark, character in zip(marks_of(text), str.__iter__(text), strict=True) if not character.isspace()
    )
    return traced(result, "".join(TEMPLATE if character.isspace() else next(visible) for character in bare(result)))


# ------------------------------------------------------------------------------------------- texts out of other things


def _concatenated(result: Any, parts: Iterable[Any]) -> Any:
    shown = map(escaped_text, parts) if isinstance(result, Markup) else parts
    return traced(result, "".join(map(marks_of, shown)))


def _cut(text: Traced, part: str, start: int) -> Any:
    return type(text)(part, marks_of(text)[start : start + len(part)])


def _in_order(text: Traced, parts: Iterable[str], gap: int | None) -> list[Any]:
    """Return the parts of a split text with their marks.

    Args:
        gap: characters between two parts; None for white space of any length.
    """
    start, found = 0, []
    for part in parts:
        start = str.find(text, part, start) if gap is None else start
        found.append(_cut(text, part, start))
        start += len(part) + (gap or 0)
    return found


def formatted(result: Any, form: Traced, reformat: Callable[[str], str], values: Any) -> Any:
    """Return the result of a format with marks, which are found by formatting the values' marks in the same way."""
    marks = ""
    if set(marks_of(form)) <= {TEMPLATE}:
        try:
            marks = "".join(_mark_in(*pair) for pair in zip(reformat(bare(form)), result, strict=True))
        except (ValueError, TypeError, LookupError):  # `%d` takes no mark, `%r` writes more for one
            marks = ""
    return traced(result, marks) if len(marks) == len(result) else aligned(str(result), form, values)


def _mark_in(shown: str, character: str) -> str:
    if shown == character:
        return TEMPLATE if ord(shown) < _FIRST_MESSAGE else shown
    if ord(shown) < _FIRST_MESSAGE:
        raise ValueError(shown)
    return shown


def escaped_text(text: Any) -> Any:
    """Return a text with HTML's special characters escaped, unless it is marked as safe."""
    if not isinstance(text, str) or hasattr(text, "__html__"):
        return text
    result, marks = markupsafe.escape(bare(text)), marks_of(text)
    if len(result) == len(text):
        return traced(result, marks)
    each = zip(marks, bare(text), strict=True)
    return traced(result, "".join(mark * len(markupsafe.escape(character)) for mark, character in each))
