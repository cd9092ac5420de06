"""``[TOOL_CALLS] [{"name": "get_weather", "arguments": {"location": "Rome"}}]``, all calls in one list.

Read as a call is the tag at the beginning of a line, or anywhere before a ``{`` or ``[``.
"""

from __future__ import annotations

from workbench.prompts.tools.call_syntax import BRACKET, NEXT_OBJECT, SPACE, CallSyntax, Pattern, json_text

_TAG = "[TOOL_CALLS]"

SYNTAX = CallSyntax(
    head=lambda name: f'{{"name": {json_text(name)}, "arguments": ',
    tail="}",
    list_head=f"{_TAG} [",
    short_call_ids=True,
    probe=_TAG + ' [ { "name": "probe_tool", "arguments": { "probe_key"',
    first="[",
    opening=Pattern(_TAG),
    certain=(Pattern(_TAG, SPACE, BRACKET),),
    after_line_break=True,
    tag=_TAG,
    lists="perhaps",
    next_opening=NEXT_OBJECT,
)
