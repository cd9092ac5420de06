"""A syntax of tool calls as data: how calls are written, how one opens in a streamed answer, how a template shows one.

The instructions to the model, the text of past calls, the grammar of required calls, the parser and the probe of chat
templates all read the same object, so that what a model is shown is what it may write and what is read from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from workbench.prompts.tools.call_openings import CallOpening


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """One way to write tool calls."""

    head: Callable[[str], str]
    """The text of a call before its arguments, from the tool's name."""
    tail: str
    """The text of a call behind its arguments."""
    opening: CallOpening
    """How the parser recognizes a call, and what may follow one."""
    probe: str
    """The beginning of the call in the output of a probed chat template; a space matches any white space."""
    list_head: str = ""
    """Opens the list that holds all calls of a turn; empty if each call stands on lines of its own."""
    python: bool = False
    """Whether arguments are Python's keyword arguments instead of a JSON object."""
    short_call_ids: bool = False
    """Whether templates accept no call ids but those of nine letters and digits."""

    @property
    def example(self) -> str:
        """A call with ``NAME``, ``PARAMETER`` and ``VALUE`` in place of its parts."""
        arguments = "PARAMETER=VALUE" if self.python else '{"PARAMETER": VALUE}'
        return self.join([f"{self.head('NAME')}{arguments}{self.tail}"])

    def join(self, calls: Iterable[str]) -> str:
        """Return the calls of one turn as one text."""
        return f"{self.list_head}{', '.join(calls)}]" if self.list_head else "\n".join(calls)

    def is_shown(self, rendered: str) -> bool:
        """Return whether the output of a probed chat template contains the probe's call in this syntax."""
        return bool(re.search(r"\s*".join(map(re.escape, self.probe.split())), rendered))


def json_text(value: object) -> str:
    """Return a JSON value on one line, with characters beyond ASCII as they are."""
    return json.dumps(value, ensure_ascii=False)
