"""Incremental parser of the tool calls in a streamed answer.

The parser reads the text in chunks of any size and returns what is certain: plain text, and the progress of calls. The
text, the calls and their order do not depend on the chunks. Time is linear in the text, nothing is evaluated, and no
text raises an error: a call that is malformed, of an unknown tool, with arguments that do not fit its schema, or cut
off by the end is a ``failure`` with its whole raw text.

White space between two calls, or between the last one and the end, is a separator and not part of the text.

A call is valid once its arguments are complete; a missing closing tag or list bracket after it is ignored. A malformed
call ends at its closing tag, before the next opening one or with its paragraph; in a syntax without tags, when its
brackets are closed or with its line. Each module of `workbench.prompts.tools.syntaxes` describes which texts begin a
call in its syntax, and `workbench.prompts.tools.literals` how values are read.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from workbench.prompts.tools.call_syntax import LIST_END, SPACE, WINDOW, Look, Pattern
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.literals import LiteralReader
from workbench.prompts.tools.syntaxes import SYNTAXES, ToolSyntax
from workbench.protocol import ToolCall, ToolCallDelta, ToolCallParseStatus

_LINE_OR_BRACKET = re.compile(r"[\n{}\[\]()]")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_CALL_KEYS = frozenset({"type", "name", "id", "parameters", "arguments"})


def random_call_id() -> str:
    """Return nine random letters and digits, as the templates of the Mistral family demand."""
    return uuid.uuid4().hex[:9]


def call_ids_after(prompt_ids: Sequence[int]) -> Callable[[], str]:
    """Return a source of ids like `random_call_id`'s, derived from the prompt: a repeated request gives the same ids.

    The prompt of each turn contains the turns before it, so no two turns of a conversation have an id in common.
    """
    prompt = hashlib.sha256(repr(tuple(prompt_ids)).encode()).digest()
    counter = itertools.count()
    return lambda: hashlib.sha256(prompt + next(counter).to_bytes(4, "big")).hexdigest()[:9]


class ToolCallParser:
    """Parser of the calls of one answer: `feed` every chunk of its text, then `close` once.

    Args:
        tools: the tools of the request; without any, everything is plain text.
        syntax: the syntax in which the model writes calls.
        call_ids: returns the id of each parsed call.
    """

    def __init__(self, tools: Toolset, syntax: ToolSyntax, call_ids: Callable[[], str] = random_call_id) -> None:
        self._form = SYNTAXES[syntax]
        self.faults: list[str] = []
        """The reasons of the failures so far."""
        self.tags = self._form.tags
        """Texts that must be fed even if the model writes them as control tokens."""
        self.opening = (self._form.tag or self._form.first) if tools else ""
        """The text that every call begins with; empty without tools."""
        self._tools = tools
        self._call_ids = call_ids
        self._tag_end = Pattern(SPACE, self._form.closing_tag) if self._form.closing_tag else None
        self._ends_of_broken = [self._form.tag, self._form.closing_tag, "\n\n"]
        self._end_of_broken = re.compile("|".join(map(re.escape, self._ends_of_broken)))
        self._text = ""
        self._position = 0
        self._closing = False
        self._advance: Callable[[], bool] = self._outside
        """Reads on from ``_position``; returns False if only more text can decide how."""
        self._events: list[str | ToolCallDelta] = []
        self._plain: list[str] = []
        self._begins_line = True
        self._raw: list[str] = []
        self._raw_emitted = 0
        self._reader = LiteralReader()
        self._name: str | None = None
        self._in_list = False
        self._list_may_open = False
        self._broken_depth = 0
        self._reason = ""
        """Why the call that was just read is a failure; empty if it is valid."""

    def feed(self, text: str) -> list[str | ToolCallDelta]:
        """Read more text; return the plain text and the deltas that are certain, in order."""
        if not self._tools:
            return [text] if text else []
        # A lone surrogate could neither be shown nor encoded.
        self._text = self._text[self._position :] + _HALF_CHARACTER.sub("\ufffd", text)
        self._position = 0
        return self._drain()

    def close(self) -> list[str | ToolCallDelta]:
        """Return the rest at the end of the answer: buffered text is plain, and an incomplete call is a failure."""
        self._closing = True
        return self._drain()

    def _drain(self) -> list[str | ToolCallDelta]:
        while self._advance():
            pass
        self._emit_plain()
        self._emit_progress()
        events, self._events = self._events, []
        return events

    # ---------------------------------------------------------------------------------------------------- states

    def _outside(self) -> bool:
        start = self._text.find(self._form.first, self._position)
        self._show(start if start >= 0 else len(self._text))
        if start < 0:
            return False
        look = self._form.look(self._text, start, self._is_known, begins_line=self._begins_line)
        if look == "maybe" and not self._closing:
            return False
        if isinstance(look, re.Match):
            self._in_list = self._form.lists == "always"
            self._list_may_open = self._form.lists == "perhaps"
            self._begin(look)
        else:
            self._show(start + 1)
        return True

    def _inside(self) -> bool:
        if self._list_may_open and not self._open_list():
            return self._ended_inside()
        self._take(self._reader.feed(self._text, self._position))
        if self._reader.fault is not None:
            self._reason = self._reader.fault
            self._broken_depth = self._reader.depth
            self._advance = self._broken_tag if self._form.closing_tag else self._broken_line
            if not self._form.closing_tag and _ends_with_line("".join(self._raw)):
                self._fail()
            return True
        if self._reader.ended:
            self._validate()
            self._advance = self._after_call
            return True
        return self._ended_inside()

    def _broken_tag(self) -> bool:
        found = self._end_of_broken.search(self._text, self._position)
        if found:
            self._take(found.end() if found[0] == self._form.closing_tag else found.start())
        elif self._closing:
            self._take(len(self._text))
        else:
            partial = _length_of_beginning(self._text[self._position :], self._ends_of_broken)
            self._take(len(self._text) - partial)
            return False
        self._fail()
        return True

    def _broken_line(self) -> bool:
        for found in _LINE_OR_BRACKET.finditer(self._text, self._position):
            if found[0] == "\n":
                self._take(found.start())
                self._fail()
                return True
            self._broken_depth += 1 if found[0] in "{[(" else -1
            if self._broken_depth <= 0:
                self._take(found.end())
                self._advance = self._after_call
                return True
        self._take(len(self._text))
        if self._closing:
            self._fail()
        return self._closing

    def _after_call(self) -> bool:
        """Read what follows a call: the next one of its list, or the end of the list or the tag."""
        following = self._form.next_opening if self._in_list else None
        look = following.look(self._text, self._position) if following else None
        if isinstance(look, re.Match):
            self._skip(look.start("name") if "name" in look.groupdict() else look.end() - 1)
            self._finish_call()
            self._begin(look)
            return True
        closing = LIST_END if self._in_list else self._tag_end
        end: Look = closing.look(self._text, self._position) if closing else None
        if isinstance(end, re.Match):
            self._skip(end.end())
            if self._in_list and self._tag_end:
                self._in_list = False
                return True
        elif "maybe" in (look, end) and not self._closing:
            return False
        self._finish_call()
        return True

    def _between_calls(self) -> bool:
        """Read the white space behind a call; it is text only if more text, and no call, follows it."""
        space = SPACE.match(self._text, self._position)
        start = space.end() if space else self._position
        if start - self._position < WINDOW:
            look: Look = "maybe"
            if start < len(self._text):
                look = self._form.look(self._text, start, self._is_known, begins_line=True)
            if look == "maybe" and not self._closing:
                return False
            if isinstance(look, re.Match) or start == len(self._text):
                self._position = start
        self._advance = self._outside
        return True

    # ----------------------------------------------------------------------------------------------------- calls

    def _begin(self, head: re.Match[str]) -> None:
        """Begin a call; its arguments are read from the end of ``head``."""
        self._emit_plain()
        self._emit("", ToolCallParseStatus.started)
        self._name = head.groupdict().get("name")
        self._reader = LiteralReader(python=self._form.python, arguments=self._form.python)
        # The reader itself reads the bracket that opens an object.
        self._take(head.end() - (head[0][-1:] == "{"))
        self._advance = self._inside

    def _open_list(self) -> bool:
        """Look behind white space for a list in a tag; return False if the text ends before it is decided."""
        space = SPACE.match(self._text, self._position)
        self._take(space.end() if space else self._position)
        if self._position == len(self._text):
            return False
        self._list_may_open = False
        if self._text[self._position] == "[":
            self._in_list = True
            self._take(self._position + 1)
        return True

    def _ended_inside(self) -> bool:
        if not self._closing:
            return False
        self._reason = "the answer ended before the call was complete"
        self._fail()
        return True

    def _validate(self) -> None:
        """Emit the call that was read if it is valid; otherwise store the reason why it is not."""
        name, arguments = self._name, self._reader.value
        if name is None:
            name, arguments, self._reason = _read_call(arguments)
        if not self._reason and not self._is_known(name):
            self._reason = f"there is no tool {name[:64]!r}; the tools are {', '.join(self._tools.read)}"
        if not self._reason:
            self._reason = self._tools.read[name].validation_error(arguments, "arguments") or ""
        if not self._reason:
            self._emit_progress()
            self._raw, self._raw_emitted = [], 0
            call = ToolCall(call_id=self._call_ids(), tool_name=name, arguments=arguments)
            self._emit(call, ToolCallParseStatus.success)

    def _is_known(self, name: str) -> bool:
        return name in self._tools.read

    def _finish_call(self) -> None:
        """Finish a call, and emit it if it is a failure."""
        self._begins_line = True
        if self._reason:
            self._fail()
        else:
            self._advance = self._between_calls

    def _fail(self) -> None:
        self._emit_progress()
        self._emit("".join(self._raw), ToolCallParseStatus.failure)
        self.faults.append(self._reason)
        self._raw, self._raw_emitted, self._reason = [], 0, ""
        self._begins_line = True
        self._advance = self._outside

    # ------------------------------------------------------------------------------------------------------ events

    def _show(self, end: int) -> None:
        """Add the text up to ``end`` to the plain text."""
        text = self._text[self._position : end]
        self._position = end
        if text:
            self._plain.append(text)
            _, broken, line = text.rpartition("\n")
            self._begins_line = (bool(broken) or self._begins_line) and (not line or line.isspace())

    def _take(self, end: int) -> None:
        """Add the text up to ``end`` to the call."""
        if end > self._position:
            self._raw.append(self._text[self._position : end])
            self._position = end

    def _skip(self, end: int) -> None:
        """Skip what separates or closes calls; it is part of the raw text of a failed call only."""
        if self._reason:
            self._take(end)
        self._position = end

    def _emit(self, content: str | ToolCall, status: ToolCallParseStatus) -> None:
        self._events.append(ToolCallDelta(content=content, parse_status=status))

    def _emit_plain(self) -> None:
        if self._plain:
            self._events.append("".join(self._plain))
            self._plain = []

    def _emit_progress(self) -> None:
        if self._raw_emitted < len(self._raw):
            self._emit("".join(self._raw[self._raw_emitted :]), ToolCallParseStatus.in_progress)
            self._raw_emitted = len(self._raw)


def _read_call(value: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    """Return name and arguments of a call that is written as one object, and what is wrong with it, if anything."""
    name = value.get("name")
    arguments = value.get("arguments", value.get("parameters", {}))
    if unknown := [key for key in value if key not in _CALL_KEYS]:
        return "", {}, f"unknown key {unknown[0][:64]!r} in the call"
    if not isinstance(name, str) or value.get("type", "function") != "function":
        return "", {}, "the call needs a name, and its type must be function"
    if not isinstance(arguments, dict) or ("arguments" in value and "parameters" in value):
        return name, {}, "the arguments of the call must be one object"
    return name, arguments, ""


def _ends_with_line(text: str) -> bool:
    return "\n" in text[len(text.rstrip(" \t\r\n")) :]


def _length_of_beginning(text: str, wanted: list[str]) -> int:
    """Return how many of the last characters may be the beginning of one of the texts."""
    longest = min(len(text), max(map(len, wanted)) - 1)
    return next((n for n in range(longest, 0, -1) if any(one.startswith(text[-n:]) for one in wanted)), 0)
