"""``<function=get_weather>{"location": "Rome"}</function>``, each call on its own line.

Read as a call is ``<function=NAME>`` of a known tool; of an unknown one at the beginning of a line or before a ``{``.
"""

from __future__ import annotations

import re

from workbench.prompts.tools.call_syntax import SPACE, CallSyntax, Pattern

_HEAD = ("<function=", re.compile(r"(?P<name>[^<>\n]{1,128})"), ">")

SYNTAX = CallSyntax(
    head="<function={}>".format,
    tail="</function>",
    probe='<function=probe_tool> { "probe_key"',
    first="<",
    opening=Pattern(*_HEAD),
    certain=(Pattern(*_HEAD, SPACE, "{"),),
    after_line_break=True,
    tag="<function=",
    closing_tag="</function>",
)
