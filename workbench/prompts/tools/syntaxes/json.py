"""``{"type": "function", "name": "get_weather", "parameters": {"location": "Rome"}}``, each call on its own line.

Read as a call is an object that begins with ``"type": "function"``, or with ``"name"`` followed by ``"parameters"`` or
``"arguments"``. Any other object is prose.
"""

from __future__ import annotations

import re

from workbench.prompts.tools.call_syntax import SPACE, CallSyntax, Pattern, json_text

_COLON = (SPACE, ":", SPACE)
_TYPE = ('"type"', *_COLON, '"function"')
_NAMED = ("{", SPACE, '"name"', *_COLON, re.compile(r'"[^"\\{\n]{0,128}'), '"', SPACE, ",", SPACE)

SYNTAX = CallSyntax(
    head=lambda name: f'{{"type": "function", "name": {json_text(name)}, "parameters": ',
    tail="}",
    probe='{ "name": "probe_tool", "parameters": { "probe_key"',
    first="{",
    opening=Pattern(""),
    certain=(
        Pattern("{", SPACE, *_TYPE, SPACE, re.compile("[,}]")),
        Pattern(*_NAMED, '"parameters"', SPACE, ":"),
        Pattern(*_NAMED, '"arguments"', SPACE, ":"),
        Pattern(*_NAMED, *_TYPE),
    ),
)
