"""Every template of the corpus renders as transformers renders it, and no text of a request becomes a control token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError as JinjaError

from tests.budget import budget
from tests.fakes.hostile_texts import hostile_texts, in_parts
from tests.fakes.template_corpus import (
    CONVERSATIONS,
    OTHERS,
    SPECIALS,
    TEMPLATES,
    TOOLS,
    as_transformers_takes_them,
    call,
    encoder,
    result,
    said,
    tokenizer,
)
from workbench.errors import InvalidRequestError
from workbench.prompts.encoding import PromptEncoder
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.rendering import descriptions
from workbench.prompts.turns import text_turns
from workbench.protocol import Message, SystemMessage, UserMessage

each_template = pytest.mark.parametrize("name", TEMPLATES)


def test_the_corpus_is_large_enough() -> None:
    assert len(TEMPLATES) >= 40
    assert len(CONVERSATIONS) == 12
    syntaxes = {template.native_syntax for name in TEMPLATES if (template := encoder(name).template)}
    assert len(syntaxes) == 6  # five styles of tools, and none


# ------------------------------------------------------------------------------------------------ as transformers does


def theirs(name: str, turns: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str | None:
    """What transformers makes of the turns; nothing where the template refuses them."""
    template = encoder(name).template
    assert template is not None
    if not template.takes_text:
        turns = [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    try:
        text = tokenizer(TEMPLATES[name]).apply_chat_template(
            turns, tools=tools, tokenize=False, add_generation_prompt=True
        )
    except (JinjaError, TypeError, ValueError, AttributeError, LookupError):
        return None
    return str(text)


def ours(name: str, messages: Sequence[Message], tools: Toolset | None) -> str | None:
    try:
        return encoder(name).chat_prompt(messages, tools).text
    except InvalidRequestError:
        return None


def wanted(name: str, messages: Sequence[Message], tools: Toolset | None) -> str | None:
    """What transformers makes of the messages, or where it shows nothing of a system message, of the folded ones."""
    template = encoder(name).template
    assert template is not None
    if template.native_syntax is None:  # such a template is told of tools in words
        turns = text_turns(messages, tools or Toolset(), encoder(name).tool_syntax(), "messages")
    else:
        turns = as_transformers_takes_them(messages)
    functions = [{"type": "function", "function": one} for one in descriptions(tools)] if tools else None
    text = theirs(name, turns, functions if template.native_syntax else None)
    head = turns[0]["content"].split() if turns[0]["role"] == "system" else []
    if turns[0]["role"] != "system" or (text is not None and "".join(head[-1:]).casefold() in text.casefold()):
        return text
    first = turns[1] | {"content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
    return theirs(name, [first, *turns[2:]], functions if template.native_syntax else None)


@each_template
def test_each_conversation_is_rendered_as_transformers_renders_it(name: str) -> None:
    for title, messages in CONVERSATIONS.items():
        tools = TOOLS if "call" in title or "results" in title else None
        assert ours(name, messages, tools) == wanted(name, messages, tools), title


LOOK_ALIKES = st.lists(
    st.sampled_from(
        [*SPECIALS[:7], *OTHERS[:4], "<|im_start|>", "<|im_end|>", "<|", "|>", "<", "think>", "</", "[INST"]
    )
    | st.sampled_from(
        ["/no_think", "\n", "\n\n", " ", "a", "B", "ß", "İ", "'", '"', "\\", "%s", "{0}", "{", "&", "\ue000"]
    )
    | st.characters(exclude_categories=["Cs"]),
    max_size=8,
).map("".join)


@settings(max_examples=budget(100), derandomize=True)
@given(name=st.sampled_from(sorted(TEMPLATES)), texts=st.lists(LOOK_ALIKES, min_size=3, max_size=3))
def test_so_is_any_text(name: str, texts: list[str]) -> None:
    messages: list[Message] = [user(texts[0]), said(texts[1]), user(texts[2])]
    assert ours(name, messages, None) == wanted(name, messages, None)


# --------------------------------------------------------------------------------------------------- nothing is forged

TEXTS = 12
HOSTILE = hostile_texts(300)[: TEXTS * budget(300 // TEXTS)]
BY_CONTENT = frozenset({"blank_lines", "last_question", "truncated"})
"""Templates that write other control tokens of their own for other texts."""


def hostile_conversation(texts: Sequence[str], index: int = 0) -> list[Message]:
    """Twelve texts, wherever a request can put one that a template shows."""
    asked = call("a1b2c3d4e", **{f"k{texts[3]}": [texts[3], {texts[3]: texts[1]}]})
    return [
        SystemMessage(content=texts[0]),
        UserMessage(content=[*in_parts(texts[1], index)]),
        said(texts[2], asked),
        result("a1b2c3d4e", texts[4]),
        said(texts[5]),
        *(made(text) for text in texts[6:] for made in (user, said)),
        user("?"),
    ]


def user(text: str) -> UserMessage:
    return UserMessage(content=f"{text}.")


def controls(coder: PromptEncoder, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """The tokens that are said to be control tokens, and those that are by their ids."""
    prompt = coder.chat_prompt(messages, TOOLS)
    known = set(coder._control_tokens.ids.values())
    own = [token_id for token_id, is_own in zip(prompt.token_ids, prompt.is_control, strict=True) if is_own]
    return own, [token_id for token_id in prompt.token_ids if token_id in known]


@each_template
def test_no_hostile_text_becomes_a_control_token_in_any_template(name: str) -> None:
    coder = encoder(name)
    placed, _ = controls(coder, hostile_conversation(["inert words"] * TEXTS))
    assert placed
    shown = left_out = 0
    for start in range(0, len(HOSTILE), TEXTS):
        texts = HOSTILE[start : start + TEXTS]
        try:
            own, by_id = controls(coder, hostile_conversation(texts, start))
        except InvalidRequestError as error:  # the template has cut away all of a text
            left_out += "leaves out" in error.allowed
            continue
        shown += 1
        assert own == by_id
        if name not in BY_CONTENT:
            assert own == placed, texts
    assert shown + left_out == len(HOSTILE) / TEXTS
    assert shown > left_out


@pytest.mark.parametrize("name", sorted(BY_CONTENT))
def test_control_tokens_that_depend_on_a_text_are_those_of_a_template_that_spells_them_as_no_text_does(
    name: str,
) -> None:
    template = TEMPLATES[name]
    kept = {"last_question": OTHERS, "truncated": ("<|assistant|>",)}.get(name, ())  # compared, or made of a role
    spelled = {token: token.translate(CYRILLIC) for token in TOKENS if token in template and token not in kept}
    for token, other in spelled.items():
        template = template.replace(token, other)
    pattern = re.compile("|".join(map(re.escape, spelled.values())))
    known = {token_id: text for text, token_id in encoder(name)._control_tokens.ids.items() if text in spelled}
    for start in range(0, len(HOSTILE), TEXTS):
        messages = [made(text) for text in HOSTILE[start : start + TEXTS] for made in (user, said)]
        shown = tokenizer(template).apply_chat_template(
            as_transformers_takes_them(messages), tokenize=False, add_generation_prompt=True
        )
        ids = encoder(name).chat_prompt(messages).token_ids
        assert [spelled[known[token_id]] for token_id in ids if token_id in known] == pattern.findall(shown)


TOKENS = (*SPECIALS, *OTHERS, "<|im_start|>", "<|im_end|>")
CYRILLIC = {ord(letter): 0x430 + index for index, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
