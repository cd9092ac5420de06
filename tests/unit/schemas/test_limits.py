"""The cheap limits: what is JSON and small passes unchanged, all else is refused by field, however it is nested."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InvalidRequestError
from workbench.schemas.limits import MAX_BYTES, MAX_DEPTH, MAX_REF_CHAIN, check_size, schema_text

FIELD = "response_format.json_schema"

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**60), 10**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    # A "$ref" has a meaning of its own.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), parts),
    max_leaves=20,
)


def nested(levels: int, make: Any) -> Any:
    value: Any = {"type": "integer"}
    for _ in range(levels):
        value = make(value)
    return value


def refused(schema: object) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        schema_text(schema, FIELD)
    assert caught.value.field == FIELD
    assert len(str(caught.value)) < 400
    return caught.value


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES))
def test_any_small_json_object_is_the_text_that_it_is(schema: dict[str, Any]) -> None:
    assert json.loads(schema_text(schema, FIELD)) == schema


@pytest.mark.parametrize("make", [lambda inner: {"items": inner}, lambda inner: [inner], lambda inner: (inner,)])
@pytest.mark.parametrize("levels", [MAX_DEPTH, 1_000, 200_000])
def test_nesting_beyond_the_limit_is_refused_at_any_depth(make: Any, levels: int) -> None:
    assert "levels" in str(refused({"a": nested(levels, make)}))


def test_nesting_up_to_the_limit_passes() -> None:
    schema = nested(MAX_DEPTH - 2, lambda inner: {"items": inner})
    assert json.loads(schema_text(schema, FIELD)) == schema


def test_a_schema_that_holds_itself_is_refused() -> None:
    schema: dict[str, Any] = {"type": "object"}
    schema["items"] = schema
    refused(schema)


def test_a_small_object_that_would_be_a_large_text_is_refused_before_it_is_written() -> None:
    """Ten lists of ten times the same list and so on are a text of 10**20 characters."""
    schema = nested(20, lambda inner: {"allOf": [inner] * 10})
    assert "KiB" in str(refused(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": ["x" * 2**20]},
        {"x" * 2**20: 1},
        {"enum": list(range(2**20))},
        {"properties": {f"p{index}": {"type": "string"} for index in range(30_000)}},
        {"enum": ["é" * (MAX_BYTES // 2)]},
    ],
)
def test_a_large_schema_is_refused(schema: dict[str, Any]) -> None:
    assert "KiB" in str(refused(schema))


@pytest.mark.parametrize(
    "schema",
    [
        None,
        True,
        "{}",
        [],
        {1: 2},
        {"a": {None: 1}},
        {"a": {1, 2}},
        {"a": b"bytes"},
        {"a": object()},
        {"a": math.nan},
        {"a": [math.inf]},
        {"a": 10**5000},
        {"a": "\ud800"},
    ],
)
def test_what_is_no_json_object_is_refused(schema: object) -> None:
    refused(schema)


# ------------------------------------------------------------------------------------------------ references


def chain(length: int, last: Any) -> dict[str, Any]:
    definitions: dict[str, Any] = {f"d{index}": {"$ref": f"#/$defs/d{index + 1}"} for index in range(length)}
    return {"$defs": definitions | {f"d{length}": last}, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        chain(1, {"$ref": "#/$defs/d0"}),
        chain(500, {"$ref": "#/$defs/d499"}),
        chain(MAX_REF_CHAIN + 1, {"type": "null"}),
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"$ref": "#/$defs/a~1b"}}},
        {"items": {"anyOf": [{"type": "null"}, {"$ref": "#/items/anyOf/1"}]}},
    ],
)
def test_references_that_lead_only_to_references_are_refused(schema: dict[str, Any]) -> None:
    assert "$ref" in str(refused(schema))


@pytest.mark.parametrize("reference", ["#/$defs/none", "#/properties", "#/items/7"])
def test_a_reference_to_nowhere_is_refused(reference: str) -> None:
    assert reference in str(refused({"items": [{"$ref": reference}]}))


@pytest.mark.parametrize(
    "schema",
    [
        chain(MAX_REF_CHAIN - 2, {"type": "null"}),
        {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
        {"$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "$ref": "#/$defs/tree"},
        {"properties": {"$ref": {"type": "string"}}},
    ],
)
def test_references_that_lead_to_a_type_pass(schema: dict[str, Any]) -> None:
    assert json.loads(schema_text(schema, FIELD)) == schema


def test_many_references_are_followed_once_each() -> None:
    """A thousand pointers at chains would take a million steps if each were followed to its end anew."""
    many = {"anyOf": [{"$ref": "#/$defs/d0"}] * 4000}
    schema_text(chain(MAX_REF_CHAIN - 2, {"type": "null"}) | {"items": many}, FIELD)


# ------------------------------------------------------------------------------------------------ texts


@pytest.mark.parametrize("text", ["", "x" * (MAX_BYTES + 1), "é" * (MAX_BYTES // 2 + 1), "\ud800" * MAX_BYTES])
def test_an_empty_or_a_large_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_size(text, "response_format.regex")
    assert caught.value.field == "response_format.regex"


def test_a_text_of_just_the_size_passes() -> None:
    check_size("x" * MAX_BYTES, "response_format.regex")
