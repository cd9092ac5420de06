"""Conversion of the type of a tool's parameter, as the caller writes it, to a schema."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias

from workbench.errors import InvalidRequestError

Schema: TypeAlias = dict[str, Any]

JSON_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")

MAX_SCHEMA_CHARACTERS = 16_384
MAX_TYPE_NAME_CHARACTERS = 200

_PYTHON_NAMES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "None": "null",
    "list": "array",
    "List": "array",
    "dict": "object",
    "Dict": "object",
}
_TYPE_NAMES: Mapping[str, Schema] = {
    **{name: {"type": name} for name in JSON_TYPES},
    **{name: {"type": kind} for name, kind in _PYTHON_NAMES.items()},
    "any": {},
    "Any": {},
}


def parameter_schema(param_type: str, field: str) -> Schema:
    """Return the schema of a parameter from the name of a type or from a JSON schema written as JSON.

    Names are JSON schema's (``integer``) or Python's (``int``, ``list[str]``, ``dict[str, float]``, ``int | None``,
    ``Literal["a", "b"]``).
    """
    text = param_type.strip()
    if text.startswith("{"):
        schema: Schema = _parsed(text, field)
        return schema
    allowed = f"a type ({', '.join(JSON_TYPES)}, list[int], int | None ...) or a JSON schema as JSON"
    if len(text) > MAX_TYPE_NAME_CHARACTERS:
        raise InvalidRequestError(field, param_type, allowed)
    try:
        return _of_annotation(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InvalidRequestError(field, param_type, allowed) from None


def _parsed(text: str, field: str) -> Any:
    if len(text) > MAX_SCHEMA_CHARACTERS:
        raise InvalidRequestError(field, text, f"a JSON schema of at most {MAX_SCHEMA_CHARACTERS:,} characters")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(field, text, f"valid JSON ({error})") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")


def _of_annotation(node: ast.expr) -> Schema:
    """Return the schema of a Python annotation; raise `ValueError` if it has none."""
    match node:
        case ast.Constant(value=None):
            return {"type": "null"}
        case ast.Name(id=name) if name in _TYPE_NAMES:
            return dict(_TYPE_NAMES[name])
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _any_of([left, right])
        case ast.Subscript(value=ast.Name(id=name), slice=inner):
            return _of_subscript(name, list(inner.elts) if isinstance(inner, ast.Tuple) else [inner])
    raise ValueError(ast.dump(node))


def _of_subscript(name: str, inner: list[ast.expr]) -> Schema:
    match name, inner:
        case "list" | "List" | "array", [items]:
            return {"type": "array", "items": _of_annotation(items)}
        case "dict" | "Dict", [ast.Name(id="str"), values]:
            return {"type": "object", "additionalProperties": _of_annotation(values)}
        case "Optional", [member]:
            return _any_of([member, ast.Constant(None)])
        case "Union", _:
            return _any_of(inner)
        case "Literal", _:
            return {"enum": [_literal(member) for member in inner]}
    raise ValueError(name)


def _any_of(members: list[ast.expr]) -> Schema:
    schemas = [_of_annotation(member) for member in members]
    return {"anyOf": [branch for schema in schemas for branch in schema.get("anyOf", [schema])]}


def _literal(node: ast.expr) -> str | int | None:
    value = ast.literal_eval(node)
    if value is not None and not isinstance(value, str | int):
        raise ValueError(value)
    return value
