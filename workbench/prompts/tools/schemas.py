"""The plain form of JSON schema that tools have: a subset that is rendered, enforced and checked, all three alike.

Its nodes are ``{}`` (any value), ``{"anyOf": [...]}``, ``{"enum": [...]}``, ``{"const": ...}``, or have one ``type``.
References are written out, and an object with ``properties`` is closed unless it says otherwise. What the subset lacks
is refused by name: leaving it out would let through what the caller excluded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from workbench.errors import InvalidRequestError
from workbench.prompts.tools.patterns import fault

MAX_SCHEMA_DEPTH = 16
MAX_SCHEMA_NODES = 512
MAX_COUNT = 100_000
"""Of characters or items that a schema may speak of."""

Schema = dict[str, Any]

JSON_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_NOTES = frozenset({"title", "description", "default", "examples", "deprecated", "$comment"})
_CLASSES: Mapping[str, Any] = {
    "string": str,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
_LIMITS: Mapping[str, tuple[str, str]] = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}
_RANGES = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_KEYWORDS: Mapping[str, frozenset[str]] = {
    "string": frozenset({"minLength", "maxLength", "pattern"}),
    "integer": frozenset(_RANGES),
    "number": frozenset(_RANGES),
    "boolean": frozenset(),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "null": frozenset(),
}


def plain_schema(root: dict[str, Any], field: str) -> Schema:
    """A JSON schema in the plain form; refuses what the form does not have."""
    return _Reader(root, field).read()


def is_type(value: Any, kind: str) -> bool:
    """Whether a JSON value is of a JSON schema type; ``1.0`` is an integer there, ``True`` is not."""
    if kind == "integer":
        return is_type(value, "number") and (isinstance(value, int) or value.is_integer())
    return isinstance(value, _CLASSES[kind]) and (kind == "boolean" or not isinstance(value, bool))


class _Reader:
    """Reads one schema; counts its nodes, because references can make a small text a large schema."""

    def __init__(self, root: Any, field: str) -> None:
        self._root = root
        self._field = field
        self._nodes = 0

    def read(self) -> Schema:
        definitions = ("$defs", "definitions", "$schema")
        return self._node({key: value for key, value in self._root.items() if key not in definitions}, 1)

    def _node(self, schema: Any, depth: int) -> Schema:
        self._nodes += 1
        if depth > MAX_SCHEMA_DEPTH:
            self._refuse(f"{depth} levels", f"at most {MAX_SCHEMA_DEPTH} levels deep, and not recursive")
        if self._nodes > MAX_SCHEMA_NODES:
            self._refuse(f"more than {MAX_SCHEMA_NODES} parts", f"a schema of at most {MAX_SCHEMA_NODES} parts")
        schema = {} if schema is True else schema
        if not isinstance(schema, dict):
            self._refuse(schema, "a JSON schema object")
        return self._form(schema)(schema, depth)

    def _form(self, schema: Schema) -> Callable[[Schema, int], Schema]:
        """What reads a node of this form; the first that fits, in this order."""
        forms = {"$ref": self._referred, "anyOf": self._any_of, "enum": self._values, "const": self._values}
        named = next((read for key, read in forms.items() if key in schema), None)
        if named is not None:
            return named
        if isinstance(schema.get("type"), list):
            return self._split
        return self._typed if "type" in schema or schema.keys() - _NOTES else lambda one, _: self._notes(one, set())

    def _refuse(self, given: object, allowed: str) -> NoReturn:
        raise InvalidRequestError(self._field, given, allowed)

    def _notes(self, schema: Schema, keywords: set[str]) -> Schema:
        """The remarks of a node, after a look that nothing else stands in it but ``keywords``."""
        unknown = next((key for key in schema if key not in keywords and key not in _NOTES), None)
        if unknown is not None:
            here = ", ".join(sorted(keywords)) or "nothing else"
            self._refuse({unknown: schema[unknown]}, f"without the keyword {unknown!r}: here stands {here}")
        for key in ("title", "description"):
            if not isinstance(schema.get(key, ""), str):
                self._refuse({key: schema[key]}, f"a schema whose {key} is a text")
        return {key: value for key, value in schema.items() if key in _NOTES and key != "$comment"}

    def _referred(self, schema: Schema, depth: int) -> Schema:
        """What a reference points to, with the remarks that stand beside the reference."""
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return self._node(self._target(schema["$ref"]), depth + 1) | self._notes(rest, {"$ref"})

    def _target(self, reference: Any) -> Any:
        target = self._root
        for step in str(reference).removeprefix("#").split("/")[1:]:
            target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
        if not isinstance(reference, str) or not reference.startswith("#") or target is None:
            self._refuse({"$ref": reference}, "a schema whose references point into its own $defs")
        return target

    def _any_of(self, schema: Schema, depth: int) -> Schema:
        branches = schema["anyOf"]
        if not isinstance(branches, list) or not branches:
            self._refuse({"anyOf": branches}, "a schema whose anyOf is a list of schemas")
        return self._notes(schema, {"anyOf"}) | {"anyOf": [self._node(branch, depth + 1) for branch in branches]}

    def _split(self, schema: Schema, depth: int) -> Schema:
        """``{"type": ["string", "null"], "minLength": 1}`` as an ``anyOf`` in which each type has its own keywords."""
        kinds = self._kinds(schema)
        own = {"type"}.union(*(_KEYWORDS[kind] for kind in kinds))
        branches = [{"type": kind} | {key: schema[key] for key in schema.keys() & _KEYWORDS[kind]} for kind in kinds]
        return self._any_of({key: schema[key] for key in schema if key not in own} | {"anyOf": branches}, depth)

    def _kinds(self, schema: Schema) -> list[str]:
        kind = schema.get("type")
        kinds: list[Any] = kind if isinstance(kind, list) else [kind]
        if not kinds or any(one not in JSON_TYPES for one in kinds):
            self._refuse(schema, f"a schema with a type ({', '.join(JSON_TYPES)}), an enum, a const or an anyOf")
        return kinds

    def _values(self, schema: Schema, _: int) -> Schema:
        key = "enum" if "enum" in schema else "const"
        values = schema[key] if key == "enum" else [schema[key]]
        if not isinstance(values, list) or not values:
            self._refuse({key: values}, "a schema whose enum is a list of at least one value")
        kinds = self._kinds(schema) if "type" in schema else JSON_TYPES
        for value in values:
            if not any(is_type(value, kind) for kind in kinds):
                self._refuse({key: value}, f"a schema whose values are of its own type {schema['type']}")
        return self._notes(schema, {key, "type"}) | {key: schema[key]}

    def _typed(self, schema: Schema, depth: int) -> Schema:
        kind = self._kinds(schema)[0]
        node = self._notes(schema, {"type", *_KEYWORDS[kind]}) | {"type": kind}
        own = {key: schema[key] for key in schema if key in _KEYWORDS[kind]}
        match kind:
            case "object":
                return node | self._object(own, depth)
            case "array":
                items = {"items": self._node(own["items"], depth + 1)} if "items" in own else {}
                return node | self._counts(own, *_LIMITS[kind]) | items
            case "string":
                return node | self._counts(own, *_LIMITS[kind]) | self._pattern(own)
            case _:
                return node | self._range(own)

    def _object(self, own: Schema, depth: int) -> Schema:
        properties, required = own.get("properties", {}), own.get("required", [])
        more = own.get("additionalProperties", not properties)
        if not isinstance(properties, dict):
            self._refuse({"properties": properties}, "a schema whose properties are schemas by name")
        if not isinstance(required, list) or not all(isinstance(n, str) and n in properties for n in required):
            self._refuse({"required": required}, "a schema whose required names stand in its properties")
        known = {name: self._node(child, depth + 1) for name, child in properties.items()}
        node: Schema = {"properties": known} if known else {}
        node |= {"required": list(dict.fromkeys(required))} if required else {}
        return node | {"additionalProperties": more if more is False else self._node(more, depth + 1)}

    def _counts(self, own: Schema, low_key: str, high_key: str) -> Schema:
        counts = {key: own[key] for key in (low_key, high_key) if key in own}
        if not all(type(count) is int and 0 <= count <= MAX_COUNT for count in counts.values()):
            self._refuse(counts, f"a schema whose {low_key} and {high_key} are whole numbers, 0 to {MAX_COUNT:,}")
        if counts.get(low_key, 0) > counts.get(high_key, math.inf):
            self._refuse(counts, f"a schema whose {low_key} is at most its {high_key}")
        return counts

    def _range(self, own: Schema) -> Schema:
        if not all(type(bound) in (int, float) and math.isfinite(bound) for bound in own.values()):
            self._refuse(own, "a schema whose bounds are finite numbers")
        low = max((own[key] for key in _RANGES[:2] if key in own), default=-math.inf)
        high = min((own[key] for key in _RANGES[2:] if key in own), default=math.inf)
        if low > high:
            self._refuse(own, "a schema whose lower bound is at most its upper bound")
        return own

    def _pattern(self, own: Schema) -> Schema:
        if not isinstance(own.get("pattern", ""), str):
            self._refuse({"pattern": own["pattern"]}, "a schema whose pattern is a text")
        if "pattern" not in own:
            return {}
        if wrong := fault(own["pattern"]):
            self._refuse({"pattern": own["pattern"]}, f"a schema with a pattern that can be enforced ({wrong})")
        return {"pattern": own["pattern"]}
