"""The conjunction of several schemas of one location, keyword by keyword."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

from workbench.schemas.documents import Schema
from workbench.schemas.negation import EXCLUDED, FOREIGN, FRACTION
from workbench.schemas.nodes import Location, Numbers, Texts
from workbench.schemas.numbers import Bounds, exact
from workbench.schemas.patterns import matches

Keywords: TypeAlias = dict[str, Any]
Alternative: TypeAlias = tuple[Keywords, ...]
"""Groups of keywords that all apply, without any alternatives among them."""


def is_among(value: Any, values: Sequence[Any]) -> bool:
    """Return whether a JSON value equals one of the others in JSON's sense: 1.0 is 1, and ``True`` is not."""
    return any(_same(value, other) for other in values)


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(_same, value, other))
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(_same(value[key], other[key]) for key in value)
    return bool(value == other)


def location_of(schemas: Iterator[Schema] | Sequence[Schema]) -> Location:
    """Return the location at which these schemas apply, without those that allow every value."""
    parts = [schema for schema in schemas if schema is not True and schema != {}]
    return (False,) if any(part is False for part in parts) else tuple(parts)


def item(own: Keywords, index: int) -> Schema:
    first: list[Schema] = own.get("prefixItems", [])
    rest: Schema = own.get("items", True)
    return first[index] if index < len(first) else rest


def member(own: Keywords, name: str) -> Schema:
    """Return the schema that keywords apply to the member of this name."""
    parts = [own["properties"][name]] if name in own.get("properties", ()) else []
    parts += [part for pattern, part in own.get("patternProperties", {}).items() if matches(pattern, name)]
    return _joined(parts, own)


def more_parts(own: Keywords, matched: tuple[str, ...]) -> Iterator[Schema]:
    yield _joined([own["patternProperties"][one] for one in matched if one in own.get("patternProperties", ())], own)


def _joined(parts: list[Schema], own: Keywords) -> Schema:
    if not parts:
        more: Schema = own.get("additionalProperties", True)
        return more
    return parts[0] if len(parts) == 1 else {"allOf": parts}


def counts(own: Sequence[Keywords], low: str, high: str) -> tuple[int, int | None]:
    least = max((int(one[low]) for one in own if low in one), default=0)
    return least, min((int(one[high]) for one in own if high in one), default=None)


def numbers(alternative: Alternative) -> Numbers:
    bounds, step = Bounds(), None
    for own in alternative:
        for key in ("minimum", "exclusiveMinimum"):
            if key in own:
                bounds = bounds.above(exact(own[key]), excluded=key != "minimum")
        for key in ("maximum", "exclusiveMaximum"):
            if key in own:
                bounds = bounds.below(exact(own[key]), excluded=key != "maximum")
        if "multipleOf" in own:
            step = _common_multiple(step, exact(own["multipleOf"]))
    is_integer = any(_is_integer(own.get("type")) for own in alternative)
    excluded = tuple(
        value
        for own in alternative
        for value in own.get(EXCLUDED, ())
        if isinstance(value, int | float) and not isinstance(value, bool)
    )
    return Numbers(is_integer, any(FRACTION in own for own in alternative), bounds, step, excluded)


def _is_integer(kind: Any) -> bool:
    kinds = [kind] if isinstance(kind, str) else kind or []
    return "integer" in kinds and "number" not in kinds


def _common_multiple(one: Fraction | None, other: Fraction) -> Fraction:
    if one is None:
        return other
    denominator = math.lcm(one.denominator, other.denominator)
    return Fraction(math.lcm(int(one * denominator), int(other * denominator)), denominator)


def texts(alternative: Alternative) -> Texts:
    shortest, longest = counts(alternative, "minLength", "maxLength")
    excluded = (value for own in alternative for value in own.get(EXCLUDED, ()) if isinstance(value, str))
    return Texts(
        shortest,
        longest,
        tuple(dict.fromkeys(own["pattern"] for own in alternative if "pattern" in own)),
        tuple(dict.fromkeys(own["format"] for own in alternative if "format" in own)),
        tuple(dict.fromkeys(pattern for own in alternative for pattern in own.get(FOREIGN, ()))),
        tuple(dict.fromkeys(excluded)),
    )
