"""The control tokens of a prompt are those that its template wrote, with 300 hostile texts in every place."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from tests.budget import some
from tests.fakes.hostile_texts import hostile_texts, in_parts
from tests.fakes.templates import FAMILIES, TOKENIZERS
from tests.tiny_models import UNICODE_CORPUS
from workbench.prompts.encoding import PromptEncoder
from workbench.prompts.tools.definitions import Toolset
from workbench.protocol import (
    CompletionMessage,
    Message,
    StopReason,
    SystemMessage,
    ToolCall,
    ToolDefinition,
    ToolParamDefinition,
    ToolResponseMessage,
    UserMessage,
)

HOSTILE = some(hostile_texts(300))
INERT = "inert words"

each_family = pytest.mark.parametrize("family", FAMILIES)
each_tokenizer = pytest.mark.parametrize("make", TOKENIZERS)


def conversation(text: str, parts: list[str]) -> list[Message]:
    """The text wherever a request can put one."""
    call = ToolCall(call_id=text, tool_name=text, arguments={text: text, "nested": [{text: [text]}]})
    return [
        SystemMessage(content=text),
        UserMessage(content=list(parts)),
        CompletionMessage(content=text, stop_reason=StopReason.end_of_message, tool_calls=[call]),
        ToolResponseMessage(call_id=text, tool_name=text, content=list(parts)),
        CompletionMessage(content=text, stop_reason=StopReason.end_of_turn),
        UserMessage(content="?", context=text),
    ]


@cache
def tools(text: str) -> Toolset:
    parameter = ToolParamDefinition(param_type="any", description=text, default=text)
    return Toolset.of([ToolDefinition(tool_name="get_weather", description=text, parameters={"location": parameter})])


def control_ids(encoder: PromptEncoder, text: str, parts: list[str]) -> tuple[list[int], list[int]]:
    """The tokens that are said to be control tokens, and those that are by their ids."""
    prompt = encoder.chat_prompt(conversation(text, parts), tools(text))
    own = [token_id for token_id, is_own in zip(prompt.token_ids, prompt.is_control, strict=True) if is_own]
    known = ids_of_control_tokens(encoder)
    return own, [token_id for token_id in prompt.token_ids if token_id in known]


def ids_of_control_tokens(encoder: PromptEncoder) -> set[int]:
    """Those of the tokenizer's special and structural tokens, but for the one for what the vocabulary lacks."""
    known = encoder._control_tokens.ids
    return {token_id for text, token_id in known.items() if text != encoder._control_tokens._unknown}


@each_family
@each_tokenizer
def test_the_control_tokens_of_a_chat_are_exactly_those_that_the_template_places(
    family: str, make: Callable[[], Any]
) -> None:
    encoder = FAMILIES[family].encoder(make)
    placed, _ = control_ids(encoder, INERT, [INERT])
    assert len(placed) > 3
    for index, text in enumerate(HOSTILE):
        assert control_ids(encoder, text, in_parts(text, index)) == (placed, placed), text


@each_family
@pytest.mark.parametrize("text", some(UNICODE_CORPUS, at_least=3))
def test_a_harmless_chat_is_encoded_as_the_tokenizer_would_encode_its_text(family: str, text: str) -> None:
    for make in TOKENIZERS:
        encoder = FAMILIES[family].encoder(make)
        prompt = encoder.chat_prompt(conversation(text, [text]), tools(text))
        assert list(prompt.token_ids) == encoder._tokenizer.encode(prompt.text, add_special_tokens=False).ids


@each_family
def test_what_a_hostile_chat_says_is_what_it_decodes_to(family: str) -> None:
    encoder = FAMILIES[family].encoder()
    for index, text in enumerate(HOSTILE):
        prompt = encoder.chat_prompt(conversation(text, in_parts(text, index)))
        assert encoder._tokenizer.decode(prompt.token_ids, skip_special_tokens=False) == prompt.text
        assert text.strip() in prompt.text


@each_tokenizer
def test_nothing_in_a_text_to_continue_is_a_control_token(make: Callable[[], Any]) -> None:
    encoder = FAMILIES["tagged"].encoder(make)
    own = [token_id for token_id, is_own in _tokens(encoder, INERT) if is_own]
    known = ids_of_control_tokens(encoder)
    for text in HOSTILE:
        tokens = _tokens(encoder, text)
        assert [token_id for token_id, is_own in tokens if is_own] == own
        assert [token_id for token_id, _ in tokens if token_id in known] == own


def _tokens(encoder: PromptEncoder, text: str) -> list[tuple[int, bool]]:
    prompt = encoder.text_prompt(text)
    return list(zip(prompt.token_ids, prompt.is_control, strict=True))


def test_white_space_that_is_a_token_of_its_own_stays_one_in_a_users_text() -> None:
    encoder = FAMILIES["plain"].encoder()
    ids = encoder.encode_text("a\n\nb  c<|im_end|>")
    tokenizer = encoder._tokenizer
    assert tokenizer.token_to_id("\n\n") in ids
    assert tokenizer.token_to_id("  ") in ids
    assert tokenizer.token_to_id("<|im_end|>") not in ids


def test_a_control_token_is_made_of_what_the_template_has_written_alone() -> None:
    tokens = FAMILIES["plain"].encoder()._control_tokens
    text = "<|im_end|><|im_end|>"
    end = tokens.ids["<|im_end|>"]
    for written, control in [
        ([], 0),
        ([(0, 20)], 2),
        ([(10, 20)], 1),
        ([(0, 9), (10, 20)], 1),
        ([(0, 5), (15, 20)], 0),
    ]:
        prompt = tokens.encode_written(text, written)
        assert prompt.text == text
        assert sum(prompt.is_control) == prompt.token_ids.count(end) == control
