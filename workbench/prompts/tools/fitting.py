"""Whether arguments fit a tool's schema, for schemas in the form of `workbench.prompts.tools.schemas`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from workbench.prompts.tools.patterns import matches
from workbench.prompts.tools.schemas import Schema, is_type


def misfit(value: Any, schema: Schema, path: str = "arguments") -> str | None:
    """Where and why a JSON value does not fit the schema, in words; None where it fits."""
    if "anyOf" in schema:
        reasons = [misfit(value, branch, path) for branch in schema["anyOf"]]
        return None if None in reasons else " or ".join(dict.fromkeys(filter(None, reasons)))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return None if any(_same(value, one) for one in values) else f"{path} must be one of {_quoted(values)}"
    if "type" not in schema:
        return None
    kind = schema["type"]
    if not is_type(value, kind):
        return f"{path} must be of type {kind}"
    return _MISFITS[kind](value, schema, path) if kind in _MISFITS else None


def _misfit_of_object(value: dict[str, Any], schema: Schema, path: str) -> str | None:
    properties, more = schema.get("properties", {}), schema.get("additionalProperties", {})
    for name in schema.get("required", ()):
        if name not in value:
            return f"{path}.{name} is required"
    for name, child in value.items():
        if name not in properties and more is False:
            return f"{path}.{_shortened(name)} is unknown; known are {_quoted(list(properties))}"
        if reason := misfit(child, properties.get(name, more), f"{path}.{_shortened(name)}"):
            return reason
    return None


def _misfit_of_array(value: list[Any], schema: Schema, path: str) -> str | None:
    if len(value) < schema.get("minItems", 0) or len(value) > schema.get("maxItems", len(value)):
        return f"{path} must have {_span(schema, 'minItems', 'maxItems')} items"
    items = schema.get("items", {})
    return next((reason for i, one in enumerate(value) if (reason := misfit(one, items, f"{path}[{i}]"))), None)


def _misfit_of_string(value: str, schema: Schema, path: str) -> str | None:
    if len(value) < schema.get("minLength", 0) or len(value) > schema.get("maxLength", len(value)):
        return f"{path} must have {_span(schema, 'minLength', 'maxLength')} characters"
    if "pattern" in schema and not matches(schema["pattern"], value):
        return f"{path} must match {_shortened(schema['pattern'])}"
    return None


def _misfit_of_number(value: float, schema: Schema, path: str) -> str | None:
    fits = (
        value >= schema.get("minimum", value)
        and value <= schema.get("maximum", value)
        and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
    )
    bounds = {key: schema[key] for key in schema if "imum" in key}
    return None if fits else f"{path} must be within {_quoted(bounds)}"


def _same(value: Any, other: Any) -> bool:
    """Equality of JSON: 1.0 is 1, and ``True`` is not."""
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(_same, value, other))
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(_same(value[key], other[key]) for key in value)
    return bool(value == other)


def _span(schema: Schema, low: str, high: str) -> str:
    return f"{schema.get(low, 0)} to {schema.get(high, 'any number of')}"


def _quoted(values: Any) -> str:
    return _shortened(json.dumps(values, ensure_ascii=False), 200)


def _shortened(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


_MISFITS: Mapping[str, Callable[[Any, Schema, str], str | None]] = {
    "object": _misfit_of_object,
    "array": _misfit_of_array,
    "string": _misfit_of_string,
    "integer": _misfit_of_number,
    "number": _misfit_of_number,
}
