"""OpenAI's tools as the protocol's: the JSON schema of the arguments goes along as it came."""

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
    """A JSON schema of an object."""
    strict: bool | None = None


class OpenAITool(RequestModel):
    """A function that the model may call."""

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
    """JSON."""


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
    """A call of the protocol as OpenAI tells it."""
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": call.call_id, "type": "function", "function": {"name": call.tool_name, "arguments": arguments}}


def callable_names(choice: NamedTool | AllowedTools, known: set[str]) -> list[str]:
    """The names of the tools that a choice leaves.

    Raises:
        InvalidRequestError: one of them is none of the ``known``.
    """
    if isinstance(choice, NamedTool):
        named = {"tool_choice.function.name": choice.function.name}
    else:
        place = "tool_choice.allowed_tools.tools"
        if not choice.allowed_tools.tools:
            raise InvalidRequestError(place, [], "a list of at least one of the request's tools")
        named = {f"{place}[{i}].function.name": one.function.name for i, one in enumerate(choice.allowed_tools.tools)}
    for field, name in named.items():
        if name not in known:
            raise InvalidRequestError(field, name, "the name of one of the tools")
    return list(named.values())


def tool_definition(tool: OpenAITool, field: str) -> ToolDefinition:
    """The protocol's form of a tool; its schema stays whole.

    Raises:
        InvalidRequestError: its parameters are no schema of an object, or of what cannot be kept.
    """
    function = tool.function
    if (kind := (function.parameters or {}).get("type", "object")) != "object":
        raise InvalidRequestError(f"{field}.function.parameters.type", kind, "object")
    schema = function.parameters or {"type": "object", "properties": {}, "additionalProperties": False}
    JsonSchema.of(schema, f"{field}.function.parameters")  # refused, if so, under the name that the caller knows
    return ToolDefinition(tool_name=function.name, description=function.description, json_schema=schema)
