"""Python code in a message: fenced blocks, the arguments of tool calls, or the message itself."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.protocol import CompletionMessage
from workbench.providers.safety.message_text import content_text

if TYPE_CHECKING:
    from workbench.protocol import Message

_FENCE = re.compile(r"^[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[^\s`{]*)[^\n]*$", re.MULTILINE)
_PYTHON = frozenset({"python", "python3", "py", "py3", "ipython", "ipython3", "pycon"})


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """Code that is scanned at once."""

    code: str
    source: str
    """Where it stands: ``message``, or the name of the tool whose call has it as an argument."""
    first_line: int
    """Line of the source in which it begins, from 1."""
    is_python: bool
    """Whether it is Python that can be scanned; False for a block that only claims to be."""


def code_blocks(messages: Sequence[Message]) -> list[CodeBlock]:
    """Return the Python code of the last message; raise `UnsupportedContentError` if the message has an image.

    Blocks in other languages are left out, and so are blocks without a language that are not Python.
    """
    last = messages[-1]
    text = content_text(messages)
    fenced = list(_fenced_blocks(text))
    found = fenced if _FENCE.search(text) else [CodeBlock(text, "message", 1, is_python(text))]
    if isinstance(last, CompletionMessage):
        for call in last.tool_calls:
            found += [CodeBlock(value, call.tool_name, 1, is_python(value)) for value in _texts(call.arguments)]
    return [block for block in found if block.code.strip() and (block.is_python or block in fenced)]


def is_python(code: str) -> bool:
    """Return whether a text can be parsed as Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as one on an invalid escape sequence
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _fenced_blocks(text: str) -> Iterator[CodeBlock]:
    """Yield the blocks in a Python fence, and those in a fence without a language that are Python."""
    position = 0
    while opening := _FENCE.search(text, position):
        start = min(opening.end() + 1, len(text))
        fence = re.escape(opening["fence"])
        closing = re.compile(rf"^[ \t]*{fence}[`~]*[ \t]*$", re.MULTILINE).search(text, start)
        stop = closing.start() if closing else len(text)
        position = closing.end() if closing else len(text)
        code = _without_prompts(textwrap.dedent(text[start:stop]))
        language = opening["language"].lower()
        first_line = text.count("\n", 0, start) + 1
        if (parses := is_python(code)) and (language in _PYTHON or not language):
            yield CodeBlock(code, "message", first_line, is_python=True)
        elif language in _PYTHON and closing and not parses:  # an open block may still be on its way
            yield CodeBlock(code, "message", first_line, is_python=False)


def _without_prompts(code: str) -> str:
    """Return the input of an interpreter session, with its output as empty lines; other code stays as it is."""
    lines = code.split("\n")
    if not any(line.startswith(">>> ") for line in lines):
        return code
    return "\n".join(line[4:] if line.startswith((">>> ", "... ")) else "" for line in lines)


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
