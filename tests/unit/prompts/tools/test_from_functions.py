"""A function's signature and docstring are its definition, and its arguments come as what it is annotated with."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict

import jsonschema
import pytest
import typing_extensions
from pydantic import BaseModel, Field

from workbench.errors import InvalidRequestError
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.from_functions import function_tool, tool_definitions
from workbench.protocol import ToolDefinition


class Unit(enum.Enum):
    celsius = "c"
    fahrenheit = "f"


class Place(TypedDict):
    name: str
    zip: NotRequired[int]


class Stop(typing_extensions.TypedDict):  # inside a dataclass, Python 3.11 needs this one
    name: str
    zip: NotRequired[int]


@dataclasses.dataclass
class Trip:
    """A journey."""

    places: list[Stop]
    unit: Unit = Unit.celsius


class Person(BaseModel):
    name: str
    age: Annotated[int, Field(ge=0)] = 0


def every(
    text: str,
    count: int,
    share: float,
    flag: bool,
    choice: Literal["a", 1],
    unit: Unit,
    names: list[str],
    numbers: dict[str, float],
    perhaps: Optional[int],  # noqa: UP045 (what people write)
    either: int | str | None,
    place: Place,
    trip: Trip,
    person: Person,
    bounded: Annotated[int, Field(ge=0, description="from docs of the type")],
    pairs: tuple[int, ...],
    anything: Any,
    nested: list[dict[str, list[Place]]],
    optional: int = 3,
    *,
    named: Unit = Unit.fahrenheit,
) -> dict[str, Any]:
    """Take every type there is."""
    return dict(locals())


PLACE = {"type": "object", "properties": {"name": {"type": "string"}, "zip": {"type": "integer"}}, "required": ["name"]}
SCHEMAS: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "count": {"type": "integer"},
    "share": {"type": "number"},
    "flag": {"type": "boolean"},
    "choice": {"enum": ["a", 1]},
    "unit": {"enum": ["c", "f"], "type": "string"},
    "names": {"type": "array", "items": {"type": "string"}},
    "numbers": {"type": "object", "additionalProperties": {"type": "number"}},
    "perhaps": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    "either": {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]},
    "place": PLACE,
    "trip": {
        "type": "object",
        "properties": {
            "places": {"type": "array", "items": PLACE},
            "unit": {"enum": ["c", "f"], "type": "string", "default": "c"},
        },
        "required": ["places"],
        "description": "A journey.",
    },
    "person": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "default": 0}},
        "required": ["name"],
    },
    "bounded": {"type": "integer", "minimum": 0, "description": "from docs of the type"},
    "pairs": {"type": "array", "items": {"type": "integer"}},
    "anything": {},
    "nested": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "array", "items": PLACE}}},
    "optional": {"type": "integer", "default": 3},
    "named": {"enum": ["c", "f"], "type": "string", "default": "f"},
}


def written_out(part: Any, root: Any) -> Any:
    """With what references lead to in their places."""
    if isinstance(part, list):
        return [written_out(one, root) for one in part]
    if not isinstance(part, dict):
        return part
    rest = {key: written_out(one, root) for key, one in part.items() if key not in {"$ref", "$defs"}}
    if "$ref" not in part:
        return rest
    target = root
    for key in part["$ref"].split("/")[1:]:
        target = target[key]
    return written_out(target, root) | rest


def test_every_type_that_a_tool_can_take_has_its_schema() -> None:
    definition = function_tool(every).definition
    (schema,) = Toolset.of([definition]).schemas.values()
    assert {name: written_out(part, schema) for name, part in schema["properties"].items()} == SCHEMAS
    assert schema["required"] == [name for name in SCHEMAS if name not in {"optional", "named"}]
    assert (definition.tool_name, definition.description) == ("every", "Take every type there is.")


def test_plain_types_are_written_by_their_names() -> None:
    parameters = function_tool(every).definition.parameters
    assert parameters is not None
    assert [parameters[name].param_type for name in ("text", "count", "share", "flag")] == [
        *("string", "integer", "number", "boolean")
    ]


def test_arguments_that_fit_the_schema_arrive_as_what_they_are_annotated_with() -> None:
    place = {"name": "Rome", "zip": 12}
    arguments: dict[str, Any] = {
        "text": "é",
        "count": 3.0,
        "share": 1,
        "flag": True,
        "choice": "a",
        "unit": "f",
        "names": [],
        "numbers": {},
        "perhaps": None,
        "either": "x",
        "place": place,
        "trip": {"places": [place]},
        "person": {"name": "Bo"},
        "bounded": 0,
        "pairs": [1, 2],
        "anything": [{}],
        "nested": [{"a": [place]}],
    }
    tool = function_tool(every)
    jsonschema.validate(arguments, Toolset.of([tool.definition]).schemas["every"])
    got = tool(arguments)
    assert got == arguments | {
        "count": 3,
        "unit": Unit.fahrenheit,
        "trip": Trip([Stop(name="Rome", zip=12)]),
        "person": Person(name="Bo"),
        "pairs": (1, 2),
        "optional": 3,
        "named": Unit.fahrenheit,
    }
    assert isinstance(got["count"], int)


def google(city: str, days: int = 1, unit: Unit = Unit.celsius, *, other: bool = False) -> str:
    """Tell the weather.

    It may be wrong.

    Args:
        city (str): Where, as
            precisely as you can: a street, say.
        days: How many.
        unit (Unit, optional):
            In which unit.

    Returns:
        The weather.
    """
    return city


def sphinx(city: str, days: int = 1) -> str:
    """Tell the weather.

    :param str city: Where.
    :param days: How many.
    :returns: The weather.
    """
    return city


def bare(city: str, days: int = 1) -> str:
    return city


@pytest.mark.parametrize(
    "function,description,texts",
    [
        (
            google,
            "Tell the weather.\n\nIt may be wrong.",
            ["Where, as precisely as you can: a street, say.", "How many.", "In which unit.", None],
        ),
        (sphinx, "Tell the weather.", ["Where.", "How many."]),
        (bare, None, [None, None]),
    ],
)
def test_descriptions_come_from_the_docstring(
    function: Callable[..., Any], description: str | None, texts: list[str | None]
) -> None:
    definition = function_tool(function).definition
    assert definition.description == description
    assert [parameter.description for parameter in (definition.parameters or {}).values()] == texts


def test_methods_and_wrapped_functions_are_functions() -> None:
    class Shop:
        def price(self, item: str) -> float:
            return len(item) / 2

    @functools.wraps(bare)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return bare(*args, **kwargs)

    method, around = function_tool(Shop().price), function_tool(wrapped)
    assert (method.name, method({"item": "abc"})) == ("price", 1.5)
    assert (around.name, list(around.definition.parameters or ()), around({"city": "x"})) == (
        "bare",
        ["city", "days"],
        "x",
    )


def test_definitions_and_functions_may_stand_side_by_side() -> None:
    given = ToolDefinition(tool_name="given")
    defined = tool_definitions([given, bare])
    assert defined is not None
    assert [definition.tool_name for definition in defined] == ["given", "bare"]
    assert tool_definitions(None) is None


SENTINEL = object()


def with_sentinel(city: str = SENTINEL) -> None:  # type: ignore[assignment]
    """Its default is no value of its type."""


def test_a_default_that_json_has_not_only_makes_the_parameter_optional() -> None:
    parameters = function_tool(with_sentinel).definition.parameters
    assert parameters is not None
    assert (parameters["city"].required, parameters["city"].default) == (False, None)


class Recursive(TypedDict):
    inner: list[Recursive]


@dataclasses.dataclass
class Tree:
    children: list[Tree]


def no_annotation(x): ...  # type: ignore[no-untyped-def]
def variadic(*x: int) -> None: ...
def keywords(**x: int) -> None: ...
def positional(x: int, /) -> None: ...
def unknown(x: NoSuchType) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def recursive(x: Recursive) -> None: ...
def function(x: Callable[[], int]) -> None: ...
def instance(x: Exception) -> None: ...


def moment(x: dt.datetime, y: dt.date) -> None: ...
def tree(x: Tree) -> None: ...
def a_set(x: set[int]) -> None: ...
def pair(x: tuple[int, str]) -> None: ...


@pytest.mark.parametrize("function", [moment, tree, a_set, pair], ids=lambda function: str(function.__name__))
def test_whatever_pydantic_describes_keeps_all_that_it_says(function: Callable[..., Any]) -> None:
    (schema,) = Toolset.of([function_tool(function).definition]).schemas.values()
    text = json.dumps(schema)
    assert any(word in text for word in ('"date-time"', '"$ref"', '"uniqueItems"', '"prefixItems"'))


@pytest.mark.parametrize(
    "refused",
    [*(no_annotation, variadic, keywords, positional, unknown, recursive, function), instance],
    ids=lambda function: str(function.__name__),
)
def test_a_parameter_that_cannot_be_described_is_refused_by_name(refused: Callable[..., Any]) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^tools\[1\]\.{refused.__name__}\.x must be"):
        tool_definitions([bare, refused])


@pytest.mark.parametrize(
    "refused",
    [5, "bare", None, int, lambda: 1, functools.partial(bare, "x"), Unit],
    ids=["number", "text", "None", "int", "lambda", "partial", "enum"],
)
def test_what_is_no_named_function_is_refused(refused: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^tools\[0\] must be a named function, or a ToolDefinition"):
        tool_definitions([refused])
