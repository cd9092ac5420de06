"""Numbers within bounds: none that jsonschema refuses, one spelling of zero, and an end."""

from __future__ import annotations

import json
import re
from fractions import Fraction

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.schemas.numbers import Bounds, exact, integer_regex, number_regex, pointed_regex

KEYS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
NUMBERS = st.one_of(
    st.integers(-12, 12),
    st.sampled_from([-(2**63), 2**63 - 1, 2**53, 2**53 + 1, 10**15, 1e20, 1e23, -1e23, 0.1, 1e-7, -1e-9, 0.5, -0.5]),
    st.floats(-1000, 1000, allow_nan=False).map(lambda number: round(number, 3)),
)
SCHEMAS = st.dictionaries(st.sampled_from(KEYS), NUMBERS, min_size=1)


def bounds_of(schema: dict[str, float]) -> Bounds:
    bounds = Bounds()
    for key, number in schema.items():
        side = bounds.above if "inimum" in key else bounds.below
        bounds = side(exact(number), excluded=key.startswith("exclusive"))
    return bounds


def spellings_near(schema: dict[str, float]) -> list[str]:
    """The bounds and their neighbours, with up to 9 digits behind the point."""
    texts = ["-0", "0", "0.0", "-0.0", "1.0", "-1.5"]
    for number in schema.values():
        for digits in range(10):
            for step in (-1, 0, 1):
                scaled = int((exact(number) + Fraction(step, 10**digits)) * 10**digits)
                text = str(abs(scaled)).zfill(digits + 1)
                sign = "-" if scaled < 0 else ""
                texts.append(sign + (f"{text[:-digits]}.{text[-digits:]}" if digits else text))
    return texts


@given(SCHEMAS)
def test_no_spelling_beside_a_bound_is_taken_that_does_not_fit(schema: dict[str, float]) -> None:
    validator, bounds = jsonschema.Draft202012Validator(schema), bounds_of(schema)
    for regex in (integer_regex(bounds), number_regex(bounds), pointed_regex(bounds)):
        for text in spellings_near(schema) if regex else ():
            if re.fullmatch(regex or "", text):
                assert validator.is_valid(json.loads(text)), text
                assert not text.startswith("-0") or text.strip("-0.")


@given(SCHEMAS)
def test_every_whole_number_beside_a_bound_that_fits_is_taken(schema: dict[str, float]) -> None:
    validator, bounds = jsonschema.Draft202012Validator(schema), bounds_of(schema)
    regex = integer_regex(bounds) or "(?!)"
    for text in spellings_near(schema):
        if re.fullmatch("-?[1-9][0-9]{0,14}|0", text) and validator.is_valid(int(text)):
            assert re.fullmatch(regex, text)


@pytest.mark.parametrize(
    "schema, taken, refused",
    [
        ({"exclusiveMinimum": 0, "maximum": 0.5}, ["0.1", "0.5", "0.000000001"], ["0", "-0", "0.0", "0.6", "1"]),
        ({"exclusiveMinimum": 1, "maximum": 1.5}, ["1.1", "1.5"], ["1", "1.0", "1.6"]),
        ({"minimum": 0}, ["0", "0.5"], ["-0", "-0.0", "-1"]),
        ({"minimum": -(2**63), "maximum": 2**63 - 1}, [str(-(2**63)), str(2**63 - 1)], [str(2**63), str(-(2**63) - 1)]),
        ({"minimum": 2**53 + 1}, [str(2**53 + 1)], [str(2**53), str(2**53 - 1)]),
    ],
)
def test_bounds_are_exact(schema: dict[str, float], taken: list[str], refused: list[str]) -> None:
    regex = number_regex(bounds_of(schema)) or "(?!)"
    assert [text for text in [*taken, *refused] if re.fullmatch(regex, text)] == taken


@pytest.mark.parametrize("regex", [integer_regex(Bounds()), number_regex(Bounds()), pointed_regex(Bounds())])
def test_digits_end(regex: str) -> None:
    for text in ("1" * 400, "0." + "1" * 30, "1e5", "00", "01"):
        assert not re.fullmatch(regex, text)
