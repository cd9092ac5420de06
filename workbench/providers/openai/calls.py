"""Tool calls that a server has read from its model's answer, checked as our own parser checks those that it reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from workbench.errors import WorkbenchError
from workbench.prompts.texts import plain_json
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.parsing import random_call_id
from workbench.protocol import ToolCall, ToolCallDelta, ToolCallParseStatus
from workbench.providers.openai.wire import CallPart

_STATUS = ToolCallParseStatus


class CallReader:
    """Puts calls together of their parts: `feed` what comes, then `close` once.

    A call is whole when the next one begins or the answer ends. One of an unknown tool, or with arguments that are no
    JSON object or do not fit its schema, is a ``failure`` with its text.
    """

    def __init__(self, tools: Toolset) -> None:
        self.calls = 0
        """Whole calls so far."""
        self.faults: list[str] = []
        self._tools = tools
        self._index: int | None = None
        self._id: str | None = None
        self._name = ""
        self._arguments = ""
        self._open = False

    def feed(self, part: CallPart) -> Iterator[ToolCallDelta]:
        """The news of one part."""
        name, arguments = part.function.name or "", _text(part.function.arguments)
        if self._open and self._begins_another(part, name):
            yield from self.close()
        if not self._open:
            self._open, self._index, self._id, self._name, self._arguments = True, part.index, part.id, "", ""
            yield ToolCallDelta(content="", parse_status=_STATUS.started)
        self._id = self._id or part.id
        self._name += name
        self._arguments += arguments
        if name or arguments:
            yield ToolCallDelta(content=name + arguments, parse_status=_STATUS.in_progress)

    def close(self) -> Iterator[ToolCallDelta]:
        """The call that was on its way, which is whole now or never."""
        if not self._open:
            return
        self._open = False
        call, fault = self._read()
        if call is not None:
            self.calls += 1
            yield ToolCallDelta(content=call, parse_status=_STATUS.success)
        else:
            self.faults.append(fault)
            yield ToolCallDelta(content=self._name + self._arguments, parse_status=_STATUS.failure)

    def _begins_another(self, part: CallPart, name: str) -> bool:
        if part.index is not None and self._index is not None and part.index != self._index:
            return True
        return bool(part.id and self._id and part.id != self._id) or bool(part.index is None and name and self._name)

    def _read(self) -> tuple[ToolCall | None, str]:
        if self._name not in self._tools.read:
            return None, f"there is no tool {self._name[:64]!r}; the tools are {', '.join(self._tools.read)}"
        try:
            arguments: Any = plain_json(json.loads(self._arguments or "{}"), "arguments")
        except (ValueError, RecursionError, WorkbenchError):
            return None, "the arguments of a call are JSON"
        if not isinstance(arguments, dict):
            return None, "the arguments of a call are one object"
        if fault := self._tools.read[self._name].misfit(arguments, "arguments"):
            return None, fault
        return ToolCall(call_id=self._id or random_call_id(), tool_name=self._name, arguments=arguments), ""


def _text(arguments: str | dict[str, Any] | None) -> str:
    if isinstance(arguments, dict):  # some servers tell a whole call unquoted
        return json.dumps(arguments, ensure_ascii=False)
    return arguments or ""
