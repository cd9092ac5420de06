"""Answers of a model that was given tools, drawn from a seed: calls, broken calls, prose with brackets and tags."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.syntaxes import ToolSyntax
from workbench.protocol import ToolDefinition, ToolParamDefinition

PROSE = (
    "It is warm in Rome.",
    "Let x be in [0, 1] and y in [x, 2x).",
    "See [the manual](https://example.org/a(b)) and note [1].",
    "In HTML one writes <b>bold</b>, and a < b > c means nothing.",
    "The set {a, b} and the object {'a': 1} differ; so does {}.",
    'A person: {"name": "Bob", "age": 3, "type": "human"}.',
    "Grüße aus Köln 😀 👩‍👩‍👧‍👦 こんにちは e\u0301",
    "print(f(x)[0]) and xs[i](j) and [f(x), g(x)]",
    "The tag <tool_call> begins a call, and </tool_call> ends it.",
    "So does <function=name> for some models; </function> ends it.",
    "Mistral writes [TOOL_CALLS] before them.",
    "<function> [TOOL_CALL] <tool_calls> {type: function} [ ( { <",
    "A line\nand another\n\nand {\n  a list: [\n] }",
    'He said "it\'s \\" fine" \x00 \ufffd \u200b.',
)
STRINGS: tuple[str, ...] = (
    "Rome",
    "San Francisco, CA",
    "it's",
    'say "hi"',
    "a\nb\tc",
    "{",
    "]}",
    "</function>",
    "</tool_call>",
    "<x>",
)
STRINGS += (
    "[f(x=1)]",
    "\\",
    "\\n",
    "",
    "Köln 😀",
    "\u2028",
    "mkdir -p test/{a,b",
    "()",
    "'''",
    '"""',
    "\x7f",
    "=",
    ",",
)


def tools() -> Toolset:
    """Tools whose parameters have every shape: plain, optional, enumerated, arrays, nested, anything."""
    city = {"type": "object", "properties": {"name": {"type": "string"}, "zip": {"type": "integer"}}}
    parameters: dict[str, dict[str, Any]] = {
        "get_weather": {"location": "string", "days": "integer", "exact": "boolean"},
        "search.web": {"query": "string", "limit": {"enum": [5, 10]}, "tags": "list[str]"},
        "travel-to": {"cities": {"type": "array", "items": city}, "speed": "number", "how": "any"},
        "now": {},
    }
    return Toolset.of(
        [
            ToolDefinition(
                tool_name=name,
                parameters={
                    one: ToolParamDefinition(param_type=kind if isinstance(kind, str) else json.dumps(kind))
                    for one, kind in kinds.items()
                },
            )
            for name, kinds in parameters.items()
        ]
    )


Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class AssistantText:
    """One answer; what must be read from it is known where nothing in it is broken."""

    text: str
    calls: list[Call] | None
    plain: str | None


class Writer:
    """Draws answers in one syntax; the same seed draws the same."""

    def __init__(self, syntax: ToolSyntax, seed: int) -> None:
        self._syntax = syntax
        self._random = random.Random(seed)

    def clean(self) -> AssistantText:
        """Prose and whole calls in turn."""
        text, plain, calls = "", "", list[Call]()
        for _ in range(self._random.randint(1, 3)):
            if self._random.random() < 0.5:
                piece = self._prose()
                text, plain = text + piece, plain + piece
            else:
                some = [self._call() for _ in range(self._random.choice((1, 1, 1, 2, 3)))]
                written, between = self._written(some)
                text, plain, calls = text + written, plain + between, calls + some
        return AssistantText(text, calls, plain)

    def broken(self) -> AssistantText:
        """The same with characters lost, doubled or put in at random, or with the end cut off."""
        text = self.clean().text
        for _ in range(self._random.randint(1, 3)):
            at = self._random.randrange(len(text) + 1)
            insert = self._random.choice(
                ('"', "{", "}", "[", "]", "(", ")", "\\", "<", ">", ",", "\n", "x", "", "", "")
            )
            text = text[:at] + insert + text[at + self._random.randint(0, 2) :]
        return AssistantText(text[: self._random.choice((len(text), self._random.randint(0, len(text))))], None, None)

    # ---------------------------------------------------------------------------------------------------- pieces

    def _prose(self) -> str:
        return f" {self._random.choice(PROSE)}{self._random.choice((' ', chr(10)))}"

    def _string(self) -> str:
        return self._random.choice(STRINGS)

    def _call(self) -> Call:
        draw = self._random
        match draw.randrange(4):
            case 0:
                return "get_weather", {"location": self._string(), "days": draw.randint(-9, 9), "exact": True}
            case 1:
                tags = [self._string() for _ in range(draw.randint(0, 3))]
                return "search.web", {"query": self._string(), "limit": draw.choice((5, 10)), "tags": tags}
            case 2:
                cities = [{"name": self._string(), "zip": draw.randint(0, 99999)} for _ in range(draw.randint(0, 2))]
                how = draw.choice((None, 1, -2.5e-7, [[], {}, [[None]]], {"a b": {"": False}}, self._string()))
                return "travel-to", {"cities": cities, "speed": draw.choice((0, 1e3, -0.25)), "how": how}
        return "now", {}

    def _written(self, calls: list[Call]) -> tuple[str, str]:
        """The calls in the syntax, and what of it is plain text: white space between calls is none."""
        gap = self._random.choice(("\n", " ", "; ", "", "\r\n\t"))
        told = gap * (len(calls) - 1) if gap.strip() else ""
        match self._syntax:
            case ToolSyntax.json:
                key = self._random.choice(("parameters", "arguments"))
                texts = [
                    self._json(self._random.choice(({"type": "function"}, {})) | {"name": name, key: arguments})
                    for name, arguments in calls
                ]
                return gap.join(texts), told
            case ToolSyntax.function_tag:
                texts = [f"<function={name}>{self._json(arguments)}</function>" for name, arguments in calls]
                return gap.join(texts), told
            case ToolSyntax.python_list:
                listed = ", ".join(
                    f"{name}({', '.join(f'{key}={self._python(value)}' for key, value in arguments.items())})"
                    for name, arguments in calls
                )
                return f"[{listed}]", ""
        objects = [self._json({"name": name, "arguments": arguments}) for name, arguments in calls]
        if self._syntax is ToolSyntax.mistral:
            return f"[TOOL_CALLS] [{', '.join(objects)}]", ""
        if self._random.random() < 0.3:
            return f"<tool_call>[{','.join(objects)}]</tool_call>", ""
        return gap.join(f"<tool_call>\n{one}\n</tool_call>" for one in objects), told

    def _json(self, value: Any) -> str:
        indent = self._random.choice((None, None, None, 2))
        return json.dumps(value, ensure_ascii=self._random.random() < 0.5, indent=indent)

    def _python(self, value: Any) -> str:
        return repr(value) if self._random.random() < 0.7 else json.dumps(value)


def corpus(syntax: ToolSyntax, count: int) -> list[AssistantText]:
    """So many texts, every second one broken; the same on every machine."""
    writer = Writer(syntax, seed=sum(syntax.encode()))
    return [writer.broken() if index % 2 else writer.clean() for index in range(count)]
