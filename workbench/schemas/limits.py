"""What a grammar may be before anybody tries to compile it: limits that cost next to nothing to check.

Nothing here recurses, for the input may be nested a million levels deep.
"""

from __future__ import annotations

import json
import math
from typing import Any
from urllib.parse import unquote

from workbench.errors import InvalidRequestError

MAX_BYTES = 128 * 1024
"""Of a grammar's text."""

MAX_DEPTH = 100
"""Levels of values within values in a JSON schema; one object type inside another takes two."""

MAX_REF_CHAIN = 32
"""References that lead to nothing but another reference."""

_MAX_VALUES = MAX_BYTES // 2
"""No JSON text of that size holds more."""


def check_size(text: object, field: str) -> None:
    """Raise `InvalidRequestError` for what is no text, or one that is empty or too large."""
    if not isinstance(text, str) or not text:
        raise InvalidRequestError(field, text, "a grammar of at least one character")
    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise _too_large(field, text[:100])


def schema_text(schema: object, field: str) -> str:
    """A JSON schema as text.

    Raises:
        InvalidRequestError: it is no object of JSON values, or larger, deeper or more self-referential than allowed.
    """
    if not isinstance(schema, dict):
        raise InvalidRequestError(field, schema, "a JSON schema: an object")
    _check_references(_references(schema, field), schema, field)
    text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
    check_size(text, field)
    return text


def _references(schema: dict[str, Any], field: str) -> list[str]:
    """Every ``$ref`` of a schema, each level and value counted on the way."""
    found: list[str] = []
    values = size = 0
    waiting: list[tuple[object, int]] = [(schema, 1)]
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if depth > MAX_DEPTH:
            raise InvalidRequestError(field, "a deeper schema", f"nested at most {MAX_DEPTH} levels deep")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise InvalidRequestError(field, list(value)[:10], "JSON: object keys must be strings")
            size += sum(map(len, value))
            waiting += [(part, depth + 1) for part in value.values()]
            if isinstance(reference := value.get("$ref"), str):
                found.append(reference)
        elif isinstance(value, list | tuple):
            waiting += [(part, depth + 1) for part in value]
        else:
            size += _checked(value, field)
        if size > MAX_BYTES or values + len(waiting) > _MAX_VALUES:
            raise _too_large(field, "a larger schema")
    return found


def _checked(value: object, field: str) -> int:
    """The length of a string; raises for what no JSON holds."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidRequestError(field, value, "valid Unicode, without half a surrogate pair")
        return len(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequestError(field, value, "JSON, which has neither NaN nor infinity")
    if isinstance(value, int) and value.bit_length() > 256:
        raise InvalidRequestError(field, "an integer of more digits", "JSON with integers of at most 77 digits")
    if value is not None and not isinstance(value, int | float):
        raise InvalidRequestError(field, value, "JSON: objects, lists, strings, numbers, booleans and null")
    return 0


def _check_references(references: list[str], schema: dict[str, Any], field: str) -> None:
    """Refuse references that only lead to one another, and those to nowhere."""
    following = {reference: _next(reference, schema, field) for reference in set(references)}
    for first in following:
        reference: str | None = first
        for _ in range(MAX_REF_CHAIN):
            reference = following.get(reference) if reference is not None else None
        if reference is not None:
            raise InvalidRequestError(
                field,
                f'{{"$ref": {first!r}}}',
                f"a schema whose references lead to a type within {MAX_REF_CHAIN} steps",
            )


def _next(reference: str, schema: dict[str, Any], field: str) -> str | None:
    """The reference that a pointer into the schema leads to, if it leads to one."""
    if reference != "#" and not reference.startswith("#/"):
        return None  # by name
    value = followed(reference, schema, field)
    following = value.get("$ref") if isinstance(value, dict) else None
    return following if isinstance(following, str) else None


def followed(reference: str, schema: dict[str, Any], field: str) -> Any:
    """Return what a pointer such as ``#/$defs/a~1b`` leads to; it may be written as in a URL.

    Raises:
        InvalidRequestError: it leads to nothing.
    """
    value: Any = schema
    for part in unquote(reference).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise InvalidRequestError(field, f'{{"$ref": {reference!r}}}', "a schema that contains what it refers to")
    return value


def _too_large(field: str, given: object) -> InvalidRequestError:
    return InvalidRequestError(field, given, f"at most {MAX_BYTES // 1024} KiB of text")
