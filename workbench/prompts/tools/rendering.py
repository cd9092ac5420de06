"""Tools and calls as text: instructions for models whose template takes no tools, and past calls in every syntax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from workbench.prompts.tools.call_syntax import json_text
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.syntaxes import SYNTAXES, ToolSyntax

Call: TypeAlias = tuple[str, dict[str, Any]]
"""Name and arguments."""


def instructions(tools: Toolset, syntax: ToolSyntax) -> str:
    """Return the text that describes the tools to a model, and how to call one."""
    described = "\n".join(map(json_text, descriptions(tools)))
    several = "in the same list" if SYNTAXES[syntax].list_head else "on separate lines"
    return (
        f"You can call the functions below. Each one is given with a JSON schema of its parameters:\n\n{described}\n\n"
        f"To call a function, reply with nothing but\n{SYNTAXES[syntax].example}\nSeveral calls go {several}. "
        "The results come in the next message. If no function helps, answer in words."
    )


def descriptions(tools: Toolset) -> list[dict[str, Any]]:
    """Return name, description and schema of each tool, as chat templates take them for a ``function``."""
    return [
        {
            "name": str(definition.tool_name),
            "description": definition.description or "",
            "parameters": tools.read[definition.tool_name].root,
        }
        for definition in tools.definitions
    ]


def calls_text(calls: Sequence[Call], syntax: ToolSyntax) -> str:
    """Return the calls of one turn as a model writes them."""
    form = SYNTAXES[syntax]
    write = _keywords if form.python else json_text
    return form.join(f"{form.head(name)}{write(arguments)}{form.tail}" for name, arguments in calls)


def result_text(name: str, content: str) -> str:
    """Return the result of a tool as a turn of the user."""
    return f"The function {name} returned:\n{content}"


AFTER_RESULTS = "Now answer the question."
"""Ends a turn with results. Without it, a small model repeats its call instead of using the result."""


def _keywords(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{key}={_python(value)}" for key, value in arguments.items())


def _python(value: Any) -> str:
    """Return a JSON value as a Python literal; JSON's escapes mean the same there."""
    if isinstance(value, list):
        return f"[{', '.join(map(_python, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json_text(key)}: {_python(item)}' for key, item in value.items())}}}"
    return repr(value) if value is None or isinstance(value, bool) else json_text(value)
