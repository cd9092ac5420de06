"""Tools: their definitions, a model's calls, and the responses."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeAlias

from pydantic import Field, JsonValue, field_validator

from workbench.protocol.base import ProtocolModel
from workbench.protocol.content import InterleavedTextMedia


class BuiltinTool(StrEnum):
    """Built-in tools that Llama models can call without a description."""

    brave_search = "brave_search"
    wolfram_alpha = "wolfram_alpha"
    photogen = "photogen"
    code_interpreter = "code_interpreter"


class ToolChoice(StrEnum):
    """Whether the model may call a tool (``auto``) or must (``required``, enforced by constrained decoding)."""

    auto = "auto"
    required = "required"


class ToolPromptFormat(StrEnum):
    """Syntax of tools in the prompt and of calls in the answer, for models without their own syntax.

    ``json``: ``{"type": "function", "name": ..., "parameters": {...}}``; ``function_tag``:
    ``<function=name>{...}</function>``; ``python_list``: ``[name(argument=value)]``.
    """

    json = "json"
    function_tag = "function_tag"
    python_list = "python_list"


def known_tool(name: object) -> object:
    """Return the enum member for a built-in tool's name, and any other name unchanged."""
    return BuiltinTool(name) if isinstance(name, str) and name in BuiltinTool.__members__ else name


ToolArgument: TypeAlias = JsonValue
"""Any JSON value; the original protocol allows only plain values and lists and dicts of them."""


class ToolCall(ProtocolModel):
    """Tool call by the model. It is not executed; that is up to the caller."""

    call_id: str
    tool_name: BuiltinTool | str
    arguments: dict[str, ToolArgument]

    _known_tool = field_validator("tool_name", mode="before")(known_tool)


class ToolResponse(ProtocolModel):
    """Result of the tool call with that id."""

    call_id: str
    tool_name: BuiltinTool | str
    content: InterleavedTextMedia

    _known_tool = field_validator("tool_name", mode="before")(known_tool)


class ToolParamDefinition(ProtocolModel):
    """Parameter of a tool; ``param_type`` is a JSON schema type such as ``string`` or ``integer``."""

    param_type: str
    description: str | None = None
    required: bool | None = Field(default=True, strict=True)
    default: Any | None = None


class ToolDefinition(ProtocolModel):
    """Tool that the model may call, with its ``parameters`` by name, or one ``json_schema`` for all of them."""

    tool_name: BuiltinTool | str
    description: str | None = None
    parameters: dict[str, ToolParamDefinition] | None = None
    json_schema: dict[str, ToolArgument] | None = Field(default=None, exclude_if=lambda schema: schema is None)

    _known_tool = field_validator("tool_name", mode="before")(known_tool)
