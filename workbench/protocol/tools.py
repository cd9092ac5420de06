"""Tools: how they are described to a model, and what comes back when the model calls one."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeAlias

from pydantic import Field, JsonValue, field_validator

from workbench.protocol.base import ProtocolModel
from workbench.protocol.content import InterleavedTextMedia


class BuiltinTool(StrEnum):
    """Tools that Llama models know by name without a description."""

    brave_search = "brave_search"
    wolfram_alpha = "wolfram_alpha"
    photogen = "photogen"
    code_interpreter = "code_interpreter"


class ToolChoice(StrEnum):
    """Whether the model may call a tool (``auto``) or has to (``required``, guaranteed by constrained decoding)."""

    auto = "auto"
    required = "required"


class ToolPromptFormat(StrEnum):
    """How tools are written into the prompt and read from the answer, where a model has no format of its own.

    ``json``: ``{"type": "function", "name": ..., "parameters": {...}}``; ``function_tag``:
    ``<function=name>{...}</function>``; ``python_list``: ``[name(argument=value)]``.
    """

    json = "json"
    function_tag = "function_tag"
    python_list = "python_list"


def known_tool(name: object) -> object:
    """The enum member for a built-in tool's name; any other name as it is."""
    return BuiltinTool(name) if isinstance(name, str) and name in BuiltinTool.__members__ else name


ToolArgument: TypeAlias = JsonValue
"""Any JSON, nested as deep as it comes; the original's stops at lists and dicts of plain values."""


class ToolCall(ProtocolModel):
    """A call that the model asks for. Nothing here runs it: that is the caller's decision."""

    call_id: str
    tool_name: BuiltinTool | str
    arguments: dict[str, ToolArgument]

    _known_tool = field_validator("tool_name", mode="before")(known_tool)


class ToolResponse(ProtocolModel):
    """What a tool answered to the call of that id."""

    call_id: str
    tool_name: BuiltinTool | str
    content: InterleavedTextMedia

    _known_tool = field_validator("tool_name", mode="before")(known_tool)


class ToolParamDefinition(ProtocolModel):
    """One parameter of a tool; ``param_type`` is a JSON schema type name such as ``string`` or ``integer``."""

    param_type: str
    description: str | None = None
    required: bool | None = Field(default=True, strict=True)
    default: Any | None = None


class ToolDefinition(ProtocolModel):
    """A tool that the model may call; ``parameters`` by name, or ``json_schema``: all of them in one JSON schema."""

    tool_name: BuiltinTool | str
    description: str | None = None
    parameters: dict[str, ToolParamDefinition] | None = None
    json_schema: dict[str, ToolArgument] | None = Field(default=None, exclude_if=lambda schema: schema is None)

    _known_tool = field_validator("tool_name", mode="before")(known_tool)
