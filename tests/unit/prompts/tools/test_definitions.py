"""Tools are checked once, whole, and before any work: what passes can be rendered, enforced and checked."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InvalidRequestError
from workbench.prompts.tools.definitions import MAX_DESCRIPTION_CHARACTERS, MAX_PARAMETERS, MAX_TOOLS, Toolset
from workbench.prompts.tools.param_types import MAX_SCHEMA_CHARACTERS
from workbench.protocol import BuiltinTool, ToolDefinition, ToolParamDefinition


def tool(name: str = "get_weather", **parameters: Any) -> ToolDefinition:
    definitions = {
        key: value if isinstance(value, ToolParamDefinition) else ToolParamDefinition(param_type=value)
        for key, value in parameters.items()
    }
    return ToolDefinition(tool_name=name, description="d", parameters=definitions)


def schema_of(param_type: str) -> Any:
    return Toolset.of([tool(x=param_type)]).schemas["get_weather"]["properties"]["x"]


def test_the_schema_of_a_tool_has_all_its_parameters_and_closes_behind_them() -> None:
    tools = Toolset.of(
        [
            tool(
                location=ToolParamDefinition(param_type="string", description="A city."),
                unit=ToolParamDefinition(param_type='{"enum": ["C", "F"]}', default="C"),
                days=ToolParamDefinition(param_type="int", required=False),
            )
        ]
    )
    assert tools.schemas["get_weather"] == {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "A city."},
            "unit": {"enum": ["C", "F"], "default": "C"},
            "days": {"type": "integer"},
        },
        "required": ["location"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize("tools", [None, []])
def test_no_tools_are_an_empty_toolset(tools: Any) -> None:
    assert not Toolset.of(tools)


@pytest.mark.parametrize("name", list(BuiltinTool))
def test_a_built_in_tool_needs_no_description(name: BuiltinTool) -> None:
    tools = Toolset.of([ToolDefinition(tool_name=name)])
    parameter = "code" if name is BuiltinTool.code_interpreter else "query"
    assert tools.schemas[name]["required"] == [parameter]
    assert tools.definitions[0].description


def test_what_is_given_for_a_built_in_tool_is_kept() -> None:
    own = tool("brave_search", words="list[str]")
    tools = Toolset.of([own])
    assert tools.definitions[0] == own
    assert list(tools.schemas["brave_search"]["properties"]) == ["words"]


def test_what_the_caller_does_with_the_tools_later_changes_nothing() -> None:
    own = tool(x="int")
    tools = Toolset.of([own])
    assert own.parameters is not None
    own.parameters["x"].param_type = "string"
    own.parameters["y"] = ToolParamDefinition(param_type="int")
    assert tools.definitions == (tool(x="int"),)


@pytest.mark.parametrize(
    "param_type, schema",
    [
        ("integer", {"type": "integer"}),
        (" str ", {"type": "string"}),
        ("list[int]", {"type": "array", "items": {"type": "integer"}}),
        ("dict[str, list]", {"type": "object", "additionalProperties": {"type": "array"}}),
        ("int | None", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ("Optional[bool]", {"anyOf": [{"type": "boolean"}, {"type": "null"}]}),
        ('Literal["a", 1, None]', {"enum": ["a", 1, None]}),
        ("any", {}),
        ('{"type": ["array", "null"], "maxItems": 2}', {"type": ["array", "null"], "maxItems": 2}),
        (
            '{"$ref": "#/$defs/P", "title": "T", "$defs": {"P": {"properties": {"x": {"$ref": "#"}}}}}',
            {
                "$ref": "#/properties/x/$defs/P",
                "title": "T",
                "$defs": {"P": {"properties": {"x": {"$ref": "#/properties/x"}}}},
            },
        ),
        ('{"type": "string", "format": "x", "x-y": 1}', {"type": "string", "format": "x", "x-y": 1}),
    ],
)
def test_a_type_is_a_schema(param_type: str, schema: Any) -> None:
    assert schema_of(param_type) == schema


LONG = "x" * MAX_DESCRIPTION_CHARACTERS
NESTED_LISTS = '{"type": "array", "items": ' * 300 + "{}" + "}" * 300
DOUBLING = json.dumps(
    {"$ref": "#/$defs/d0", "$defs": {"d12": {}}}
    | {
        "$defs": {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]} for i in range(12)}
        | {"d12": {}}
    }
)


@pytest.mark.parametrize(
    "param_type",
    [
        *("", "foo", "list[", "list[foo]", "(" * 100_000, "list[" * 60 + "int" + "]" * 60, "lambda: 1", "Literal[1.5]"),
        *("{", "{'a': 1}", '{"type": "array", "items": ' * 100_000, NESTED_LISTS, DOUBLING),
        *('{"enum": []}', '{"enum": [NaN]}', '{"enum": [1e999]}', '{"type": "string", "enum": [1]}'),
        *('{"type": "strin"}', '{"type": []}', '{"type": 1}', '{"type": ["string", {}]}', '{"title": 1}'),
        *('{"oneOf": [{}, {}]}', '{"unevaluatedItems": false}', '{"anyOf": [{"type": "null"}], "type": "string"}'),
        *('{"$ref": "#/$defs/x"}', '{"$ref": "https://x.example/"}', '{"$ref": "#"}', '{"$ref": 5}', '{"$ref": []}'),
        *('{"type": "integer", "minimum": 2, "maximum": 1}', '{"type": "integer", "minimum": "1"}', '{"anyOf": []}'),
        *('{"type": "string", "minLength": -1}', '{"type": "string", "minLength": 2, "maxLength": 1}'),
        *('{"type": "string", "pattern": "("}', '{"type": "string", "pattern": "(?=a)"}', '{"pattern": 1}'),
        *('{"type": "object", "properties": []}', '{"type": "object", "required": [1]}'),
        *('{"type": "array", "items": [{}]}', '{"title": "\\ud800"}', f'{{"title": "{"x" * MAX_SCHEMA_CHARACTERS}"}}'),
    ],
    ids=itertools.count(),
)
def test_a_type_that_cannot_be_kept_is_refused_with_its_place(param_type: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^tools\[1\]\.parameters"):
        Toolset.of([tool("other"), tool(x=param_type)])


keywords = st.sampled_from(["type", "enum", "anyOf", "items", "properties", "required", "$ref", "minimum", "const"])
schema_like = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.sampled_from(["string", "object"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keywords, inner, max_size=3),
)


@given(st.text(max_size=40) | schema_like.map(json.dumps))
def test_whatever_the_type_it_is_a_schema_or_an_invalid_request(param_type: str) -> None:
    try:
        schema = schema_of(param_type)
    except InvalidRequestError:
        return
    json.dumps(schema, allow_nan=False)


@pytest.mark.parametrize("name", ["", "a b", "<|im_end|>", "a" * 129, "a\n", "f(x)", 'q"', "/a", "a\ud800"])
def test_a_name_that_no_syntax_could_carry_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^tools\[0\]\.tool_name"):
        Toolset.of([tool(name)])
    with pytest.raises(InvalidRequestError, match=r"^tools\[0\]\.parameters"):
        Toolset.of([tool(**{name: "int"})])


@pytest.mark.parametrize("name", ["mcp/server.do:it", "1a", "naïve", "a" * 128, "get-weather@2", "a$b"])
def test_a_name_may_have_other_characters_than_a_python_name(name: str) -> None:
    assert Toolset.of([tool(name)]).definitions[0].tool_name == name


WHOLE: dict[str, Any] = {
    "type": "object",
    "$defs": {"day": {"type": "string", "format": "date"}},
    "properties": {"when": {"$ref": "#/$defs/day"}, "größe": {"type": ["number", "null"], "multipleOf": 0.5}},
    "required": ["when", "not named"],
    "additionalProperties": {"type": "integer"},
    "minProperties": 2,
    "x-note": [1],
}


def test_a_whole_schema_stays_as_it_came() -> None:
    tools = Toolset.of([ToolDefinition(tool_name="f", json_schema=WHOLE)])
    assert tools.schemas["f"] == WHOLE
    assert tools.read["f"].validation_error({"when": "2024-01-01", "not named": 1}, "arguments") is None
    assert "not named" in str(tools.read["f"].validation_error({"when": "2024-01-01"}, "arguments"))


@pytest.mark.parametrize(
    "given, field",
    [
        ({"json_schema": {"type": "string"}}, r"tools\[0\]\.json_schema\.type"),
        ({"json_schema": {"properties": {"a": {"type": "strin"}}}}, r"tools\[0\]\.json_schema"),
        ({"json_schema": {}, "parameters": {"a": ToolParamDefinition(param_type="int")}}, r"tools\[0\]\.json_schema"),
    ],
)
def test_a_schema_that_is_none_of_arguments_is_refused_by_name(given: Any, field: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{field}"):
        Toolset.of([ToolDefinition(tool_name="f", **given)])


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"^tools\[1\]\.tool_name.*get_weather"):
        Toolset.of([tool(), tool(x="int")])


@pytest.mark.parametrize(
    "tools, field",
    [
        ([tool(f"t{index}") for index in range(MAX_TOOLS + 1)], r"tools must"),
        ([tool(**{f"p{index}": "int" for index in range(MAX_PARAMETERS + 1)})], r"tools\[0\]\.parameters must"),
        ([ToolDefinition(tool_name="f", description=LONG + "x")], r"tools\[0\]\.description"),
        ([ToolDefinition(tool_name=f"f{index}", description=LONG) for index in range(40)], r"tools must"),
        ([ToolDefinition(tool_name="f", description="\udc80")], r"tools\[0\]\.description"),
        ("get_weather", r"tools must"),
        ([{"tool_name": "f"}], r"tools\[0\] must"),
        ([None], r"tools\[0\] must"),
        ([tool(x=ToolParamDefinition(param_type="int", default="three"))], r"tools\[0\]\.parameters\.x\.default"),
        ([tool(x=ToolParamDefinition(param_type="any", default={1, 2}))], r"tools\[0\]\.parameters\.x\.default"),
        ([tool(x=ToolParamDefinition(param_type="any", default=math.nan))], r"tools\[0\]\.parameters\.x\.default"),
    ],
    ids=itertools.count(),
)
def test_what_is_too_much_or_no_tool_is_refused_by_name(tools: Any, field: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{field}"):
        Toolset.of(tools)


@pytest.mark.parametrize("assign", [{"tool_name": 5}, {"description": 5}, {"parameters": {"x": 5}}, {"parameters": []}])
def test_fields_assigned_after_construction_are_checked_too(assign: dict[str, Any]) -> None:
    changed = tool()
    for name, value in assign.items():
        setattr(changed, name, value)
    with pytest.raises(InvalidRequestError):
        Toolset.of([changed])
    changed = tool(x="int")
    assert changed.parameters is not None
    changed.parameters["x"].param_type = 5  # type: ignore[assignment]
    with pytest.raises(InvalidRequestError, match="param_type"):
        Toolset.of([changed])
