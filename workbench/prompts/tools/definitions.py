"""Checked definitions of the tools of one request: names, sizes, and the schema of each tool's arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from workbench.errors import InvalidRequestError
from workbench.prompts.texts import plain_json, valid_unicode
from workbench.prompts.tools.param_types import Schema, parameter_schema
from workbench.protocol import BuiltinTool, ToolDefinition, ToolParamDefinition
from workbench.schemas.moving import moved, pointed
from workbench.schemas.schema import JsonSchema

MAX_TOOLS = 128
MAX_PARAMETERS = 64
MAX_DESCRIPTION_CHARACTERS = 8_192
MAX_TOOLS_CHARACTERS = 262_144
"""Characters of all definitions together: names, descriptions, types and defaults."""

NAME = re.compile(r"""[^\W][^\s\x00-\x1f\x7f-\xa0<>()\[\]{}"'`\\,;=|]{0,127}""")
"""Allowed names of tools, which every call syntax can write without quoting them."""

ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
"""Allowed names of keyword arguments, and of parameters that are described one by one."""


def _one_text(name: str, meaning: str) -> dict[str, ToolParamDefinition]:
    return {name: ToolParamDefinition(param_type="string", description=meaning)}


_BUILTIN: Mapping[BuiltinTool, tuple[str, dict[str, ToolParamDefinition]]] = {
    BuiltinTool.brave_search: ("Search the web.", _one_text("query", "What to search for.")),
    BuiltinTool.wolfram_alpha: ("Compute or look up facts with Wolfram Alpha.", _one_text("query", "The question.")),
    BuiltinTool.photogen: ("Make an image from a description.", _one_text("query", "What the image shows.")),
    BuiltinTool.code_interpreter: ("Run Python code and return its output.", _one_text("code", "The program.")),
}


@dataclass(frozen=True, slots=True)
class Toolset:
    """The checked tools of one request, as returned by `Toolset.of`; false if there are none."""

    definitions: tuple[ToolDefinition, ...] = ()
    """Copies of the definitions; missing descriptions and parameters of built-in tools are filled in."""
    read: Mapping[str, JsonSchema] = field(default_factory=dict)
    """Schemas of the arguments, which are one object, by tool name."""

    @property
    def schemas(self) -> dict[str, Schema]:
        """The schemas as JSON values."""
        return {name: schema.root for name, schema in self.read.items()}

    def __len__(self) -> int:
        return len(self.definitions)

    @classmethod
    def of(cls, tools: Sequence[ToolDefinition] | None, field: str = "tools") -> Toolset:
        """Return the checked tools; raise `InvalidRequestError` for the first invalid one, with its path."""
        if tools is None:
            return cls()
        if not isinstance(tools, list | tuple) or len(tools) > MAX_TOOLS:
            found = f"{len(tools)} tools" if isinstance(tools, list | tuple) else tools
            raise InvalidRequestError(field, found, f"a list of at most {MAX_TOOLS} tools")
        definitions = tuple(_checked(tool, f"{field}[{index}]") for index, tool in enumerate(tools))
        schemas: dict[str, JsonSchema] = {}
        characters = 0
        for index, definition in enumerate(definitions):
            if (name := str(definition.tool_name)) in schemas:
                raise InvalidRequestError(f"{field}[{index}].tool_name", name, "a name that no other tool has")
            schemas[name] = _arguments(definition, f"{field}[{index}]")
            characters += len(f"{definition.tool_name}{definition.description}{schemas[name].text}")
            if characters > MAX_TOOLS_CHARACTERS:
                allowed = f"at most {MAX_TOOLS_CHARACTERS:,} characters in total, including descriptions and schemas"
                raise InvalidRequestError(field, f"{len(tools)} tools with more than that", allowed)
        return cls(definitions, MappingProxyType(schemas))


def is_optional(parameter: ToolParamDefinition) -> bool:
    """Return whether a call may leave the parameter out: it is not required, or it has a default."""
    return parameter.required is False or parameter.default is not None


def _checked(tool: object, field: str) -> ToolDefinition:
    """Return a checked copy of one definition, so that later changes of the original have no effect."""
    if not isinstance(tool, ToolDefinition):
        raise InvalidRequestError(field, tool, "a ToolDefinition")
    definition = ToolDefinition.model_validate(_fields(tool))  # pydantic does not check assignments after construction
    _check_name(definition.tool_name, NAME, f"{field}.tool_name")
    _check_description(definition.description, field)
    if definition.tool_name in _BUILTIN:
        description, parameters = _BUILTIN[BuiltinTool(definition.tool_name)]
        definition.description = definition.description or description
        if definition.parameters is None and definition.json_schema is None:
            definition.parameters = parameters
    parameters = definition.parameters or {}
    if len(parameters) > MAX_PARAMETERS:
        raise InvalidRequestError(
            f"{field}.parameters", f"{len(parameters)} parameters", f"at most {MAX_PARAMETERS} parameters"
        )
    for name, parameter in parameters.items():
        _check_name(name, ARGUMENT, f"{field}.parameters")
        _check_description(parameter.description, f"{field}.parameters.{name}")
    return definition


def _fields(tool: ToolDefinition) -> dict[str, Any]:
    """Return the fields two levels down as dictionaries: pydantic does not validate a model inside a model again."""
    parameters: Any = tool.parameters
    if isinstance(parameters, dict):
        parameters = {name: dict(one) if isinstance(one, BaseModel) else one for name, one in parameters.items()}
    return dict(tool) | {"parameters": parameters}


_NAMES = {
    NAME: "a name of at most 128 characters without white space, brackets, quotes, '=', '|', ',', ';' or '\\'",
    ARGUMENT: "a name of at most 64 letters, digits, '_', '-' and '.', beginning with a letter or '_'",
}


def _check_name(name: object, allowed: re.Pattern[str], field: str) -> None:
    if not isinstance(name, str) or not allowed.fullmatch(name):
        raise InvalidRequestError(field, name, _NAMES[allowed])
    valid_unicode(name, field)


def _check_description(description: str | None, field: str) -> None:
    if description is not None and len(description) > MAX_DESCRIPTION_CHARACTERS:
        raise InvalidRequestError(
            f"{field}.description", description, f"at most {MAX_DESCRIPTION_CHARACTERS:,} characters long"
        )
    valid_unicode(description or "", f"{field}.description")


def _arguments(definition: ToolDefinition, field: str) -> JsonSchema:
    """Return the schema of a tool's arguments; errors name the paths of its parts in the request."""
    if definition.json_schema is None:
        return JsonSchema.of(_described_one_by_one(definition, field), f"{field}.parameters")
    field = f"{field}.json_schema"
    if definition.parameters:
        raise InvalidRequestError(field, definition.json_schema, "absent when parameters are given")
    kind = definition.json_schema.get("type", "object")
    if kind != "object":
        raise InvalidRequestError(f"{field}.type", kind, "object")
    return JsonSchema.of({"type": "object"} | definition.json_schema, field)


def _described_one_by_one(definition: ToolDefinition, field: str) -> Schema:
    parameters = definition.parameters or {}
    return {
        "type": "object",
        "properties": {
            name: _parameter_schema(name, parameter, f"{field}.parameters.{name}")
            for name, parameter in parameters.items()
        },
        "required": [name for name, parameter in parameters.items() if not is_optional(parameter)],
        "additionalProperties": False,
    }


def _parameter_schema(name: str, parameter: ToolParamDefinition, field: str) -> Schema:
    valid_unicode(parameter.param_type, f"{field}.param_type")
    read = JsonSchema.of(parameter_schema(parameter.param_type, f"{field}.param_type"), f"{field}.param_type")
    schema = moved(read.root, f"#/properties/{pointed(name)}")
    if parameter.description:
        schema["description"] = parameter.description
    if parameter.default is not None:
        schema["default"] = plain_json(parameter.default, f"{field}.default")
        if reason := read.validation_error(schema["default"], "default"):
            raise InvalidRequestError(f"{field}.default", parameter.default, f"a value that fits its type ({reason})")
    return schema
