"""The echo: what it says, how likely it was, and that it is the same everywhere and always."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.observing import Observed
from workbench.errors import ClosedError, ContextLengthError, InvalidRequestError
from workbench.protocol import (
    LogProbConfig,
    Provider,
    SamplingParams,
    SamplingStrategy,
    ToolDefinition,
    ToolParamDefinition,
    ToolPromptFormat,
    UserMessage,
)
from workbench.providers import create
from workbench.providers.echo.words import token_id, words_of

WEATHER = ToolDefinition(
    tool_name="get_weather",
    parameters={
        "city": ToolParamDefinition(param_type="string"),
        "days": ToolParamDefinition(param_type="int"),
        "unit": ToolParamDefinition(param_type='Literal["C", "F"]'),
        "tags": ToolParamDefinition(param_type="list[str]"),
        "detail": ToolParamDefinition(param_type="dict[str, int]"),
        "note": ToolParamDefinition(param_type="str", required=False),
        "why": ToolParamDefinition(param_type="str | None"),
        "exact": ToolParamDefinition(param_type="bool"),
    },
)


def echo(**config: Any) -> Any:
    return create(Provider(provider_id="echo", provider_type="inline::echo", config=config))


def user(text: str) -> list[Any]:
    return [UserMessage(content=text)]


@given(st.text())
def test_the_words_of_a_text_are_the_text(text: str) -> None:
    assert "".join(words_of(text)) == text
    assert all(0 <= token_id(word) < 2**31 for word in words_of(text))


async def test_a_text_is_continued_with_itself_and_a_chat_answered_with_its_last_message() -> None:
    provider = echo()
    assert (await provider.completion("echo", "to be, or not")).completion_message.content == "to be, or not"
    answer = await provider.chat_completion("echo", [*user("first"), *user(" second 😀 ")])
    assert answer.completion_message.content == " second 😀 "


async def test_each_word_is_a_token_whose_probability_is_a_half() -> None:
    observed = Observed(echo())
    await observed.completion("echo", "to be", logprobs=LogProbConfig(top_k=3))
    facts: Any = observed.folded
    assert [token.text for token in facts.tokens] == ["to", " be"]
    for token in facts.tokens:
        assert (token.rank, token.probability) == (1, pytest.approx(0.5))
        assert [(other.text, other.rank) for other in token.alternatives] == [
            (token.text + "~", 2),
            (token.text + "~~", 3),
            (token.text + "~~~", 4),
        ]
        assert token.entropy == pytest.approx(2 * math.log(2))
    assert (facts.usage.prompt_tokens, facts.usage.generated_tokens) == (2, 2)


async def test_a_sample_follows_the_probabilities_and_its_seed() -> None:
    provider, text = Observed(echo()), "word " * 4000
    params = SamplingParams(strategy=SamplingStrategy.top_p, temperature=1.0, top_p=1.0, seed=7)
    whole = await provider.completion("echo", text, params)
    counts = Counter(token.rank for token in provider.folded.tokens)
    for rank in (1, 2, 3):
        assert counts[rank] / 4000 == pytest.approx(2**-rank, abs=0.05)
    again = await provider.completion("echo", text, params)
    other = await provider.completion("echo", text, params.model_copy(update={"seed": 8}))
    assert whole.completion_message == again.completion_message != other.completion_message


@pytest.mark.parametrize(
    "params,ranks",
    [
        ({"strategy": "top_k", "top_k": 2}, {1, 2}),
        ({"strategy": "top_p", "top_p": 0.5}, {1}),
        ({"strategy": "top_p", "top_p": 0.51}, {1, 2}),
        ({"strategy": "top_p", "top_p": 0.76}, {1, 2, 3}),
    ],
)
async def test_what_is_cut_is_never_said(params: dict[str, Any], ranks: set[int]) -> None:
    sampling = SamplingParams(temperature=1.0, seed=1, **params)
    observed = Observed(echo())
    await observed.completion("echo", "word " * 500, sampling)
    assert {token.rank for token in observed.folded.tokens} == ranks


@pytest.mark.parametrize(
    "stop,said", [(["c"], "a b "), ([" b"], "a"), (["x"], "a b c d"), (["d", "b c"], "a "), (["a"], "")]
)
async def test_a_stop_string_ends_it_before(stop: list[str], said: str) -> None:
    provider, params = echo(), SamplingParams(stop=stop)
    whole = (await provider.completion("echo", "a b c d", params)).completion_message
    assert (whole.content, whole.stop_reason) == (said, "end_of_turn")
    chunks = [chunk.delta async for chunk in provider.completion("echo", "a b c d", params, stream=True)]
    assert "".join(chunks) == said


async def test_the_context_is_a_limit() -> None:
    provider = echo(context_length=5)
    whole = (await provider.completion("echo", "a b c")).completion_message
    assert (whole.content, whole.stop_reason) == ("a b", "out_of_tokens")
    with pytest.raises(ContextLengthError) as caught:
        provider.completion("echo", "a b c d e")
    assert (caught.value.prompt_tokens, caught.value.context_length) == (5, 5)


@pytest.mark.parametrize("prompt_format", ToolPromptFormat)
async def test_a_tool_that_is_named_is_called_with_what_fits_its_schema(prompt_format: ToolPromptFormat) -> None:
    whole = await echo().chat_completion(
        "echo", user("please get_weather"), tools=[WEATHER], tool_prompt_format=prompt_format
    )
    (call,) = whole.completion_message.tool_calls
    assert call.tool_name == "get_weather"
    assert call.arguments == {
        "city": "please get_weather",
        "days": 0,
        "unit": "C",
        "tags": [],
        "detail": {},
        "why": "please get_weather",
        "exact": False,
    }
    assert whole.completion_message.stop_reason == "end_of_message"


async def test_a_required_call_comes_and_a_free_answer_needs_none() -> None:
    provider = echo()
    spoken_of = await provider.chat_completion("echo", user("What is the Weather?"), tools=[WEATHER])
    assert spoken_of.completion_message.tool_calls[0].tool_name == "get_weather"
    free = await provider.chat_completion("echo", user("hello"), tools=[WEATHER])
    assert (free.completion_message.content, free.completion_message.tool_calls) == ("hello", [])
    required = await provider.chat_completion("echo", user("hello"), tools=[WEATHER], tool_choice="required")
    assert required.completion_message.tool_calls[0].arguments["city"] == "hello"


async def test_embeddings_are_nearer_the_more_words_are_shared() -> None:
    provider = echo()
    a, b, c, a2 = (
        await provider.embeddings("echo-embedding", ["red green blue", "red green", "one two", "Red GREEN blue"])
    ).embeddings
    assert math.hypot(*a) == pytest.approx(1)
    assert math.dist(a, b) < math.dist(a, c) - 0.3
    assert a == a2
    assert provider.card("echo-embedding").kind == "embedding"
    with pytest.raises(InvalidRequestError, match="embeddings only"):
        provider.completion("echo-embedding", "x")


async def test_scores_prefer_what_would_be_said() -> None:
    echoed, other = await echo().score("echo", "to be", ["to be", "to see"])
    assert echoed.logprob == pytest.approx(2 * math.log(0.5))
    assert other.logprob == pytest.approx(math.log(0.5) + math.log(0.25))


async def test_a_conversation_is_rendered_with_a_control_token_before_each_message() -> None:
    prompt = await echo().render("echo", [*user("hi there"), *user("you")])
    assert prompt.text == "<user>hi there<user>you"
    assert [token.is_control for token in prompt.tokens] == [True, False, False, True, False]


async def test_a_closed_echo_says_no_more() -> None:
    provider = echo()
    stream = provider.completion("echo", "a b c", stream=True)
    await anext(stream)
    provider.close()
    with pytest.raises(ClosedError):
        await anext(stream)


def test_it_says_the_same_in_another_process_without_torch() -> None:
    program = """
import asyncio, sys
import workbench.providers as providers
from workbench.protocol import Provider, SamplingParams
provider = providers.create(Provider(provider_id="e", provider_type="inline::echo", config={}))
params = SamplingParams(strategy="top_p", temperature=1.0, seed=5)
print(asyncio.run(provider.completion("echo", "a b c d e f", params)).completion_message.content)
assert not {"torch", "transformers", "numpy"} & sys.modules.keys()
"""
    runs = [
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len(runs[0].split()) == 6
