"""What is wrong with a request or a config is said at the place where it is wrong."""

from __future__ import annotations

import math
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from workbench.errors import ConfigError, InvalidRequestError, WorkbenchError
from workbench.protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    Message,
    StackRunConfig,
    ToolCall,
    UserMessage,
    invalid_request,
)

USER = {"role": "user", "content": "hi"}
CALL = {"call_id": "1", "tool_name": "f", "arguments": {"a": math.nan}}
ANSWER = {"role": "assistant", "content": "", "stop_reason": "end_of_turn", "tool_calls": [CALL]}
SHAPES: list[tuple[Any, str]] = [
    (None, "messages"),
    ("hi", "messages"),
    ({"0": USER}, "messages"),
    ([USER, "hi"], "messages[1]"),
    ([{"content": "hi"}], "messages[0].role"),
    ([{"role": "robot", "content": "hi"}], "messages[0].role"),
    ([{"role": "user"}], "messages[0].content"),
    ([{"role": "user", "content": None}], "messages[0].content"),
    ([{"role": "user", "content": 5}], "messages[0].content"),
    ([{"role": "user", "content": ["a", 5]}], "messages[0].content[1]"),
    ([{"role": "user", "content": {"image": {"uri": 5}}}], "messages[0].content.image.uri"),
    ([{"role": "user", "content": "a", "name": "b"}], "messages[0].name"),
    ([UserMessage(content="a"), {"role": "assistant", "content": "a"}], "messages[1].stop_reason"),
    ([USER, ANSWER], "messages[1].tool_calls[0].arguments.a"),
]


@pytest.mark.parametrize("messages, path", SHAPES)
def test_a_malformed_conversation_is_refused_at_its_place(messages: Any, path: str) -> None:
    for build in (ChatCompletionRequest, lambda **data: ChatCompletionRequest.model_validate(data)):
        with pytest.raises(InvalidRequestError) as caught:
            build(model="m", messages=messages)
        assert caught.value.field == path


def test_a_field_whose_name_begins_like_the_wrong_one_is_not_blamed() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ToolCall(call_id="1", tool_name="f", arguments={"a": math.nan, "ab": [math.nan]})
    assert caught.value.field == "arguments.a"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "image", "uri", "tool_calls"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, JSON, JSON)
def test_any_data_is_a_request_or_a_typed_refusal(messages: Any, sampling: Any, extra: Any) -> None:
    data = {"model": "m", "messages": messages, "sampling_params": sampling, "response_format": extra, "tools": extra}
    refusal: InvalidRequestError | None = None
    try:
        ChatCompletionRequest.model_validate(data)
    except InvalidRequestError as error:
        refusal = error
    assert refusal is None or refusal.field.split(".")[0].split("[")[0] in data


@pytest.mark.parametrize("text", ["", "{", "[1]", "nul", '{"model": "m"}', '{"a":' * 100_000, "\x00", '{"model": NaN}'])
def test_any_text_that_is_no_request_is_a_typed_refusal(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        CompletionRequest.model_validate_json(text)


@pytest.mark.parametrize(
    "format_, path",
    [
        ({"type": "xml"}, "response_format.type"),
        ({"regex": "a"}, "response_format.type"),
        ({"type": "regex"}, "response_format.regex"),
        ({"type": "regex", "regex": ""}, "response_format.regex"),
        ({"type": "json_schema", "json_schema": "{}"}, "response_format.json_schema"),
        ("json", "response_format"),
    ],
)
def test_a_response_format_is_told_by_its_type(format_: Any, path: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        CompletionRequest(model="m", content="x", response_format=format_)
    assert caught.value.field == path


@pytest.mark.parametrize("stream", [1, "yes", "true", 0.0])
def test_a_flag_is_true_or_false(stream: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^stream must be"):
        CompletionRequest(model="m", content="x", stream=stream)


def test_a_refusal_is_the_workbench_s_error_and_a_value_error_without_pydantic_s_behind_it() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        CompletionRequest.model_validate({"model": "m"})
    assert isinstance(caught.value, WorkbenchError)
    assert isinstance(caught.value, ValueError)
    assert caught.value.__suppress_context__


def test_who_validates_with_an_adapter_gets_the_same_words() -> None:
    data = [USER, {"role": "user", "content": 5}]
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(list[Message]).validate_python(data)
    refusal = invalid_request(caught.value, data)
    assert refusal.field == "[1].content"


CANARY = "sk-canary"
HEADER = {"built_at": "2026-01-01T00:00:00", "image_name": "example"}
PROVIDER = {"provider_id": "a", "provider_type": "remote::vllm", "config": {"api_token": CANARY}}
CONFIGS: list[tuple[Any, str]] = [
    ({**HEADER}, "providers"),
    ({"providers": {}}, "built_at"),
    ({**HEADER, "providers": [PROVIDER]}, "providers"),
    ({**HEADER, "providers": {"inference": PROVIDER}}, "providers.inference"),
    ({**HEADER, "providers": {"inference": [CANARY]}}, "providers.inference[0]"),
    (
        {**HEADER, "providers": {"inference": [{"provider_type": "x", "config": {}, "api_token": CANARY}]}},
        "providers.inference[0].provider_id",
    ),
    ({**HEADER, "providers": {"inference": [{**PROVIDER, "api_token": CANARY}]}}, "providers.inference[0].api_token"),
    ({**HEADER, "providers": {"inference": [{**PROVIDER, "config": CANARY}]}}, "providers.inference[0].config"),
    ({**HEADER, "version": 2, "providers": {}}, "version"),
    ({**HEADER, "providers": {}, "routing_table": {"x": CANARY}}, "routing_table"),
    ([CANARY], "StackRunConfig"),
]


@pytest.mark.parametrize("config, path", CONFIGS)
def test_a_wrong_run_config_is_a_config_error_with_the_key_s_path_and_no_secret(config: Any, path: str) -> None:
    with pytest.raises(ConfigError, match=f"^{path.replace('[', chr(92) + '[')} must be ") as caught:
        StackRunConfig.model_validate(config)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_run_config_keeps_its_secrets_out_of_its_repr() -> None:
    config = StackRunConfig.model_validate({**HEADER, "providers": {"inference": [PROVIDER, {**PROVIDER}]}})
    provider = config.providers["inference"][0]
    assert CANARY not in repr(config) + str(config) + repr(provider.config)
    assert CANARY not in config.model_dump_json() + repr(config.model_dump())
    assert provider.config["api_token"].get_secret_value() == CANARY
