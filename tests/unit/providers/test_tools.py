"""Tools through the provider: what is wrong is refused first, and a call that has to come does come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import pytest

from tests.budget import budget
from tests.fakes.models import IM_END, FakeDecoder, scripted_speech
from tests.fakes.observing import Observed
from tests.fakes.serving import FakeModels
from tests.fakes.templates import FAMILIES
from workbench.errors import InvalidRequestError, ToolCallError, UnsupportedFieldError
from workbench.prompts.tools.definitions import Toolset
from workbench.protocol import (
    BuiltinTool,
    ChatCompletionResponseEventType,
    CompletionMessage,
    JsonSchemaResponseFormat,
    SamplingParams,
    SamplingStrategy,
    StopReason,
    ToolCall,
    ToolCallDelta,
    ToolCallParseStatus,
    ToolChoice,
    ToolDefinition,
    ToolParamDefinition,
    ToolPromptFormat,
    UserMessage,
)
from workbench.providers.transformers import TransformersProvider

ASK: list[Any] = [UserMessage(content="Weather?")]
WEATHER = ToolDefinition(
    tool_name="get_weather",
    parameters={
        "location": ToolParamDefinition(param_type='{"type": "string", "maxLength": 9}'),
        "days": ToolParamDefinition(param_type="int", required=False),
        "at": ToolParamDefinition(param_type='{"type": "array", "items": {"enum": ["am", true]}, "maxItems": 2}'),
    },
)
SCHEMAS = Toolset.of([WEATHER]).schemas


def sampled(**more: Any) -> SamplingParams:
    return SamplingParams(strategy=SamplingStrategy.top_p, temperature=1.0, **more)


@pytest.fixture
async def provider(fake_models: FakeModels) -> AsyncIterator[TransformersProvider]:
    fake_models.add("random")
    for name in ("tagged", "headers", "no system"):
        tokenizer = FAMILIES[name].tokenizer()
        fake_models.add(name, FakeDecoder(vocab_size=len(tokenizer)), tokenizer=tokenizer)
    provider = fake_models.provider()
    yield provider
    provider.close()


async def answer(
    provider: TransformersProvider, model: str = "random", seed: int = 0, **asked: Any
) -> CompletionMessage:
    params = sampled(seed=seed)
    response = await provider.chat_completion(model, ASK, params, [WEATHER], ToolChoice.required, **asked)
    message: CompletionMessage = response.completion_message
    return message


def check(call: ToolCall) -> None:
    assert call.tool_name == "get_weather"
    jsonschema.validate(call.arguments, SCHEMAS["get_weather"])


@pytest.mark.parametrize("tool_prompt_format", [None, *ToolPromptFormat])
@pytest.mark.parametrize("model", ["random", "tagged", "headers", "no system"])
async def test_a_required_call_comes_from_a_model_that_knows_nothing(
    provider: TransformersProvider, model: str, tool_prompt_format: ToolPromptFormat | None
) -> None:
    for seed in range(budget(3)):
        message = await answer(provider, model, seed, tool_prompt_format=tool_prompt_format)
        assert message.tool_calls
        assert message.stop_reason is StopReason.end_of_message
        assert message.content == ""
        for call in message.tool_calls:
            check(call)


async def test_a_required_call_is_streamed_from_started_to_success(provider: TransformersProvider) -> None:
    params = sampled(seed=1)
    stream = provider.chat_completion("random", ASK, params, [WEATHER], ToolChoice.required, stream=True)
    events = [chunk.event async for chunk in stream]
    kinds = [event.event_type for event in events]
    assert kinds[0] is ChatCompletionResponseEventType.start
    assert kinds[-1] is ChatCompletionResponseEventType.complete
    assert set(kinds[1:-1]) == {ChatCompletionResponseEventType.progress}
    deltas = [event.delta for event in events if isinstance(event.delta, ToolCallDelta)]
    assert events[1].delta is deltas[0]
    assert deltas[0].parse_status is ToolCallParseStatus.started
    assert deltas[-1].parse_status is ToolCallParseStatus.success
    assert isinstance(deltas[-1].content, ToolCall)
    check(deltas[-1].content)
    whole = await answer(provider, seed=1)
    streamed = [delta.content for delta in deltas if isinstance(delta.content, ToolCall)]
    assert [(call.tool_name, call.arguments) for call in streamed] == [
        (call.tool_name, call.arguments) for call in whole.tool_calls
    ]


async def test_a_required_call_that_the_tokens_cut_off_is_an_error_and_no_answer(
    provider: TransformersProvider,
) -> None:
    params = sampled(max_tokens=3)
    with pytest.raises(ToolCallError, match="max_tokens"):
        await provider.chat_completion("random", ASK, params, [WEATHER], ToolChoice.required)


async def test_without_tools_what_looks_like_a_call_is_text(fake_models: FakeModels) -> None:
    text = '{"type": "function", "name": "get_weather", "parameters": {}}'
    fake_models.add("chatty", FakeDecoder(scripted_speech(text, IM_END)))
    provider = fake_models.provider()
    message = (await provider.chat_completion("chatty", [UserMessage(content="\0")])).completion_message
    provider.close()
    assert (message.content.endswith(text[-20:]), message.tool_calls) == (True, [])


@pytest.mark.parametrize(
    "asked, field",
    [
        ({"tool_choice": ToolChoice.required}, "tools"),
        ({"tool_choice": ToolChoice.required, "tools": []}, "tools"),
        ({"tool_choice": "never"}, "tool_choice"),
        ({"tool_choice": 1}, "tool_choice"),
        ({"tool_prompt_format": "xml"}, "tool_prompt_format"),
        ({"tools": "get_weather"}, "tools"),
        ({"tools": [None]}, r"tools\[0\]"),
        ({"tools": [WEATHER, WEATHER]}, r"tools\[1\]\.tool_name"),
        ({"tools": [ToolDefinition(tool_name="<|im_end|>")]}, r"tools\[0\]\.tool_name"),
    ],
)
def test_what_is_wrong_with_tools_is_refused_before_a_model_is_loaded(
    provider: TransformersProvider, fake_models: FakeModels, asked: dict[str, Any], field: str
) -> None:
    for stream in (False, True):
        with pytest.raises(InvalidRequestError, match=f"^{field}"):
            provider.chat_completion("random", ASK, stream=stream, **asked)
    assert fake_models.loads == []


def test_tools_and_a_response_format_are_refused_together(provider: TransformersProvider) -> None:
    wanted = JsonSchemaResponseFormat(json_schema={})
    with pytest.raises(UnsupportedFieldError, match="response_format"):
        provider.chat_completion("random", ASK, tools=[WEATHER], response_format=wanted)


@pytest.mark.parametrize(
    "schema",
    [
        '{"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}',
        '{"type": "string", "maxLength": 0, "pattern": "a"}',
    ],
)
async def test_parameters_that_nothing_fits_are_refused_by_name(provider: TransformersProvider, schema: str) -> None:
    tool = ToolDefinition(tool_name="f", parameters={"x": ToolParamDefinition(param_type=schema)})
    with pytest.raises(InvalidRequestError, match=r"^tools"):
        await provider.chat_completion("random", ASK, SamplingParams(), [tool], ToolChoice.required)


async def test_a_format_that_the_models_own_way_wins_over_is_noted(provider: TransformersProvider) -> None:
    params = SamplingParams(max_tokens=1)
    for model, tool_format, said in (
        ("tagged", ToolPromptFormat.python_list, True),
        ("tagged", ToolPromptFormat.json, False),
        ("random", ToolPromptFormat.python_list, False),
    ):
        observed = Observed(provider)
        await observed.chat_completion(model, ASK, params, [WEATHER], tool_prompt_format=tool_format)
        assert any("tool_call_tag" in note for note in observed.folded.notes) is said


async def test_a_batch_with_tools_answers_in_order_and_refuses_a_bad_item_by_its_index(
    provider: TransformersProvider,
) -> None:
    tools = [WEATHER, ToolDefinition(tool_name=BuiltinTool.brave_search)]
    params = sampled(seed=3)
    batch: list[Any] = [[UserMessage(content=f"{index}?")] for index in range(3)]
    response = await provider.batch_chat_completion("random", batch, params, [tools[0]], ToolChoice.required)
    for message, one in zip(response.completion_message_batch, batch, strict=True):
        alone = await provider.chat_completion("random", one, params, [tools[0]], ToolChoice.required)
        assert [call.arguments for call in message.tool_calls] == [
            call.arguments for call in alone.completion_message.tool_calls
        ]
    with pytest.raises(InvalidRequestError, match=r"messages_batch\[1\]"):
        await provider.batch_chat_completion("random", [batch[0], [], batch[1]], params, tools)
