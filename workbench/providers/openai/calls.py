"""Tool calls parsed by a server, validated like those that the workbench parses itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import WorkbenchError
from workbench.prompts.texts import plain_json
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.literals import LiteralReader
from workbench.prompts.tools.parsing import random_call_id
from workbench.protocol import ToolCall, ToolCallDelta, ToolCallParseStatus
from workbench.providers.openai.wire import CallPart

_STATUS = ToolCallParseStatus


class CallReader:
    """Assembles calls from their parts: `feed` each part, then `close` once.

    A call ends when the next one begins or the answer ends. A call of an unknown tool, or with arguments that are not a
    JSON object or do not fit the tool's schema, is a ``failure`` with its text. Parts of other calls that arrive before
    a call's arguments are complete wait for its end, so that the deltas of two calls are never interleaved.
    """

    def __init__(self, tools: Toolset) -> None:
        self.calls = 0
        """Number of complete calls so far."""
        self.faults: list[str] = []
        self._tools = tools
        self._open: _PartialCall | None = None
        self._waiting: dict[int, list[CallPart]] = {}
        self._ended: set[int | None] = set()
        self._ids: set[str] = set()

    def feed(self, part: CallPart) -> Iterator[ToolCallDelta]:
        """Yield the deltas of one part."""
        name, arguments = part.function.name or "", _text(part.function.arguments)
        if self._open is not None:
            if self._must_wait(self._open, part):
                self._waiting.setdefault(part.index or 0, []).append(part)
                return
            if self._open.is_repeated_by(part, arguments):
                return
            if self._begins_another(self._open, part, name, arguments):
                yield from self._end()
        if self._open is None:
            if part.index in self._ended and not name:
                if arguments.strip():
                    self.faults.append("arguments arrived after the call was complete")
                return
            self._ended.discard(part.index)
            self._open = _PartialCall(part.index)
            yield ToolCallDelta(content="", parse_status=_STATUS.started)
        if delta := self._open.add(part.id, self._extended(self._open.name, name), arguments):
            yield ToolCallDelta(content=delta, parse_status=_STATUS.in_progress)

    def close(self) -> Iterator[ToolCallDelta]:
        """Yield the deltas of the open call, which ends here, and of those that waited for its end."""
        yield from self._end()
        while self._waiting:
            for part in self._waiting.pop(next(iter(self._waiting))):
                yield from self.feed(part)
            yield from self._end()

    def _end(self) -> Iterator[ToolCallDelta]:
        if self._open is None:
            return
        ended, self._open = self._open, None
        if ended.index is not None:
            self._ended.add(ended.index)
        call, fault = self._validated(ended)
        if call is not None:
            self.calls += 1
            self._ids.add(call.call_id)
            yield ToolCallDelta(content=call, parse_status=_STATUS.success)
        else:
            self.faults.append(fault)
            yield ToolCallDelta(content=ended.name + ended.arguments, parse_status=_STATUS.failure)

    def _must_wait(self, call: _PartialCall, part: CallPart) -> bool:
        return call.has_other_index(part) and (bool(self._waiting) or not call.is_complete)

    def _begins_another(self, call: _PartialCall, part: CallPart, name: str, arguments: str) -> bool:
        """Return whether a part begins another call, although many servers omit what would show it."""
        if call.has_other_index(part):
            return True
        if not name or not call.name:  # every call begins with its name
            return False
        if part.id and call.id and part.id != call.id and (None in (part.index, call.index) or call.is_complete):
            return True  # otherwise the index decides: some servers make a new id for every part
        if call.arguments:  # a name never continues after its arguments
            return name != call.name or (call.is_complete and bool(arguments.strip()))
        return name in self._tools.read and not name.startswith(call.name) and not self._begins_tool(call.name + name)

    def _extended(self, name: str, part: str) -> str:
        """Return the name after one more part of it; some servers repeat the name so far in every part."""
        is_tool = part == name and name in self._tools.read
        is_repeated = part.startswith(name) and (is_tool or not self._begins_tool(name + part))
        return part if is_repeated else name + part

    def _begins_tool(self, name: str) -> bool:
        return any(tool.startswith(name) for tool in self._tools.read)

    def _validated(self, ended: _PartialCall) -> tuple[ToolCall | None, str]:
        name = ended.name
        if name not in self._tools.read:
            return None, f"there is no tool {name[:64]!r}; the tools are {', '.join(self._tools.read)}"
        try:
            arguments: Any = plain_json(json.loads(ended.arguments or "{}"), "arguments")
        except (ValueError, RecursionError, WorkbenchError):
            return None, "the arguments of the call must be valid JSON"
        if not isinstance(arguments, dict):
            return None, "the arguments of the call must be one object"
        if fault := self._tools.read[name].validation_error(arguments, "arguments"):
            return None, fault
        # Some servers give every call the same id, which could not tell their results apart.
        call_id = ended.id if ended.id and ended.id not in self._ids else random_call_id()
        return ToolCall(call_id=call_id, tool_name=name, arguments=arguments), ""


@dataclass(slots=True)
class _PartialCall:
    """A call as far as it has arrived."""

    index: int | None
    id: str | None = None
    name: str = ""
    arguments: str = ""
    _reader: LiteralReader = field(default_factory=LiteralReader)

    @property
    def is_complete(self) -> bool:
        """Whether the arguments are a closed object."""
        return self._reader.ended

    def has_other_index(self, part: CallPart) -> bool:
        """Return whether a part has another index in the list of calls."""
        return self.index is not None and part.index is not None and part.index != self.index

    def is_repeated_by(self, part: CallPart, arguments: str) -> bool:
        """Return whether a part repeats the whole call, with which some servers end it."""
        is_same = part.id is not None and part.id == self.id and part.function.name == self.name
        return is_same and self.is_complete and arguments.strip() == self.arguments.strip()

    def add(self, call_id: str | None, name: str, arguments: str) -> str:
        """Add a part, with the whole name so far, and return the new text."""
        new_name = "" if self.name and self.arguments else name[len(self.name) :]
        self.id = self.id or call_id
        self.name += new_name
        self.arguments += arguments
        self._reader.feed(arguments)
        return new_name + arguments


def _text(arguments: str | dict[str, Any] | None) -> str:
    if isinstance(arguments, dict):  # some servers send the object itself
        return json.dumps(arguments, ensure_ascii=False)
    return arguments or ""
