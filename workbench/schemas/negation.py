"""Negation of schemas, for ``not``, for the ``else`` of ``if``, and for all but one branch of ``oneOf``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.schemas.documents import ASSERTIONS, IN_PLACE, MADE, Document, Schema

EXCLUDED = f"{MADE}excluded"
"""Keyword: a list of values that are not allowed."""
FOREIGN = f"{MADE}foreign"
"""Keyword: a list of patterns that a text must not match."""
FRACTION = f"{MADE}fraction"
"""Keyword: true if a number must not be whole."""

MAX_DEPTH = 6
"""Levels of nested schemas that are negated."""

TYPES = ("null", "boolean", "number", "string", "array", "object")

_BOUNDS = {
    "minimum": "exclusiveMaximum",
    "exclusiveMinimum": "maximum",
    "maximum": "exclusiveMinimum",
    "exclusiveMaximum": "minimum",
}
_COUNTS = {
    "minLength": ("string", "maxLength", -1),
    "maxLength": ("string", "minLength", 1),
    "minItems": ("array", "maxItems", -1),
    "maxItems": ("array", "minItems", 1),
    "minProperties": ("object", "maxProperties", -1),
    "maxProperties": ("object", "minProperties", 1),
}
_WITHOUT_FORCE = frozenset({"minContains", "maxContains", "then", "else"})
"""Keywords that have an effect only beside another one."""


class CannotNegateError(Exception):
    """The negation cannot be written as a schema; the argument is the keyword."""


def negated(schema: Schema, document: Document, depth: int = 0) -> list[Schema]:
    """Return schemas such that a value fits one of them if and only if it does not fit `schema`.

    Raises:
        CannotNegateError: the negation cannot be written as schemas.
    """
    if isinstance(schema, bool):
        return [] if schema else [True]
    if depth > MAX_DEPTH:  # references may nest properties without end
        raise CannotNegateError("$ref")
    return [other for key, value in schema.items() for other in _opposite(key, value, schema, document, depth + 1)]


def _opposite(key: str, value: Any, schema: dict[str, Any], document: Document, depth: int) -> list[Schema]:
    """Return the negation of one keyword; empty if every value fits it."""
    if key in _SIMPLE:
        return _SIMPLE[key](value)
    if key in _BOUNDS:
        return [{"type": "number", _BOUNDS[key]: value}]
    if key in _COUNTS:
        kind, other, step = _COUNTS[key]
        return [{"type": kind, other: value + step}] if value + step >= 0 else []
    if key in _WITHOUT_FORCE and "if" not in schema and "contains" not in schema:
        return []
    if key in ASSERTIONS or key in IN_PLACE or key.startswith(MADE):
        return _opposite_of_parts(key, value, schema, document, depth)
    return []


def _opposite_of_parts(key: str, value: Any, schema: dict[str, Any], document: Document, depth: int) -> list[Schema]:
    match key:
        case "properties":
            return [
                {"type": "object", "required": [name], "properties": {name: other}}
                for name, child in value.items()
                for other in negated(child, document, depth)
            ]
        case "items" if "prefixItems" not in schema:
            return [{"type": "array", "contains": other} for other in negated(value, document, depth)]
        case "$ref":
            return negated(document.target(value), document, depth)
        case "allOf":
            return [other for one in value for other in negated(one, document, depth)]
        case "anyOf":
            return [{"allOf": [{"anyOf": negated(one, document, depth) or [False]} for one in value]}]
    raise CannotNegateError(key)


def _other_types(kinds: list[str]) -> list[Schema]:
    found: list[Schema] = [{"type": kind} for kind in TYPES if kind not in kinds]
    if "integer" in kinds and "number" not in kinds:
        found = [one for one in found if one != {"type": "number"}]
        found.append({"type": "number", FRACTION: True})
    return found


_SIMPLE: dict[str, Callable[[Any], list[Schema]]] = {
    "type": lambda kinds: _other_types([kinds] if isinstance(kinds, str) else kinds),
    "const": lambda value: [{EXCLUDED: [value]}],
    "enum": lambda values: [{EXCLUDED: values}],
    "pattern": lambda pattern: [{"type": "string", FOREIGN: [pattern]}],
    "required": lambda names: [{"type": "object", "properties": {name: False}} for name in names],
    "not": lambda schema: [schema],
}
