r"""Hermes and Qwen: ``<tool_call>\n{"name": "get_weather", "arguments": {"location": "Rome"}}\n</tool_call>``.

Read as a call is the tag at the beginning of a line, or anywhere before a ``{`` or ``[``.
"""

from __future__ import annotations

from workbench.prompts.tools.call_syntax import BRACKET, NEXT_OBJECT, SPACE, CallSyntax, Pattern, json_text

_TAG = "<tool_call>"

SYNTAX = CallSyntax(
    head=lambda name: f'{_TAG}\n{{"name": {json_text(name)}, "arguments": ',
    tail="}\n</tool_call>",
    probe=_TAG + ' { "name": "probe_tool", "arguments": { "probe_key"',
    first="<",
    opening=Pattern(_TAG),
    certain=(Pattern(_TAG, SPACE, BRACKET),),
    after_line_break=True,
    tag=_TAG,
    closing_tag="</tool_call>",
    lists="perhaps",
    next_opening=NEXT_OBJECT,
)
