"""Tools and calls as text: in our own words where a template knows no tools, and calls in every syntax.

What a call looks like here is what `workbench.prompts.tools.parsing` reads and `grammar` enforces.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.syntaxes import ToolSyntax

Call: TypeAlias = tuple[str, dict[str, Any]]
"""Name and arguments."""

_FORMS = {
    ToolSyntax.json: '{"type": "function", "name": "NAME", "parameters": {"PARAMETER": VALUE}}',
    ToolSyntax.function_tag: '<function=NAME>{"PARAMETER": VALUE}</function>',
    ToolSyntax.python_list: "[NAME(PARAMETER=VALUE)]",
    ToolSyntax.tool_call_tag: '<tool_call>\n{"name": "NAME", "arguments": {"PARAMETER": VALUE}}\n</tool_call>',
    ToolSyntax.mistral: '[TOOL_CALLS] [{"name": "NAME", "arguments": {"PARAMETER": VALUE}}]',
}
_IN_ONE_LIST = (ToolSyntax.python_list, ToolSyntax.mistral)


def instructions(tools: Toolset, syntax: ToolSyntax) -> str:
    """What a model is told about its tools: what there is, and how it calls one."""
    described = "\n".join(_json(description) for description in descriptions(tools))
    several = "in the same list" if syntax in _IN_ONE_LIST else "on separate lines"
    return (
        f"You can call the functions below. Each one is given with a JSON schema of its parameters:\n\n{described}\n\n"
        f"To call a function, reply with nothing but\n{_FORMS[syntax]}\nSeveral calls go {several}. "
        "The results come in the next message. If no function helps, answer in words."
    )


def descriptions(tools: Toolset) -> list[dict[str, Any]]:
    """Name, description and schema of each tool, as templates take it for a ``function``."""
    return [
        {
            "name": str(definition.tool_name),
            "description": definition.description or "",
            "parameters": tools.read[definition.tool_name].root,
        }
        for definition in tools.definitions
    ]


def calls_text(calls: Sequence[Call], syntax: ToolSyntax) -> str:
    """The calls of one turn as a model writes them."""
    match syntax:
        case ToolSyntax.json:
            return "\n".join(_json({"type": "function", "name": name, "parameters": given}) for name, given in calls)
        case ToolSyntax.function_tag:
            return "\n".join(f"<function={name}>{_json(arguments)}</function>" for name, arguments in calls)
        case ToolSyntax.python_list:
            return f"[{', '.join(_python_call(name, arguments) for name, arguments in calls)}]"
        case ToolSyntax.tool_call_tag:
            return "\n".join(f"<tool_call>\n{_named(*call)}\n</tool_call>" for call in calls)
        case ToolSyntax.mistral:
            return f"[TOOL_CALLS] [{', '.join(_named(*call) for call in calls)}]"


def result_text(name: str, content: str) -> str:
    """What a tool answered, as a turn of the user."""
    return f"The function {name} returned:\n{content}"


AFTER_RESULTS = "Now answer the question."
"""Ends a turn with results. Without it, a small model repeats its call instead of using the result."""


def _named(name: str, arguments: dict[str, Any]) -> str:
    return _json({"name": name, "arguments": arguments})


def _python_call(name: str, arguments: dict[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={_python(value)}' for key, value in arguments.items())})"


def _python(value: Any) -> str:
    """A JSON value as a Python literal; JSON's escapes mean the same there."""
    if isinstance(value, list):
        return f"[{', '.join(map(_python, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_json(key)}: {_python(item)}' for key, item in value.items())}}}"
    return repr(value) if value is None or isinstance(value, bool) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
