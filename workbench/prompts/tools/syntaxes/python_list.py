"""``[get_weather(location="Rome"), other(x=1)]``, all calls in one list.

Read as a call is ``[NAME(`` of a known tool; of an unknown one if a keyword argument or ``)`` follows.
"""

from __future__ import annotations

import re

from workbench.prompts.tools.call_syntax import SPACE, CallSyntax, Pattern
from workbench.prompts.tools.definitions import ARGUMENT, NAME

_CALL = (SPACE, re.compile(f"(?P<name>{NAME.pattern})"), SPACE, "(")
_NO_SECOND_EQUALS = re.compile("[^=]")

SYNTAX = CallSyntax(
    head="{}(".format,
    tail=")",
    list_head="[",
    python=True,
    probe="[ probe_tool( probe_key=",
    first="[",
    opening=Pattern("[", *_CALL),
    certain=(Pattern("[", *_CALL, SPACE, ")"), Pattern("[", *_CALL, SPACE, ARGUMENT, SPACE, "=", _NO_SECOND_EQUALS)),
    lists="always",
    next_opening=Pattern(SPACE, ",", *_CALL),
)
