"""Tools of every shape that a request may bring: the same ones for the same seed."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

from workbench.prompts.tools.definitions import Toolset
from workbench.protocol import ToolDefinition, ToolParamDefinition

_NAMES = ("location", "city", "count", "when", "is_open", "tags", "filter", "from", "limit", "unit-of.measure", "Größe")
_WORDS = ("celsius", "fahrenheit", "it's", 'say "hi"', "naïve", "a\\b", "two\nlines", "")
_VALUES: tuple[Any, ...] = (*_WORDS, 0, 1, 2.5, True, False, None, ["a", 1], {"k": [None]}, {"x": {}})


@cache
def tool_sets(count: int, seed: int = 0) -> tuple[Toolset, ...]:
    """Sets of 1 to 5 tools with up to 5 parameters, of all types, nested, with enums and limits, some optional."""
    return tuple(_tool_set(random.Random(f"{seed}.{index}")) for index in range(count))


def _tool_set(draw: random.Random) -> Toolset:
    return Toolset.of([_tool(draw, index) for index in range(draw.randint(1, 5))])


def _tool(draw: random.Random, index: int) -> ToolDefinition:
    names = draw.sample(_NAMES[:-1], draw.randint(0, 5))
    parameters = {name: _parameter(draw) for name in names}
    return ToolDefinition(tool_name=f"tool_{index}", description="Does something.", parameters=parameters)


def _parameter(draw: random.Random) -> ToolParamDefinition:
    plain = ("string", "integer", "number", "boolean", "list[str]", "int | None", "str", "dict[str, int]", "any")
    param_type = draw.choice(plain) if draw.random() < 0.4 else json.dumps(schema(draw, 2))
    return ToolParamDefinition(param_type=param_type, required=draw.choice([True, True, False]))


def schema(draw: random.Random, depth: int) -> dict[str, Any]:
    """A JSON schema of the kinds that tools may use."""
    kinds = ["string", "integer", "number", "boolean", "null", "enum", "const", "anyOf"]
    kind = draw.choice(kinds + ["array", "object"] * 3 if depth else kinds)
    node: dict[str, Any] = {"type": kind}
    match kind:
        case "string":
            node |= draw.choice([{}, {"maxLength": 12}, {"pattern": "^[a-z]{2,9}$"}, {"minLength": 1}])
        case "integer":
            node |= draw.choice([{}, {"minimum": 1}, {"minimum": -5, "maximum": 5}, {"exclusiveMaximum": 3}])
        case "number":
            node |= draw.choice([{}, {"minimum": 0, "maximum": 1}, {"exclusiveMinimum": 0.5}])
        case "enum":
            node = {kind: draw.sample(_VALUES, draw.randint(1, 4))}
        case "const":
            node = {kind: draw.choice(_VALUES)}
        case "anyOf":
            node = {kind: [schema(draw, 0) for _ in range(draw.randint(1, 3))]}
        case "array":
            limits = draw.choice([{}, {"maxItems": 3}, {"minItems": 1, "maxItems": 2}, {"minItems": 2}])
            node |= {"items": schema(draw, depth - 1)} | limits
        case "object":
            names = draw.sample((*_NAMES, 'a "b"', "<|im_end|>"), draw.randint(0, 4))
            node["properties"] = {name: schema(draw, depth - 1) for name in names}
            node["required"] = [name for name in names if draw.random() < 0.5]
    return node
