"""The syntaxes of tool calls."""

from __future__ import annotations

from enum import StrEnum


class ToolSyntax(StrEnum):
    """How calls are written in the answer: the protocol's three formats, and two that templates bring along."""

    json = "json"
    """``{"type": "function", "name": "get_weather", "parameters": {"location": "Rome"}}``"""
    function_tag = "function_tag"
    """``<function=get_weather>{"location": "Rome"}</function>``"""
    python_list = "python_list"
    """``[get_weather(location="Rome"), other(x=1)]``"""
    tool_call_tag = "tool_call_tag"
    """``<tool_call>\\n{"name": "get_weather", "arguments": {"location": "Rome"}}\\n</tool_call>`` (Hermes, Qwen)"""
    mistral = "mistral"
    """``[TOOL_CALLS] [{"name": "get_weather", "arguments": {"location": "Rome"}}]``"""
