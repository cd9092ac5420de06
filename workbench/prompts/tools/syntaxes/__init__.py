"""The syntaxes of tool calls. To add one, write its module in this folder and name it in `ToolSyntax`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from importlib import import_module

from workbench.prompts.tools.call_syntax import CallSyntax


class ToolSyntax(StrEnum):
    """The syntaxes by the names of their modules, in the order in which they are looked for in a template's output.

    ``function_tag``, ``python_list`` and ``json`` are the protocol's prompt formats.
    """

    tool_call_tag = "tool_call_tag"
    mistral = "mistral"
    function_tag = "function_tag"
    python_list = "python_list"
    json = "json"


SYNTAXES: Mapping[ToolSyntax, CallSyntax] = {
    syntax: import_module(f"{__name__}.{syntax}").SYNTAX for syntax in ToolSyntax
}
