"""Reading of a JSON schema of draft 2020-12: its allowed contents, its references, and keywords without effect.

Annotations are always accepted: titles, defaults, formats that are not enforced, and keywords that are not part of the
draft. `Document.notes` lists the last two.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from workbench.errors import InvalidRequestError
from workbench.schemas.limits import followed, schema_text
from workbench.schemas.patterns import fault

if TYPE_CHECKING:
    from jsonschema.exceptions import SchemaError

Schema: TypeAlias = dict[str, Any] | bool

FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"})
"""Formats that are enforced; all others have no effect."""

ASSERTIONS = frozenset(
    {
        *("type", "const", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "pattern", "format", "minItems", "maxItems", "uniqueItems", "items"),
        *("prefixItems", "contains", "minContains", "maxContains", "properties", "patternProperties"),
        *("additionalProperties", "propertyNames", "required", "minProperties", "maxProperties"),
    }
)
"""Keywords that constrain a value or its parts."""

IN_PLACE = ("$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependentRequired")
"""Keywords that contain schemas of the same value."""

MADE = "\0"
"""Prefix of keywords that are not JSON schema's: those of `workbench.schemas.negation`."""

_ANNOTATIONS = frozenset(
    {
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly"),
        *("$comment", "$schema", "$vocabulary", "$anchor", "$id", "$defs", "definitions", "contentEncoding"),
        *("contentMediaType", "contentSchema", "nullable", "discriminator", "xml", "externalDocs"),
    }
)
_REFUSED = {
    "unevaluatedProperties": "additionalProperties",
    "unevaluatedItems": "items",
    "$dynamicRef": "$ref",
    "$dynamicAnchor": "$anchor",
    "$recursiveRef": "$ref",
    "dependencies": "dependentRequired or dependentSchemas",
    "additionalItems": "items with prefixItems",
}
ONE = frozenset(["additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else"])
LISTS = frozenset(["prefixItems", "allOf", "anyOf", "oneOf"])
BY_NAME = frozenset(["properties", "patternProperties", "dependentSchemas", "$defs", "definitions"])


class Document:
    """A checked schema and its references.

    Args:
        root: the schema, an object.
        field: the request's field that contains it, for errors.

    Raises:
        InvalidRequestError: it is not a schema of the draft, is too large, or has a keyword that cannot be enforced.
    """

    def __init__(self, root: object, field: str) -> None:
        self.field = field
        self.text = schema_text(root, field)
        self.root: dict[str, Any] = json.loads(self.text)
        self.notes: list[str] = []
        """Keywords and formats of the schema that have no effect."""
        self._anchors: dict[str, Schema] = {}
        if error := _schema_error(self.text):
            where = "".join(f"/{part}" for part in error.absolute_path)
            self.refuse(error.instance, f"a JSON schema of draft 2020-12 (at #{where}: {error.message[:200]})")
        for schema in _subschemas(self.root):
            self._check(schema)
        self._check_loops()

    def refuse(self, given: object, allowed: str) -> NoReturn:
        raise InvalidRequestError(self.field, given, allowed)

    def target(self, reference: str) -> Schema:
        if not reference.startswith("#"):
            reference = reference.removeprefix(str(self.root.get("$id", "")).rstrip("#")) or "#"
        if not reference.startswith("#") or (reference[1:2] not in ("", "/") and reference[1:] not in self._anchors):
            self.refuse({"$ref": reference}, "a schema with references inside itself only, such as #/$defs/NAME")
        if reference[1:] in self._anchors:
            return self._anchors[reference[1:]]
        found: Any = followed(reference, self.root, self.field)
        if not isinstance(found, dict | bool):
            self.refuse({"$ref": reference}, "a schema whose references point to schemas")
        return found

    def _check(self, schema: dict[str, Any]) -> None:
        for key, value in schema.items():
            if key in _REFUSED:
                self.refuse({key: value}, f"a schema without {key!r}; use {_REFUSED[key]} instead")
            if key.startswith(MADE):
                self.refuse({key: value}, "a schema without null characters in its keywords")
            if key not in ASSERTIONS and key not in IN_PLACE and key not in _ANNOTATIONS and not key.startswith("x-"):
                self._note(f"the keyword {key!r} is not part of JSON schema and has no effect")
        if "$id" in schema and schema is not self.root:
            self.refuse({"$id": schema["$id"]}, "a schema with $id only at its root")
        if "$anchor" in schema:
            self._anchors[schema["$anchor"]] = schema
        if (name := schema.get("format")) is not None and name not in FORMATS:
            self._note(f"the format {name!r} is not enforced")
        for pattern in (*schema.get("patternProperties", ()), *([schema["pattern"]] if "pattern" in schema else ())):
            if wrong := fault(pattern):
                self.refuse({"pattern": pattern}, f"a schema with patterns that can be enforced ({wrong[:200]})")

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _check_loops(self) -> None:
        """Refuse a schema that applies itself to the same value: its validation would not end."""
        done: set[int] = set()
        path: set[int] = set()
        waiting: list[tuple[Schema, bool]] = [(schema, False) for schema in _subschemas(self.root)]
        while waiting:
            schema, left = waiting.pop()
            if left:
                path.discard(id(schema))
                done.add(id(schema))
            elif id(schema) in path:
                self.refuse(schema, "a schema whose references lead to a type and not back to themselves")
            elif isinstance(schema, dict) and id(schema) not in done:
                path.add(id(schema))
                waiting.append((schema, True))
                waiting += [(part, False) for part in self._in_place(schema)]

    def _in_place(self, schema: dict[str, Any]) -> Iterator[Schema]:
        if "$ref" in schema:
            yield self.target(schema["$ref"])
        for key in IN_PLACE:
            yield from _children(schema, key)


@lru_cache(maxsize=256)
def _schema_error(text: str) -> SchemaError | None:
    """Return why a text is not a schema of the draft; cached, as a chat sends the same tools with every turn."""
    # Importing it takes a second in a Jupyter kernel, and most sessions read no schema.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(json.loads(text))
    except SchemaError as error:
        return error
    return None


def _children(schema: dict[str, Any], key: str) -> Iterator[Schema]:
    if key in schema and key in ONE:
        yield schema[key]
    elif key in LISTS:
        yield from schema.get(key, ())
    elif key in BY_NAME:
        by_name: Mapping[str, Schema] = schema.get(key, {})
        yield from by_name.values()


def _subschemas(root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schema and all schemas in it, except booleans."""
    waiting: list[Schema] = [root]
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, dict):
            yield schema
            for key in (*ONE, *LISTS, *BY_NAME):
                waiting += _children(schema, key)
