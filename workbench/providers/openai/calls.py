"""Tool calls that a server has read from its model's answer, checked as our own parser checks those that it reads."""

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
    """Puts calls together of their parts: `feed` what comes, then `close` once.

    A call is whole when the next one begins or the answer ends. One of an unknown tool, or with arguments that are no
    JSON object or do not fit its schema, is a ``failure`` with its text. What comes of other calls before the arguments
    of this one are whole waits for its end, so that the news of two calls never mix.
    """

    def __init__(self, tools: Toolset) -> None:
        self.calls = 0
        """Whole calls so far."""
        self.faults: list[str] = []
        self._tools = tools
        self._open: _Written | None = None
        self._waiting: dict[int, list[CallPart]] = {}
        self._ended: set[int | None] = set()
        self._ids: set[str] = set()

    def feed(self, part: CallPart) -> Iterator[ToolCallDelta]:
        """The news of one part."""
        name, arguments = part.function.name or "", _text(part.function.arguments)
        if self._open is not None:
            if self._has_to_wait(self._open, part):
                self._waiting.setdefault(part.index or 0, []).append(part)
                return
            if self._open.is_said_again(part, arguments):
                return
            if self._begins_another(self._open, part, name, arguments):
                yield from self._end()
        if self._open is None:
            if part.index in self._ended and not name:
                if arguments.strip():
                    self.faults.append("arguments arrived after the call was complete")
                return
            self._ended.discard(part.index)
            self._open = _Written(part.index)
            yield ToolCallDelta(content="", parse_status=_STATUS.started)
        if news := self._open.add(part.id, self._named(self._open.name, name), arguments):
            yield ToolCallDelta(content=news, parse_status=_STATUS.in_progress)

    def close(self) -> Iterator[ToolCallDelta]:
        """The call that was on its way, which is whole now or never, and those that waited for its end."""
        yield from self._end()
        while self._waiting:
            for part in self._waiting.pop(next(iter(self._waiting))):
                yield from self.feed(part)
            yield from self._end()

    def _end(self) -> Iterator[ToolCallDelta]:
        if self._open is None:
            return
        written, self._open = self._open, None
        if written.index is not None:
            self._ended.add(written.index)
        call, fault = self._read(written)
        if call is not None:
            self.calls += 1
            self._ids.add(call.call_id)
            yield ToolCallDelta(content=call, parse_status=_STATUS.success)
        else:
            self.faults.append(fault)
            yield ToolCallDelta(content=written.name + written.arguments, parse_status=_STATUS.failure)

    def _has_to_wait(self, call: _Written, part: CallPart) -> bool:
        return call.is_elsewhere(part) and (bool(self._waiting) or not call.is_whole)

    def _begins_another(self, call: _Written, part: CallPart, name: str, arguments: str) -> bool:
        """Whether a part belongs to a call of its own, though many servers leave out what would say so."""
        if call.is_elsewhere(part):
            return True
        if not name or not call.name:  # every call begins with its name
            return False
        if part.id and call.id and part.id != call.id and (None in (part.index, call.index) or call.is_whole):
            return True  # else the place says more: some servers make a new id for every part
        if call.arguments:  # behind them no name goes on
            return name != call.name or (call.is_whole and bool(arguments.strip()))
        return name in self._tools.read and not name.startswith(call.name) and not self._begins_tool(call.name + name)

    def _named(self, begun: str, piece: str) -> str:
        """The name with one more piece; a server that says the name so far in every part says it from its beginning."""
        is_tool = piece == begun and begun in self._tools.read
        is_whole = piece.startswith(begun) and (is_tool or not self._begins_tool(begun + piece))
        return piece if is_whole else begun + piece

    def _begins_tool(self, name: str) -> bool:
        return any(tool.startswith(name) for tool in self._tools.read)

    def _read(self, written: _Written) -> tuple[ToolCall | None, str]:
        name = written.name
        if name not in self._tools.read:
            return None, f"there is no tool {name[:64]!r}; the tools are {', '.join(self._tools.read)}"
        try:
            arguments: Any = plain_json(json.loads(written.arguments or "{}"), "arguments")
        except (ValueError, RecursionError, WorkbenchError):
            return None, "the arguments of the call must be valid JSON"
        if not isinstance(arguments, dict):
            return None, "the arguments of the call must be one object"
        if fault := self._tools.read[name].validation_error(arguments, "arguments"):
            return None, fault
        # Some servers give every call the same id, by which no result would find its own.
        call_id = written.id if written.id and written.id not in self._ids else random_call_id()
        return ToolCall(call_id=call_id, tool_name=name, arguments=arguments), ""


@dataclass(slots=True)
class _Written:
    """A call as far as it has come."""

    index: int | None
    id: str | None = None
    name: str = ""
    arguments: str = ""
    _reader: LiteralReader = field(default_factory=LiteralReader)

    @property
    def is_whole(self) -> bool:
        """Whether the arguments are an object that is closed."""
        return self._reader.ended

    def is_elsewhere(self, part: CallPart) -> bool:
        """Whether a part says that it belongs to another place in the list of calls."""
        return self.index is not None and part.index is not None and part.index != self.index

    def is_said_again(self, part: CallPart, arguments: str) -> bool:
        """Whether a part is the whole call once more, as some servers end it."""
        is_same = part.id is not None and part.id == self.id and part.function.name == self.name
        return is_same and self.is_whole and arguments.strip() == self.arguments.strip()

    def add(self, call_id: str | None, name: str, arguments: str) -> str:
        """Add a part with the name as it is by then; returns what is new in it."""
        news = "" if self.name and self.arguments else name[len(self.name) :]
        self.id = self.id or call_id
        self.name += news
        self.arguments += arguments
        self._reader.feed(arguments)
        return news + arguments


def _text(arguments: str | dict[str, Any] | None) -> str:
    if isinstance(arguments, dict):  # some servers tell a whole call unquoted
        return json.dumps(arguments, ensure_ascii=False)
    return arguments or ""
