"""What a provider does not declare is refused by the name of the field, and never reaches it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from workbench.errors import UnsupportedContentError, UnsupportedFieldError
from workbench.protocol import (
    Edit,
    GrammarResponseFormat,
    ImageMedia,
    JsonSchemaResponseFormat,
    LogProbConfig,
    Provider,
    RegexResponseFormat,
    SamplingParams,
    SamplingStrategy,
    ToolChoice,
    ToolDefinition,
    ToolPromptFormat,
    UserMessage,
)
from workbench.providers.capabilities import Capabilities
from workbench.providers.interface import InferenceProvider
from workbench.providers.requests import Request
from workbench.records import Emission
from workbench.stack.models import ModelRegistry
from workbench.stack.router import Router

NOTHING = Capabilities()
IMAGE = ImageMedia(image=Image.new("RGB", (2, 2)))
CHAT: list[Any] = [UserMessage(content="x")]
TOOL = ToolDefinition(tool_name="look")


class Plain(InferenceProvider):
    """Says one word, and counts how often it was asked."""

    def __init__(self, capabilities: Capabilities) -> None:
        super().__init__(Provider(provider_id="p", provider_type="test::plain", config={"models": ["m"]}))
        self.capabilities = capabilities
        self.asked = 0

    async def generate(self, request: Request) -> AsyncIterator[str | Emission]:
        self.asked += 1
        yield "word"


async def routed(provider: Plain) -> Router:
    registry = ModelRegistry({"p": provider})
    for model in await provider.list_models():
        registry.add(model, "p")
    return Router(registry)


def sampled(**more: Any) -> dict[str, Any]:
    return {"sampling_params": SamplingParams(**more)}


ABILITIES: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    (
        sampled(strategy="top_p", temperature=1.0),
        "sampling_params.strategy",
        {"strategies": frozenset(SamplingStrategy)},
    ),
    (
        sampled(strategy="top_k", temperature=1.0),
        "sampling_params.strategy",
        {"strategies": frozenset(SamplingStrategy)},
    ),
    (sampled(repetition_penalty=1.1), "sampling_params.repetition_penalty", {"repetition_penalty": True}),
    (
        sampled(strategy="top_p", temperature=1.0, min_p=0.1),
        "sampling_params.min_p",
        {"strategies": frozenset(SamplingStrategy), "min_p": True},
    ),
    (sampled(frequency_penalty=0.1), "sampling_params.frequency_penalty", {"frequency_penalty": True}),
    (sampled(presence_penalty=-0.1), "sampling_params.presence_penalty", {"presence_penalty": True}),
    (sampled(logit_bias={5: 1.0}), "sampling_params.logit_bias", {"logit_bias": True}),
    (sampled(seed=0), "sampling_params.seed", {"seed": True}),
    (sampled(stop=["x"]), "sampling_params.stop", {"stop": True}),
    ({"edits": [Edit(point="resid_post.0", operation="add", value=1.0)]}, "edits", {"edits": True}),
    ({"logprobs": LogProbConfig()}, "logprobs", {"logprobs": True}),
    ({"logprobs": LogProbConfig(top_k=9)}, "logprobs.top_k", {"logprobs": True, "max_top_k": 9}),
    ({"logprobs": LogProbConfig(prompt=True)}, "logprobs.prompt", {"logprobs": True, "prompt_logprobs": True}),
    (
        {"response_format": JsonSchemaResponseFormat(json_schema={})},
        "response_format",
        {"response_formats": frozenset({"json_schema"})},
    ),
    (
        {"response_format": RegexResponseFormat(regex="x")},
        "response_format",
        {"response_formats": frozenset({"regex"})},
    ),
    (
        {"response_format": GrammarResponseFormat(grammar="x")},
        "response_format",
        {"response_formats": frozenset({"grammar"})},
    ),
]
WITH_TOOLS: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"tools": [TOOL]}, "tools", {"tools": True}),
    (
        {"tools": [TOOL], "tool_choice": ToolChoice.required},
        "tool_choice",
        {"tools": True, "required_tool_choice": True},
    ),
    (
        {"tools": [TOOL], "tool_prompt_format": ToolPromptFormat.python_list},
        "tool_prompt_format",
        {"tools": True, "tool_prompt_formats": frozenset(ToolPromptFormat)},
    ),
]


def one_less(declared: dict[str, Any], field: str) -> dict[str, Any]:
    """The abilities that lead up to the one in question, without it."""
    if field == "logprobs.top_k":
        return {"logprobs": True, "max_top_k": 8}
    if "strategies" in declared and len(declared) > 1:
        return {"strategies": declared["strategies"]}
    return {"logprobs": True} if field == "logprobs.prompt" else {"tools": True} if len(declared) > 1 else {}


@pytest.mark.parametrize("asked,field,declared", ABILITIES + WITH_TOOLS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_that_asks_for_more_is_refused_and_for_what_is_declared_answered(
    asked: dict[str, Any], field: str, declared: dict[str, Any], stream: bool
) -> None:
    provider = Plain(replace(NOTHING, **one_less(declared, field)))
    router = await routed(provider)
    with pytest.raises(UnsupportedFieldError, match=r"provider p \(test::plain\) does not support it") as caught:
        router.chat_completion("m", CHAT, stream=stream, **asked)
    assert caught.value.field == field
    assert provider.asked == 0
    provider.capabilities = replace(NOTHING, **declared)
    assert (await router.chat_completion("m", CHAT, **asked)).completion_message.content == "word"


@pytest.mark.parametrize("asked,field,declared", ABILITIES)
async def test_so_is_a_completion(asked: dict[str, Any], field: str, declared: dict[str, Any]) -> None:
    provider = Plain(replace(NOTHING, **one_less(declared, field)))
    router = await routed(provider)
    with pytest.raises(UnsupportedFieldError) as caught:
        router.completion("m", "x", **asked)
    assert caught.value.field == field
    provider.capabilities = replace(NOTHING, **declared)
    assert (await router.completion("m", "x", **asked)).completion_message.content == "word"


@pytest.mark.parametrize(
    "asked",
    [
        sampled(repetition_penalty=1.0),
        sampled(repetition_penalty=None),
        sampled(min_p=0.5),  # greedy
        sampled(frequency_penalty=0.0, presence_penalty=None, logit_bias={}),
        sampled(strategy="top_p", temperature=0.0, min_p=0.5),
        sampled(stop=[]),
        sampled(strategy="top_p", temperature=0.0),
        sampled(strategy="top_k", temperature=1.0, top_k=1),
        sampled(max_tokens=5, top_p=0.5, top_k=4),
        {"sampling_params": None},
        {"tools": []},
        {"tool_choice": None},
        {"tool_prompt_format": ToolPromptFormat.python_list},
    ],
)
async def test_what_changes_nothing_needs_no_ability(asked: dict[str, Any]) -> None:
    router = await routed(Plain(NOTHING))
    assert await router.chat_completion("m", CHAT, **asked)


@pytest.mark.parametrize(
    "messages,field",
    [
        ([UserMessage(content=IMAGE)], "messages"),
        ([UserMessage(content=["x", IMAGE])], "messages"),
        ([*CHAT, UserMessage(content="x", context=[IMAGE])], "messages"),
    ],
)
async def test_an_image_is_refused_as_content(messages: Any, field: str) -> None:
    provider = Plain(NOTHING)
    router = await routed(provider)
    with pytest.raises(UnsupportedContentError, match=field):
        router.chat_completion("m", messages)
    with pytest.raises(UnsupportedContentError, match="content"):
        router.completion("m", ["x", IMAGE])
    with pytest.raises(UnsupportedContentError, match=r"messages_batch\[1\]"):
        await router.batch_chat_completion("m", [CHAT, messages])
    assert provider.asked == 0


async def test_every_item_of_a_batch_is_looked_at_before_any_is_answered() -> None:
    provider = Plain(NOTHING)
    router = await routed(provider)
    with pytest.raises(UnsupportedFieldError, match="seed"):
        await router.batch_completion("m", ["x", "y"], SamplingParams(seed=1))
    with pytest.raises(UnsupportedFieldError, match="tools"):
        await router.batch_chat_completion("m", [CHAT], tools=[TOOL])
    with pytest.raises(UnsupportedContentError, match=r"content_batch\[1\]"):
        await router.batch_completion("m", ["x", IMAGE])
    assert provider.asked == 0


@pytest.mark.parametrize(
    "ability,call",
    [
        ("completion", lambda router: router.completion("m", "x")),
        ("chat", lambda router: router.chat_completion("m", CHAT)),
        ("batch", lambda router: router.batch_completion("m", ["x"])),
        ("batch", lambda router: router.batch_chat_completion("m", [CHAT])),
        ("embeddings", lambda router: router.embeddings("m", ["x"])),
        ("score", lambda router: router.score("m", "x", ["y"])),
        ("render", lambda router: router.render("m", "x")),
    ],
)
async def test_a_method_that_is_not_declared_is_refused_with_those_that_are(ability: str, call: Any) -> None:
    nothing = replace(NOTHING, completion=False, chat=False, batch=False, score=ability != "score")
    provider = Plain(nothing)
    with pytest.raises(UnsupportedFieldError, match=f"one whose provider offers {ability}; provider p") as caught:
        await call(await routed(provider))
    assert caught.value.field == "model"
    assert provider.asked == 0
