"""The wire format: what is not used is not there, what is written can be read back, and JSON stays finite."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from workbench import protocol
from workbench.errors import InvalidRequestError
from workbench.protocol import (
    LOGPROB_FLOOR,
    URL,
    BuiltinTool,
    ChatCompletionRequest,
    ChatCompletionResponse,
    CompletionMessage,
    CompletionRequest,
    CompletionResponse,
    ImageMedia,
    JsonSchemaResponseFormat,
    LogProbConfig,
    Message,
    ModelDef,
    ProtocolModel,
    SamplingParams,
    StopReason,
    SystemMessage,
    TokenLogProb,
    TokenLogProbs,
    ToolCall,
    ToolDefinition,
    ToolResponseMessage,
    UserMessage,
)
from workbench.records import Alternative, TokenRecord, token_logprobs

TEXT = st.text(max_size=20)
CONTENT = TEXT | st.builds(ImageMedia, image=st.builds(URL, uri=TEXT)) | st.lists(TEXT, max_size=3)
PRIMITIVE = TEXT | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
ARGUMENT = PRIMITIVE | st.none() | st.lists(PRIMITIVE, max_size=2) | st.dictionaries(TEXT, PRIMITIVE, max_size=2)
TOOL_NAME = st.sampled_from(BuiltinTool) | TEXT
TOOL_CALL = st.builds(
    ToolCall, call_id=TEXT, tool_name=TOOL_NAME, arguments=st.dictionaries(TEXT, ARGUMENT, max_size=2)
)
MESSAGE: st.SearchStrategy[Message] = (
    st.builds(UserMessage, content=CONTENT, context=st.none() | CONTENT)
    | st.builds(SystemMessage, content=CONTENT)
    | st.builds(ToolResponseMessage, call_id=TEXT, tool_name=TOOL_NAME, content=CONTENT)
    | st.builds(
        CompletionMessage,
        content=CONTENT,
        stop_reason=st.sampled_from(StopReason),
        tool_calls=st.lists(TOOL_CALL, max_size=2),
    )
)


@given(st.lists(MESSAGE, max_size=4), st.none() | st.integers(0, 9), st.none() | st.lists(st.just("stop"), max_size=2))
def test_a_request_read_back_is_the_request(messages: list[Message], seed: int | None, stop: list[str] | None) -> None:
    request = ChatCompletionRequest(
        model="m",
        messages=messages,
        sampling_params=SamplingParams(seed=seed, stop=stop or None),
        tools=[ToolDefinition(tool_name="f")],
        logprobs=LogProbConfig(top_k=seed, prompt=bool(stop)),
    )
    assert ChatCompletionRequest.model_validate_json(request.model_dump_json()) == request
    assert ChatCompletionRequest.model_validate(request.model_dump()) == request


@given(TOOL_CALL)
def test_the_arguments_of_a_call_keep_their_types(call: ToolCall) -> None:
    read = ToolCall.model_validate_json(call.model_dump_json())
    assert {name: type(value) for name, value in read.arguments.items()} == {
        name: type(value) for name, value in call.arguments.items()
    }


def test_a_builtin_tool_is_its_member_and_any_other_name_is_text() -> None:
    names = [ToolCall(call_id="1", tool_name=name, arguments={}).tool_name for name in ("brave_search", "mine")]
    assert names == [BuiltinTool.brave_search, "mine"]
    assert type(names[0]) is BuiltinTool


COMPLETION_REQUEST = ["model", "content", "sampling_params", "stream", "logprobs"]
SAMPLING = ["strategy", "temperature", "top_p", "top_k", "max_tokens", "repetition_penalty"]


def test_a_request_without_additions_has_the_original_keys() -> None:
    request = CompletionRequest(model="m", content="x", logprobs=LogProbConfig())
    for data in (request.model_dump(), json.loads(request.model_dump_json())):
        assert list(data) == COMPLETION_REQUEST
        assert list(data["sampling_params"]) == SAMPLING
        assert list(data["logprobs"]) == ["top_k"]
    assert list(TokenLogProbs(logprobs_by_token={"a": -1.0}).model_dump()) == ["logprobs_by_token"]


def test_no_addition_is_written_where_it_has_its_default() -> None:
    fields = [addition.path.split(".") for addition in protocol.ADDITIONS if addition.kind == "field"]
    for model, field in fields:
        information = getattr(protocol, model).model_fields[field]
        assert information.exclude_if is not None, f"{model}.{field}"
        assert information.exclude_if(information.get_default(call_default_factory=True)), f"{model}.{field}"


def test_additions_are_written_where_they_are_used() -> None:
    request = CompletionRequest(
        model="m",
        content="x",
        sampling_params=SamplingParams(seed=0, stop=["\n"], min_p=0.1, presence_penalty=-1, logit_bias={50: -100}),
        logprobs=LogProbConfig(prompt=True),
        response_format=JsonSchemaResponseFormat(json_schema={"type": "object"}),
    )
    data = json.loads(request.model_dump_json())
    assert [data["sampling_params"][name] for name in ("seed", "stop", "min_p", "presence_penalty")] == [
        0,
        ["\n"],
        0.1,
        -1,
    ]
    assert "frequency_penalty" not in data["sampling_params"]
    assert data["sampling_params"]["logit_bias"] == {"50": -100.0}
    assert CompletionRequest.model_validate(data) == request
    assert data["logprobs"] == {"top_k": 0, "prompt": True}
    assert data["response_format"] == {"type": "json_schema", "json_schema": {"type": "object"}}


def test_optional_fields_of_the_original_stay_on_the_wire_as_null() -> None:
    message = CompletionMessage(content="a", stop_reason=StopReason.end_of_turn)
    assert ChatCompletionResponse(completion_message=message).model_dump(mode="json") == {
        "completion_message": {"role": "assistant", "content": "a", "stop_reason": "end_of_turn", "tool_calls": []},
        "logprobs": None,
    }


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "F"])
def test_a_decoded_image_is_written_as_a_png_data_url(mode: str) -> None:
    message = UserMessage(content=["look", ImageMedia(image=Image.new(mode, (2, 3)))])
    read = UserMessage.model_validate_json(message.model_dump_json())
    assert isinstance(read.content, list)
    assert isinstance(read.content[1], ImageMedia)
    assert str(read.content[1].image).startswith("data:image/png;base64,iVBOR")


def test_every_model_has_a_json_schema_in_both_directions() -> None:
    models = [item for item in vars(protocol).values() if isinstance(item, type) and issubclass(item, ProtocolModel)]
    assert len(models) > 40
    for model in models:
        assert json.dumps([model.model_json_schema(mode="validation"), model.model_json_schema(mode="serialization")])


def finite(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


@given(st.dictionaries(TEXT, st.floats(allow_nan=False, max_value=0), max_size=4))
def test_logprobs_are_finite_json(logprobs: dict[str, float]) -> None:
    tokens = [
        TokenLogProb(token_id=1, text=text, bytes=[], logprob=value, rank=1, is_sampled=False)
        for text, value in logprobs.items()
    ]
    written = TokenLogProbs(logprobs_by_token=logprobs, tokens=tokens)
    for data in (finite(written.model_dump_json()), finite(json.dumps(written.model_dump()))):
        for text, value in logprobs.items():
            assert data["logprobs_by_token"][text] == (value if math.isfinite(value) else LOGPROB_FLOOR)


def test_nan_is_no_logprob_and_infinity_in_metadata_is_written_as_null() -> None:
    with pytest.raises(InvalidRequestError, match=r"^logprobs_by_token\.a must be a finite number; got nan"):
        TokenLogProbs(logprobs_by_token={"a": math.nan})
    definition = ModelDef(identifier="a", llama_model="b", metadata={"x": math.inf, "y": [math.nan]})
    assert finite(definition.model_dump_json())["metadata"] == {"x": None, "y": [None]}


def record(text: str, logprob: float, *alternatives: tuple[int, str, float]) -> TokenRecord:
    others = tuple(
        Alternative(token_id, other, other.encode(), value, rank)
        for rank, (token_id, other, value) in enumerate(alternatives, start=1)
    )
    return TokenRecord(0, 7, text, text.encode(), logprob, rank=3, entropy=1.0, alternatives=others)


def test_tokens_of_one_text_are_both_in_the_list_and_the_likelier_keeps_the_key() -> None:
    logprobs = token_logprobs(record("\ufffd", -2.0, (1, "\ufffd", -1.0), (2, "b", -1.5)))
    assert logprobs.logprobs_by_token == {"\ufffd": -1.0, "b": -1.5}
    assert [(token.token_id, token.is_sampled) for token in logprobs.tokens] == [(1, False), (2, False), (7, True)]
    assert logprobs.tokens[2].bytes == list("\ufffd".encode())


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc"), st.floats(-50, 0)), max_size=5), st.floats(-50, 0))
def test_no_candidate_is_lost_and_the_best_is_first(others: list[tuple[int, str, float]], sampled: float) -> None:
    logprobs = token_logprobs(record("a", sampled, *others))
    values = [token.logprob for token in logprobs.tokens]
    assert len(values) == len(others) + 1
    assert values == sorted(values, reverse=True)
    assert sum(token.is_sampled for token in logprobs.tokens) == 1
    assert "a" in logprobs.logprobs_by_token
    for text, value in logprobs.logprobs_by_token.items():
        assert value == max(token.logprob for token in logprobs.tokens if token.text == text)


def test_a_logprob_that_nobody_told_is_left_out() -> None:
    assert token_logprobs(record("a", math.nan)) == TokenLogProbs(logprobs_by_token={})


def test_an_answer_of_a_newer_server_can_be_read_on_request() -> None:
    data = {"completion_message": {"content": "a", "stop_reason": "end_of_turn", "mood": 1}, "cost": 0}
    with pytest.raises(InvalidRequestError, match=r"^completion_message\.mood must be left out"):
        CompletionResponse.model_validate(data)
    assert CompletionResponse.model_validate(data, extra="ignore").completion_message.content == "a"
