"""Tool calls of the echo: it calls the tool that the user mentions, with arguments made from its schema."""

from __future__ import annotations

import re
from typing import Any

from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.rendering import calls_text
from workbench.prompts.tools.syntaxes import ToolSyntax
from workbench.protocol import ToolChoice, ToolPromptFormat, UserMessage
from workbench.providers.requests import Request
from workbench.schemas.nodes import Items, Location, Members, Numbers, Texts, Values
from workbench.schemas.normal import Normaliser

_MIN_WORD = 5
"""Letters of a word; shorter ones, such as ``get`` and ``list``, occur in texts about anything."""


def called_text(tools: Toolset, request: Request) -> str | None:
    """Return a call to the first tool that the user mentions, else to the first one if required; None otherwise."""
    text = request.text
    is_user = isinstance(request.messages[-1], UserMessage)
    mentioned = [name for name in tools.read if is_user and _mentions(text, name)]
    required = list(tools.read) if request.tool_choice == ToolChoice.required else []
    for name in mentioned + required:
        schema = tools.read[name]
        arguments = _example(schema.normaliser(), (schema.root, {"type": "object"}), text)
        return calls_text([(name, arguments)], syntax_of(request))
    return None


def _mentions(text: str, name: str) -> bool:
    """Return whether a text has a tool's name or a longer word of it: "the weather" mentions ``get_weather``."""
    words = (word for word in re.split(r"[_.-]+", name.lower()) if len(word) >= _MIN_WORD)
    return name in text or any(word in text.lower() for word in words)


def syntax_of(request: Request) -> ToolSyntax:
    """Return the syntax in which a request wants calls."""
    return ToolSyntax((request.tool_prompt_format or ToolPromptFormat.json).value)


def _example(normaliser: Normaliser, location: Location, text: str) -> Any:
    """Return a small value that fits a location of a schema; a string is ``text`` itself."""
    node = next(iter(normaliser.nodes(location)), None) if location else Texts()
    match node:
        case Values(values):
            return values[0]
        case Numbers(bounds=bounds):
            least, most = bounds.whole()
            return least if bounds.low is not None else min(0, most)
        case Texts(longest=longest):
            return text[:longest]
        case Items(first=first, rest=rest, fewest=fewest):
            locations = [*first, *[rest] * fewest][:fewest]
            return [_example(normaliser, one, text) for one in locations]
        case Members(named=named, required=required):
            return {name: _example(normaliser, named[name], text) for name in named if name in required}
    return None
