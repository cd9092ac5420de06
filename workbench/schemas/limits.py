"""Limits of grammars and schemas, cheap enough to check before a grammar is compiled.

No function here is recursive, because the input may be nested a million levels deep.
"""

from __future__ import annotations

import json
import math
from typing import Any
from urllib.parse import unquote

from workbench.errors import InvalidRequestError

MAX_BYTES = 128 * 1024
"""Bytes of a grammar's text."""

MAX_DEPTH = 100
"""Levels of nested values in a JSON schema; an object type inside another takes two."""

MAX_REF_CHAIN = 32
"""Length of a chain of references to nothing but another reference."""

_MAX_VALUES = MAX_BYTES // 2
"""Values that a JSON text of `MAX_BYTES` can contain at most."""


def check_size(text: object, field: str) -> None:
    """Raise `InvalidRequestError` unless the value is a text that is neither empty nor too large."""
    if not isinstance(text, str) or not text:
        raise InvalidRequestError(field, text, "a grammar of at least one character")
    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise _too_large(field, text[:100])


def schema_text(schema: object, field: str) -> str:
    """Return a JSON schema as text.

    Raises:
        InvalidRequestError: it is not an object of JSON values, or exceeds a limit of size, depth or references.
    """
    if not isinstance(schema, dict):
        raise InvalidRequestError(field, schema, "a JSON schema: an object")
    _check_references(_references(schema, field), schema, field)
    text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
    check_size(text, field)
    return text


def _references(schema: dict[str, Any], field: str) -> list[str]:
    """Return every ``$ref`` of a schema; raise `InvalidRequestError` if it is not JSON or exceeds a limit."""
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
    """Return the length of a string, or 0; raise `InvalidRequestError` for values that are not JSON."""
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
    """Raise `InvalidRequestError` for references that lead only to one another, or to nothing."""
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
    """Return the reference at the target of a pointer into the schema, if there is one."""
    if reference != "#" and not reference.startswith("#/"):
        return None  # an anchor or an id
    value = followed(reference, schema, field)
    following = value.get("$ref") if isinstance(value, dict) else None
    return following if isinstance(following, str) else None


def followed(reference: str, schema: dict[str, Any], field: str) -> Any:
    """Return the target of a pointer such as ``#/$defs/a~1b``, which may be percent-encoded.

    Raises:
        InvalidRequestError: the pointer has no target.
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
