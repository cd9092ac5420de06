"""Whatever the grammar of a required call allows is a call that the parser reads and that fits its schema."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import jsonschema
import numpy as np
import pytest
from llguidance import LLMatcher, LLTokenizer

from tests.budget import some
from tests.fakes.tool_sets import tool_sets
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.grammar import MAX_CALLS, required_call
from workbench.prompts.tools.parsing import ToolCallParser
from workbench.prompts.tools.rendering import calls_text
from workbench.prompts.tools.syntaxes import ToolSyntax
from workbench.protocol import (
    BuiltinTool,
    ToolCall,
    ToolCallDelta,
    ToolCallParseStatus,
    ToolDefinition,
    ToolParamDefinition,
)

BYTES = LLTokenizer("byte")
END = ord("\n")

each_syntax = pytest.mark.parametrize("syntax", ToolSyntax)


def matcher(tools: Toolset, syntax: ToolSyntax) -> Any:
    return LLMatcher(BYTES, LLMatcher.grammar_from_lark(required_call(tools, syntax)), log_level=0)


def drawn(tools: Toolset, syntax: ToolSyntax, seed: int) -> str:
    """A text drawn byte by byte from what the grammar allows; brackets and quotes often, so that it ends."""
    state, draw, text = matcher(tools, syntax), random.Random(seed), bytearray()
    assert not state.is_error(), state.get_error()
    while not state.is_stopped():
        allowed = list(_bytes(state))
        if state.is_accepting() and (not allowed or draw.random() < 0.7):
            break
        assert allowed, f"nothing may follow {text!r}"
        closing = [byte for byte in allowed if byte in b'"]})']
        byte = draw.choice(closing if closing and draw.random() < 0.4 else allowed)
        state.consume_token(byte)
        text.append(byte)
        assert len(text) < 40_000, "the text has no end"
    return text.decode()


def _bytes(state: Any) -> Iterator[int]:
    bits = np.unpackbits(np.frombuffer(state.compute_bitmask(), np.uint8), bitorder="little")
    yield from (int(index) for index in np.flatnonzero(bits) if index < 256)


def calls_in(text: str, tools: Toolset, syntax: ToolSyntax) -> list[ToolCall]:
    """The calls of a text that is nothing but calls."""
    parser = ToolCallParser(tools, syntax)
    events = [*parser.feed(text), *parser.close()]
    assert parser.faults == []
    assert "".join(event for event in events if isinstance(event, str)).strip() == ""
    finished = [event for event in events if isinstance(event, ToolCallDelta) and isinstance(event.content, ToolCall)]
    assert all(event.parse_status is ToolCallParseStatus.success for event in finished)
    return [event.content for event in finished if isinstance(event.content, ToolCall)]


@each_syntax
def test_every_text_of_the_grammar_is_at_least_one_call_that_fits_its_schema(syntax: ToolSyntax) -> None:
    for seed, tools in enumerate(some(tool_sets(200))):
        text = drawn(tools, syntax, seed)
        calls = calls_in(text, tools, syntax)
        assert 1 <= len(calls) <= MAX_CALLS
        for call in calls:
            jsonschema.validate(call.arguments, tools.schemas[call.tool_name])


@each_syntax
def test_a_call_as_it_stands_in_a_history_is_a_text_of_the_grammar(syntax: ToolSyntax) -> None:
    """What the model is shown as its own calls is what it may write, and what the parser reads."""
    for seed, tools in enumerate(some(tool_sets(200)[:60])):
        calls = [(str(call.tool_name), call.arguments) for call in calls_in(drawn(tools, syntax, seed), tools, syntax)]
        text = calls_text([(name, dict(arguments)) for name, arguments in calls], syntax)
        state = matcher(tools, syntax)
        spelled = text.encode()
        if not any(_spelled_otherwise(arguments) for _, arguments in calls):
            assert state.try_consume_tokens(list(spelled)) == len(spelled), text
            assert state.is_accepting()
        assert [(str(call.tool_name), call.arguments) for call in calls_in(text, tools, syntax)] == calls


def _spelled_otherwise(value: Any) -> bool:
    """Numbers such as -0 or 1.50, and characters that may be written as escapes, have more than one spelling."""
    if isinstance(value, float):
        return True
    if isinstance(value, str):
        return not value.isprintable()
    items = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return any(map(_spelled_otherwise, items))


@each_syntax
@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [("other", {"location": "Rome"})],
        [("get_weather", {})],
        [("get_weather", {"location": 5})],
        [("get_weather", {"location": "Rome", "unit": "K"})],
        [("get_weather", {"location": "Rome", "more": 1})],
        [("get_weather", {"unit": "C", "location": "Rome"})],
    ],
)
def test_what_is_no_call_of_a_tool_or_does_not_fit_is_no_text_of_it(syntax: ToolSyntax, wrong: Any) -> None:
    tools = weather()
    text = calls_text(wrong, syntax).encode()
    state = matcher(tools, syntax)
    assert not (state.try_consume_tokens(list(text)) == len(text) and state.is_accepting())


@each_syntax
def test_optional_parameters_may_be_left_out_and_the_rest_come_in_their_order(syntax: ToolSyntax) -> None:
    for arguments in ({"location": "Rome"}, {"location": "Rome", "unit": "C"}, {"location": "Rome", "days": 3}):
        text = calls_text([("get_weather", arguments)], syntax).encode()
        state = matcher(weather(), syntax)
        assert state.try_consume_tokens(list(text)) == len(text)
        assert state.is_accepting()


@each_syntax
def test_there_is_no_free_white_space_and_nothing_before_a_call(syntax: ToolSyntax) -> None:
    text = calls_text([("get_weather", {"location": "Rome", "unit": "C"})], syntax)
    for other in (f" {text}", f"Sure! {text}", text.replace(", ", ",  "), text.replace(", ", ","), f"{text} "):
        if other != text:
            state, spelled = matcher(weather(), syntax), list(other.encode())
            assert not (state.try_consume_tokens(spelled) == len(spelled) and state.is_accepting()), other


@pytest.mark.parametrize("name", list(BuiltinTool))
def test_a_built_in_tool_can_be_required(name: BuiltinTool) -> None:
    tools = Toolset.of([ToolDefinition(tool_name=name)])
    (call, *_) = calls_in(drawn(tools, ToolSyntax.json, 0), tools, ToolSyntax.json)
    assert call.tool_name is name


def test_a_tag_that_is_a_special_token_is_written_by_that_token() -> None:
    grammar = required_call(weather(), ToolSyntax.mistral, {"[TOOL_CALLS]": 5, "<s>": 1})
    assert grammar.startswith('start: <[5]> " " "[" ')
    assert "TOOL_CALLS" not in grammar
    grammar = required_call(weather(), ToolSyntax.tool_call_tag, {"<tool_call>": 7, "</tool_call>": 8})
    assert "<[7]>" in grammar
    assert "<[8]>" in grammar


def test_what_a_schema_leaves_open_comes_to_an_end() -> None:
    open_schema = json.dumps(
        {"type": "object", "properties": {"x": {}, "y": {"type": "array"}, "z": {"type": "string"}}}
    )
    parameters = {"a": ToolParamDefinition(param_type="any"), "o": ToolParamDefinition(param_type=open_schema)}
    tools = Toolset.of([ToolDefinition(tool_name="f", parameters=parameters)])
    for number in ("1e999", "1e5", "9" * 16, "0." + "1" * 10):
        text = f'<function=f>{{"a": {number}'.encode()
        assert matcher(tools, ToolSyntax.function_tag).try_consume_tokens(list(text)) < len(text)
    deep = ('<function=f>{"a": ' + "[" * 3).encode()
    assert matcher(tools, ToolSyntax.function_tag).try_consume_tokens(list(deep)) == len(deep) - 1


def weather() -> Toolset:
    parameters = {
        "location": ToolParamDefinition(param_type="string"),
        "unit": ToolParamDefinition(param_type='Literal["C", "F"]', required=False),
        "days": ToolParamDefinition(param_type="integer", default=1),
    }
    return Toolset.of([ToolDefinition(tool_name="get_weather", parameters=parameters)])
