"""What a schema may hold, what is noted of it, and what its grammar allows."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from tests.budget import some
from workbench.errors import InvalidRequestError
from workbench.schemas.schema import JsonSchema

FIELD = "response_format.json_schema"
BYTES = LLTokenizer("byte")


def allows(schema: JsonSchema, text: str) -> bool:
    matcher = LLMatcher(BYTES, LLMatcher.grammar_from_lark(schema.grammar), log_level=0)
    spelled = list(text.encode())
    return bool(matcher.try_consume_tokens(spelled) == len(spelled) and matcher.is_accepting())


CASES: list[tuple[Any, list[str], list[str]]] = [
    ({"$ref": "#/$defs/a%20b~1c%25", "$defs": {"a b/c%": {"const": 1}}}, ["1"], ["2"]),
    ({"$ref": "#name", "$defs": {"x": {"$anchor": "name", "type": "null"}}}, ["null"], ["1"]),
    ({"type": "object", "required": ["b"], "additionalProperties": {"const": 1}}, ['{"b": 1}'], ["{}", '{"b": 2}']),
    (
        {"type": "object", "patternProperties": {"^x-": {"const": 1}}, "additionalProperties": {"const": 2}},
        ['{"x-a": 1}', '{"a": 2, "x-": 1}', "{}"],
        ['{"x-a": 2}', '{"a": 1}'],
    ),
    (
        {"type": "object", "properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}},
        ["{}", '{"b": 1}', '{"a": 1, "b": 1}'],
        ['{"a": 1}'],
    ),
    ({"properties": {"a": {}}, "type": "object", "minProperties": 1, "maxProperties": 1}, ['{"a": 1}'], ["{}"]),
    ({"type": "object", "propertyNames": {"enum": ["k"]}, "minProperties": 1}, ['{"k": 1}'], ["{}", '{"l": 1}']),
    ({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False}, ["[1, 2]", "[]"], ["[2]"]),
    ({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True}, ["[2, 1]", "[]"], ["[1, 1]", "[1, 2, 1]"]),
    ({"type": "array", "items": {"enum": [1, 2]}, "contains": {"const": 2}}, ["[1, 2]"], ["[1]", "[]"]),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, ["0.5"], ["1"]),
    ({"allOf": [{"minimum": 1}, {"maximum": 3}], "type": "integer"}, ["1", "3"], ["0", "4"]),
    ({"type": "string", "not": {"enum": ["a", "b"]}}, ['"c"', '""', '"ab"'], ['"a"', '"b"']),
    ({"not": {"type": "string"}}, ["1", "null"], ['"a"']),
    ({"if": {"const": 1}, "then": {"type": "string"}, "else": {"const": 2}}, ["2"], ["1", "3"]),
    ({"type": "string", "format": "date"}, ['"2024-02-29"'], ['"2023-02-29"', '"0000-01-01"', '"2024-04-31"']),
    ({"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 1}, ["0.25", "1"], ["0.3", "1.25", "-0.25"]),
    ({"const": {"a": [1, None, True], "ü": "\n"}}, ['{"a": [1, null, true], "ü": "\\n"}'], ['{"a": [1, null]}']),
]


@pytest.mark.parametrize("root, taken, refused", CASES, ids=itertools.count())
def test_a_grammar_allows_what_fits_and_nothing_else(root: Any, taken: list[str], refused: list[str]) -> None:
    schema = JsonSchema.of(root, FIELD)
    assert [text for text in [*taken, *refused] if allows(schema, text)] == taken


@pytest.mark.parametrize(
    "notes",
    [
        {"title": "T", "description": "d", "default": {"not": "it"}, "examples": [1], "deprecated": True},
        {"readOnly": True, "writeOnly": False, "$comment": "c", "contentEncoding": "base64", "nullable": True},
        {"x-anything": {"type": "strin"}, "x-order": 1, "$schema": "https://json-schema.org/draft/2020-12/schema"},
    ],
)
def test_annotations_change_nothing(notes: dict[str, Any]) -> None:
    plain = JsonSchema.of({"type": "object", "properties": {"a": {"type": "null"}}}, FIELD)
    noted = JsonSchema.of({"type": "object", "properties": {"a": {"type": "null"} | notes}} | notes, FIELD)
    assert (noted.grammar, noted.notes) == (plain.grammar, ())


def test_what_has_no_effect_or_is_judged_late_is_noted() -> None:
    schema = JsonSchema.of({"type": "string", "format": "made-up", "maxlength": 3}, FIELD)
    assert len(schema.notes) == 2
    late = JsonSchema.of({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, FIELD)
    assert late.notes == ("'uniqueItems' is checked once the answer is complete",)
    assert "non-unique" in str(late.validation_error([1, 1], "answer"))


@pytest.mark.parametrize(
    "root, told",
    [
        ({"unevaluatedProperties": False}, "unevaluatedProperties"),
        ({"properties": {"a": {"$dynamicRef": "#a"}}}, "dynamicRef"),
        ({"dependencies": {"a": ["b"]}}, "dependentRequired"),
        ({"items": [{}]}, "items"),
        ({"not": {"multipleOf": 3}}, "multipleOf"),
        ({"$ref": "other.json"}, "references inside itself only"),
        ({"$ref": "#/$defs/x"}, "refers to"),
        ({"properties": {"a": {"$id": "x"}}}, "id"),
        ({"patternProperties": {"(?=a)": {}}}, "look-ahead"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "at least one value fits"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "at least one value fits"),
        ({"properties": {"a": {"allOf": [{"$ref": "#/properties/a"}]}}}, "not back to themselves"),
        ({"anyOf": "x"}, "anyOf"),
        ({"exclusiveMinimum": True}, "exclusiveMinimum"),
    ],
    ids=itertools.count(),
)
def test_what_cannot_be_kept_is_refused_by_name(root: Any, told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told) as caught:
        JsonSchema.of(root, FIELD)
    assert caught.value.field == FIELD


@pytest.mark.parametrize(
    "code", some([*range(0x20), 0x22, 0x2F, 0x5C, *range(0x7E, 0xA2), 0x2028, 0xFEFF, 0xFFFF, 0x10FFFF])
)
def test_any_character_may_be_a_value_and_the_name_of_a_property(code: int) -> None:
    text = chr(code)
    schema = JsonSchema.of({"type": "object", "properties": {text: {"const": text}}, "required": [text]}, FIELD)
    assert allows(schema, json.dumps({text: text}, ensure_ascii=False))
    by_pattern = JsonSchema.of({"type": "string", "pattern": f"^{re.escape(text)}$"}, FIELD)
    assert any(allows(by_pattern, json.dumps(text, ensure_ascii=is_ascii)) for is_ascii in (False, True))
