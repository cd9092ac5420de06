"""Tools for the echo: it calls the tool that is named to it, with arguments made from the schema."""

from __future__ import annotations

import re
from typing import Any

from workbench.prompts.tools.definitions import Toolset, ToolSyntax
from workbench.prompts.tools.rendering import calls_text
from workbench.protocol import ToolChoice, ToolPromptFormat, UserMessage
from workbench.providers.requests import Request

_MIN_WORD = 5
"""Letters; shorter ones, such as ``get`` and ``list``, stand in texts about anything."""


def called_text(tools: Toolset, request: Request) -> str | None:
    """The answer that is a call: of the first tool that the last message of the user speaks of, or where a call is
    required of the first of all; None where there is nothing to call.
    """
    text = request.text
    asked = isinstance(request.messages[-1], UserMessage)
    named = [name for name in tools.schemas if asked and _speaks_of(name, text)]
    required = list(tools.schemas) if request.tool_choice == ToolChoice.required else []
    for name in named + required:
        return calls_text([(name, _example(tools.schemas[name], text))], syntax_of(request))
    return None


def _speaks_of(name: str, text: str) -> bool:
    """Whether a text holds a tool's name or a longer word of it: "the weather in Rome" is about ``get_weather``."""
    words = (word for word in re.split(r"[_.-]+", name.lower()) if len(word) >= _MIN_WORD)
    return name in text or any(word in text.lower() for word in words)


def syntax_of(request: Request) -> ToolSyntax:
    """How the request wants calls to be written."""
    return ToolSyntax((request.tool_prompt_format or ToolPromptFormat.json).value)


def _example(schema: dict[str, Any], text: str) -> Any:
    """A small value of the schema's type; a text is ``text`` itself."""
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], text)
    if "enum" in schema or "const" in schema:
        return schema.get("enum", [schema.get("const")])[0]
    kind = schema.get("type", "string")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _example(properties.get(name, {}), text) for name in schema.get("required", ())}
    if kind == "array":
        return [_example(schema.get("items", {}), text)] * schema.get("minItems", 0)
    plain = {"string": text[: schema.get("maxLength")], "boolean": False, "null": None}
    return plain[kind] if kind in plain else schema.get("minimum", 0)
