"""Conversion of OpenAI's tools to the protocol's; the JSON schema of the arguments is passed on unchanged."""

from __future__ import annotations

import json
from typing import Any, Literal

from workbench.errors import InvalidRequestError
from workbench.protocol import ToolCall, ToolDefinition
from workbench.schemas.schema import JsonSchema
from workbench.server.bodies import RequestModel


class OpenAIFunction(RequestModel):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of an object."""
    strict: bool | None = None


class OpenAITool(RequestModel):
    """Function that the model may call."""

    type: Literal["function"]
    function: OpenAIFunction


class FunctionName(RequestModel):
    name: str


class NamedTool(RequestModel):
    """Tool that must be called."""

    type: Literal["function"]
    function: FunctionName


class AllowedNames(RequestModel):
    mode: Literal["auto", "required"]
    tools: list[NamedTool]


class AllowedTools(RequestModel):
    """Subset of the tools that may be called, and whether one must be."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedNames


class CalledFunction(RequestModel):
    name: str
    arguments: str
    """Arguments as a JSON object in a string."""


class OpenAIToolCall(RequestModel):
    """Earlier tool call of the model."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction

    def protocol_form(self, field: str) -> ToolCall:
        field = f"{field}.function.arguments"
        try:
            arguments = json.loads(self.function.arguments or "{}")
        except (ValueError, RecursionError):
            raise InvalidRequestError(field, self.function.arguments, "a string with a JSON object") from None
        if not isinstance(arguments, dict):
            raise InvalidRequestError(field, self.function.arguments, "a string with a JSON object")
        return ToolCall(call_id=self.id, tool_name=self.function.name, arguments=arguments)


def openai_call(call: ToolCall) -> dict[str, Any]:
    """Return a tool call in OpenAI's JSON."""
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": call.call_id, "type": "function", "function": {"name": call.tool_name, "arguments": arguments}}


def callable_names(choice: NamedTool | AllowedTools, known: set[str]) -> list[str]:
    """Return the names of the tools that a choice allows.

    Raises:
        InvalidRequestError: a name is not ``known``.
    """
    if isinstance(choice, NamedTool):
        named = {"tool_choice.function.name": choice.function.name}
    else:
        field = "tool_choice.allowed_tools.tools"
        if not choice.allowed_tools.tools:
            raise InvalidRequestError(field, [], "a list of at least one of the request's tools")
        named = {f"{field}[{i}].function.name": one.function.name for i, one in enumerate(choice.allowed_tools.tools)}
    for field, name in named.items():
        if name not in known:
            raise InvalidRequestError(field, name, "the name of one of the tools")
    return list(named.values())


def tool_definition(tool: OpenAITool, field: str) -> ToolDefinition:
    """Return the protocol's form of a tool, with its whole schema.

    Raises:
        InvalidRequestError: its parameters are not the schema of an object, or have unsupported keywords.
    """
    function = tool.function
    if (kind := (function.parameters or {}).get("type", "object")) != "object":
        raise InvalidRequestError(f"{field}.function.parameters.type", kind, "object")
    schema = function.parameters or {"type": "object", "properties": {}, "additionalProperties": False}
    JsonSchema.of(schema, f"{field}.function.parameters")  # raises with OpenAI's name of the field
    return ToolDefinition(tool_name=function.name, description=function.description, json_schema=schema)
