"""``[TOOL_CALLS] [{"name": "get_weather", "arguments": {"location": "Rome"}}]``, all calls in one list.

Read as a call is the tag at the beginning of a line, or anywhere before a ``{`` or ``[``.
"""

from __future__ import annotations

from workbench.prompts.tools.call_openings import BRACKET, NEXT_OBJECT, SPACE, CallOpening, Pattern
from workbench.prompts.tools.call_syntax import CallSyntax, json_text

_TAG = "[TOOL_CALLS]"

SYNTAX = CallSyntax(
    head=lambda name: f'{{"name": {json_text(name)}, "arguments": ',
    tail="}",
    list_head=f"{_TAG} [",
    short_call_ids=True,
    probe=_TAG + ' [ { "name": "probe_tool", "arguments": { "probe_key"',
    opening=CallOpening(
        first="[",
        head=Pattern(_TAG),
        certain=(Pattern(_TAG, SPACE, BRACKET),),
        after_line_break=True,
        tag=_TAG,
        lists="perhaps",
        next_head=NEXT_OBJECT,
    ),
)
