"""Validation of values by jsonschema, with patterns that take linear time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.exceptions import best_match

from workbench.schemas.documents import Schema
from workbench.schemas.patterns import matches

_MAX_CHARACTERS = 200
"""Characters of an error's path, and of its message."""


class ArgumentValidator:
    """Validator of values against the schemas of one document.

    Args:
        root: the document, in which references are resolved.
    """

    def __init__(self, root: Schema) -> None:
        self._validator: Any = _Validator(root)

    def fits(self, value: Any, schema: Schema) -> bool:
        return bool(self._validator.evolve(schema=schema).is_valid(value))

    def validation_error(self, value: Any, path: str = "arguments") -> str | None:
        """Return where and why a JSON value does not fit the document; None if it fits."""
        error = best_match(self._validator.iter_errors(value))
        if error is None:
            return None
        location = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
        return f"{_shortened(path + location)}: {_shortened(error.message)}"


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not matches(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: dict[str, Any], value: Any, _: Any) -> Iterator[ValidationError]:
    for name, member in value.items() if isinstance(value, dict) else ():
        for pattern, schema in patterns.items():
            if matches(pattern, name):
                yield from validator.descend(member, schema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, more: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    for name, member in value.items() if isinstance(value, dict) else ():
        if name in schema.get("properties", ()) or any(
            matches(one, name) for one in schema.get("patternProperties", ())
        ):
            continue
        if more is False:
            known = ", ".join(schema.get("properties", ()))
            yield ValidationError(f"{name!r} is unknown; known names: {known or 'none'}")
        else:
            yield from validator.descend(member, more, path=name)


_Validator: Any = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {"pattern": _pattern, "patternProperties": _pattern_properties, "additionalProperties": _additional_properties},
)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 3]}..."
