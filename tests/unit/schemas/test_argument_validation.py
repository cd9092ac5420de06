"""Arguments fit a schema exactly where jsonschema says so."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.prompts.tools.param_types import JSON_TYPES
from workbench.schemas.argument_validation import ArgumentValidator
from workbench.schemas.patterns import matches

values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, 1.0, -2.5]) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
    max_leaves=6,
)
leaves = st.one_of(
    st.just({}),
    st.sampled_from(JSON_TYPES).map(lambda kind: {"type": kind}),
    st.fixed_dictionaries({"type": st.just("string"), "minLength": st.integers(0, 2), "maxLength": st.integers(2, 3)}),
    st.fixed_dictionaries({"type": st.just("number"), "minimum": st.integers(-3, 3), "exclusiveMaximum": st.just(3)}),
    st.lists(values, min_size=1, max_size=3).map(lambda some: {"enum": some}),
    values.map(lambda one: {"const": one}),
)
schemas = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some})
        | st.fixed_dictionaries({"type": st.just("array"), "items": inner, "maxItems": st.integers(0, 3)})
        | st.fixed_dictionaries(
            {
                "type": st.just("object"),
                "properties": st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
                "required": st.lists(st.sampled_from("xy"), max_size=1),
                "additionalProperties": inner | st.booleans(),
            }
        )
    ),
    max_leaves=5,
)


@given(schemas, values)
def test_a_value_fits_exactly_where_the_reference_says_so(schema: dict[str, Any], value: Any) -> None:
    fits = ArgumentValidator(schema).validation_error(value) is None
    assert fits == jsonschema.Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(
    "value, words",
    [
        ({}, "arguments: 'a' is a required property"),
        ({"a": [1, "x"]}, "arguments.a[1]: 'x' is not of type 'integer'"),
        ({"a": [], "b": 1}, "arguments: 'b' is unknown; known names: a"),
        ({"a": [1, 2, 3]}, "arguments.a: [1, 2, 3] is too long"),
        ([], "arguments: [] is not of type 'object'"),
    ],
)
def test_a_misfit_says_where_and_why(value: Any, words: str) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "integer"}, "maxItems": 2}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert ArgumentValidator(schema).validation_error(value) == words


@pytest.mark.parametrize(
    "pattern, text, found",
    [
        ("^a+$", "aaa", True),
        ("^a+$", "aab", False),
        (r"\d{5}", "no 12345.", True),
        ("^.$", "😀", True),
        ("^.$", "", False),
        (r"^a\\b\nc$", "a\\b\nc", True),
        ("^(a|aa)+$", "a" * 20_000 + "b", False),
    ],
)
def test_a_pattern_is_searched_for_without_backtracking(pattern: str, text: str, found: bool) -> None:
    assert matches(pattern, text) is found
