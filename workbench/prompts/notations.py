"""Traced texts derived from other values: JSON, the output of ``str``, HTML, and joined texts."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from markupsafe import Markup

from workbench.prompts.provenance import OTHER, Traced, aligned, bare, escaped_text, is_mixed, marks_of, traced

_LEAF = f"leaf{secrets.token_hex(8)}"
_LEAVES = re.compile(rf"{_LEAF}(\d{{8}})")
_QUOTED_LEAVES = re.compile(rf"[\"']{_LEAF}(\d{{8}})[\"']")


def text_of(value: Any) -> Any:
    """Return the traced text of a value, as ``str`` does."""
    if isinstance(value, str):
        return str(value)
    if type(value) in {list, tuple, dict}:
        return dumped(value, repr)
    return aligned(str(value), value)


def dumped(value: Any, dump: Callable[[Any], str], write: Callable[[str], str] | None = None) -> Any:
    """Return a value in a notation such as JSON, which writes each text in it independently of the others.

    Args:
        write: writes a text; by default as the notation writes it alone, with quotes around it.
    """
    result = dump(bare(value))
    leaves: list[str] = []
    parts = (_LEAVES if write else _QUOTED_LEAVES).split(dump(_numbered(value, leaves)))
    for index in range(1, len(parts), 2):
        parts[index] = _written(leaves[int(parts[index])], write or dump, quotes=not write)
    if "".join(map(bare, parts)) != result:
        return aligned(result, value)
    return traced(result, "".join(marks_of(part) if isinstance(part, Traced) else OTHER * len(part) for part in parts))


def _written(text: str, write: Callable[[str], str], *, quotes: bool) -> Traced:
    whole, marks, quote = write(bare(text)), marks_of(text), OTHER * quotes
    if not is_mixed(text):
        return Traced(whole, (marks[:1] or OTHER) * len(whole))
    each = (mark * (len(write(one)) - 2 * quotes) for mark, one in zip(marks, str.__iter__(text), strict=True))
    return Traced(whole, quote + "".join(each) + quote)


def _numbered(value: Any, leaves: list[str]) -> Any:
    """Return the value with every text replaced by a number; names of an object are numbered in sorted order."""
    if isinstance(value, str):
        leaves.append(value)
        return f"{_LEAF}{len(leaves) - 1:08d}"
    if type(value) is dict:
        names = {name: _numbered(name, leaves) for name in sorted(name for name in value if isinstance(name, str))}
        return {names.get(name, name): _numbered(item, leaves) for name, item in value.items()}
    return type(value)(_numbered(item, leaves) for item in value) if type(value) in {list, tuple} else value


def to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> Any:
    """Return the value as JSON in the form that templates expect: without Jinja's escapes for HTML."""
    options = {"ensure_ascii": ensure_ascii, "indent": bare(indent), "separators": bare(separators)}
    return dumped(value, lambda item: json.dumps(item, sort_keys=sort_keys, **options))


def escaped(value: Any) -> Any:
    """Return the value's text with HTML's special characters escaped, unless it is marked as safe."""
    return escaped_text(value if hasattr(value, "__html__") else text_of(value))


def safe(value: Any) -> Any:
    text = text_of(value)
    return traced(Markup(bare(text)), marks_of(text))  # noqa: S704 - the template says so


def joined(parts: Iterable[Any]) -> Any:
    return Traced("", "").join(parts)


def str_join(parts: Iterable[Any]) -> Any:
    """Return the result of Jinja's operator ``~``."""
    return joined(map(text_of, parts))


def markup_join(parts: Iterable[Any]) -> Any:
    """Return the result of ``~`` with autoescape: if any operand is safe HTML, the others are escaped."""
    texts = [part if isinstance(part, str) else text_of(part) for part in parts]
    return safe(joined(map(escaped, texts))) if any(hasattr(text, "__html__") for text in texts) else joined(texts)


def join(items: Iterable[Any], between: Any, *, escape: bool) -> Any:
    """Return the items' texts with a separator; with `escape`, if any of them is safe HTML, the others are escaped."""
    if not escape:
        return joined([text_of(between)]).join(map(text_of, items))
    parts = [item if hasattr(item, "__html__") else text_of(item) for item in items]
    if hasattr(between, "__html__") or any(hasattr(part, "__html__") for part in parts):
        return escaped(between).join(parts)
    return joined([text_of(between)]).join(parts)
