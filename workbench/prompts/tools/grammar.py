"""The grammar of an answer that has to be a call: one to `MAX_CALLS` of the tools, with arguments that fit.

Written in llguidance's dialect of Lark, from the same schemas that arguments are checked by, and for JSON and Python
alike. What a schema leaves open is bounded here, so that a sampled model comes to an end: a text, a list or an object
of any length has at most so many characters, items or members, a value of any type is nested only so deep, and numbers
have a few digits and no exponent. The schema's own ``maxLength`` or ``maxItems`` counts instead, smaller or larger.
There is no free white space.
What is still open when the tokens run short is closed as soon as the grammar allows it (`GrammarState.allowed`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from workbench.prompts.tools.definitions import Toolset, ToolSyntax
from workbench.prompts.tools.schemas import Schema

MAX_CALLS = 8
MAX_TEXT_CHARACTERS = 4_096
MAX_ITEMS = 32
MAX_MEMBERS = 16
"""Of an object whose members have no names in its schema."""
MAX_NAME_CHARACTERS = 64
MAX_ANY_DEPTH = 2
"""Brackets inside each other, of a value of any type."""
MAX_NUMBER = 10**15
"""Where a schema gives no bound; whole numbers up to it are exact in a float, as many readers of JSON have it."""

_JSON_CONSTANTS = {True: "true", False: "false", None: "null"}
_LOWER = frozenset({"minimum", "exclusiveMinimum"})
_UPPER = frozenset({"maximum", "exclusiveMaximum"})
_NUMBERS = {"integer": "/-?(0|[1-9][0-9]{0,14})/", "number": r"/-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,9})?/"}


def required_call(tools: Toolset, syntax: ToolSyntax, special_ids: Mapping[str, int] | None = None) -> str:
    """A Lark grammar of at least one call, whose first rule is ``start``.

    Args:
        special_ids: ids of the tokenizer's special tokens by their text; a tag that is one is written by that token.
    """
    rules = _Rules(is_python=syntax is ToolSyntax.python_list)
    tags = {text: f"<[{token_id}]>" for text, token_id in (special_ids or {}).items()}
    calls = [_call(rules, name, schema, syntax, tags) for name, schema in tools.schemas.items()]
    call, more = rules.one_of(calls), f"{{0,{MAX_CALLS - 1}}}"
    match syntax:
        case ToolSyntax.python_list:
            start = ['"["', call, f'(", " {call}){more}', '"]"']
        case ToolSyntax.mistral:
            tag = tags.get("[TOOL_CALLS]", '"[TOOL_CALLS]"')
            start = [tag, '" ["', call, f'(", " {call}){more}', '"]"']
        case _:
            start = [call, rf'("\n" {call}){more}']
    return f"start: {' '.join(start)}\n{rules}"


def _call(rules: _Rules, name: str, schema: Schema, syntax: ToolSyntax, tags: Mapping[str, str]) -> str:
    """The body of a rule for a call of one tool."""
    match syntax:
        case ToolSyntax.python_list:
            parts = [_text(f"{name}("), rules.members(schema, keywords=True), _text(")")]
        case ToolSyntax.function_tag:
            parts = [_text(f"<function={name}>"), rules.value(schema), _text("</function>")]
        case ToolSyntax.json:
            head = f'{{"type": "function", "name": "{name}", "parameters": '
            parts = [_text(head), rules.value(schema), _text("}")]
        case _:
            parts = [_text(f'{{"name": "{name}", "arguments": '), rules.value(schema), _text("}")]
    if syntax is ToolSyntax.tool_call_tag:
        first, last = (tags.get(tag, _text(tag)) for tag in ("<tool_call>", "</tool_call>"))
        parts = [first, _text("\n"), *parts, _text("\n"), last]
    return " ".join(parts)


class _Rules:
    """Rules by their bodies, so that what occurs twice is one rule."""

    def __init__(self, *, is_python: bool) -> None:
        self._names: dict[str, str] = {}
        self._constants = {key: str(key) for key in _JSON_CONSTANTS} if is_python else _JSON_CONSTANTS

    def __str__(self) -> str:
        return "".join(f"{name}: {body}\n" for body, name in self._names.items())

    def one_of(self, bodies: list[str]) -> str:
        """The name of a rule for any of the bodies."""
        return self._names.setdefault(" | ".join(dict.fromkeys(bodies)), f"r{len(self._names)}")

    def value(self, schema: Schema, any_depth: int = MAX_ANY_DEPTH) -> str:
        """The name of a rule for a value that fits the schema."""
        return self.one_of(self._bodies(schema, any_depth))

    def members(self, schema: Schema, *, keywords: bool = False, any_depth: int = MAX_ANY_DEPTH) -> str:
        """A rule for the members of an object, or the keyword arguments of a call, in the order of the schema.

        Names that are not in the schema stand only in objects that have no others: among them, one could come twice.
        """
        if not schema.get("properties"):
            more = schema.get("additionalProperties", {})
            return '""' if more is False else self._any_members(self.value(more, any_depth))
        # What can stand from some property on, where nothing stands before it (first) and where something does (rest).
        first = rest = '""'
        required = schema.get("required", ())
        for name, child in reversed(schema["properties"].items()):
            key = _text(f"{name}=") if keywords else _text(f"{json.dumps(name, ensure_ascii=False)}: ")
            member = self.one_of([f"{key} {self.value(child)}"])
            alone, together = f"{member} {rest}", f'", " {member} {rest}'
            first = self.one_of([alone] if name in required else [alone, first])
            rest = self.one_of([together] if name in required else [together, rest])
        return first

    def _any_members(self, value: str) -> str:
        name = _json_rule({"type": "string", "maxLength": MAX_NAME_CHARACTERS})
        member = self.one_of([f'{name} ": " {value}'])
        return f'({member} (", " {member}){{0,{MAX_MEMBERS - 1}}})?'

    def _bodies(self, schema: Schema, any_depth: int) -> list[str]:
        """The bodies of the rules for the values that fit the schema."""
        if "anyOf" in schema:
            return [body for branch in schema["anyOf"] for body in self._bodies(branch, any_depth)]
        if "enum" in schema or "const" in schema:
            return [self._constant(value) for value in schema.get("enum", [schema.get("const")])]
        if "type" not in schema:
            kinds = ("string", "number", "boolean", "null", *(("array", "object") if any_depth else ()))
            return [body for kind in kinds for body in self._bodies({"type": kind}, any_depth)]
        match schema["type"]:
            case "boolean" | "null" as kind:
                return [self._constant(value) for value in ((True, False) if kind == "boolean" else (None,))]
            case "array":
                body = self._array(schema, any_depth - 1)
            case "object":
                body = f'"{{" {self.members(schema, any_depth=any_depth - 1)} "}}"'
            case "string":
                body = _string(schema)
            case _:
                body = _number(schema)
        return [body]

    def _array(self, schema: Schema, any_depth: int) -> str:
        fewest = schema.get("minItems", 0)
        most = schema.get("maxItems", max(MAX_ITEMS, fewest))
        if not most:
            return '"[]"'
        item = self.value(schema.get("items", {}), any_depth)
        items = f'{item} (", " {item}){{{max(fewest - 1, 0)},{most - 1}}}'
        return f'"[" {items} "]"' if fewest else f'"[" ({items})? "]"'

    def _constant(self, value: Any) -> str:
        """A value that is written out, in as many parts as it has."""
        if isinstance(value, list):
            return ' ", " '.join(map(self._constant, value)).join(('"[" ', ' "]"')) if value else '"[]"'
        if isinstance(value, dict):
            members = [f'{_json_rule({"const": key})} ": " {self._constant(item)}' for key, item in value.items()]
            return ' ", " '.join(members).join(('"{" ', ' "}"')) if value else '"{}"'
        if value is None or isinstance(value, bool):
            return _text(self._constants[value])
        return _json_rule({"const": value})


def _string(schema: Schema) -> str:
    limits = {key: schema[key] for key in ("minLength", "maxLength", "pattern") if key in schema}
    most = max(MAX_TEXT_CHARACTERS, schema.get("minLength", 0))
    return _json_rule({"type": "string", "maxLength": most} | limits)


def _number(schema: Schema) -> str:
    bounds = {key: schema[key] for key in _LOWER | _UPPER if key in schema}
    if not bounds:
        return _NUMBERS[schema["type"]]
    if not bounds.keys() & _LOWER:
        bounds["minimum"] = min(-MAX_NUMBER, *bounds.values())
    if not bounds.keys() & _UPPER:
        bounds["maximum"] = max(MAX_NUMBER, *bounds.values())
    return _json_rule({"type": schema["type"]} | bounds)


def _json_rule(schema: Schema) -> str:
    """JSON in which there is nothing but texts and numbers reads the same in Python."""
    return f"%json {json.dumps(schema)}"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
