"""The ``openai`` package against ``/v1``, and what its requests become."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Iterator
from typing import Any, Literal

import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field

from tests.fakes.http_server import HEADERS, TOKEN, Served, serving
from tests.fakes.models import FakeDecoder, answering
from tests.fakes.serving import FakeModels
from workbench.prompts.tools.definitions import Toolset
from workbench.protocol import (
    CompletionMessage,
    ImageMedia,
    JsonSchemaResponseFormat,
    SystemMessage,
    ToolResponseMessage,
    UserMessage,
)
from workbench.server.openai.messages import protocol_messages
from workbench.server.openai.requests import ChatRequest

HI: Any = [{"role": "user", "content": "Hi"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather.",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city."},
                "days": {"type": "integer", "minimum": 1, "default": 3},
                "unit": {"$ref": "#/$defs/Unit"},
            },
            "required": ["location"],
            "$defs": {"Unit": {"enum": ["C", "F"]}},
        },
    },
}
ASKED: Any = [{"role": "user", "content": "The weather in Rome?"}]


@pytest.fixture
def api(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=TOKEN, max_retries=0) as api:
        yield api


@pytest.fixture
def echo(echoed: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{echoed.url}/v1", api_key=TOKEN, max_retries=0) as api:
        yield api


class Stop(BaseModel):
    place: str
    leaves: dt.datetime
    next: Stop | None = None


class Journey(BaseModel):
    """Books a journey."""

    day: dt.date
    kind: Literal["bus", "train"]
    stops: list[Stop]
    price: float | int = Field(gt=0, multiple_of=0.5)
    seats: tuple[int, str] = (1, "a")


def test_what_pydantic_makes_of_a_model_goes_along_whole() -> None:
    tool: Any = openai.pydantic_function_tool(Journey, name="travel/book.it")
    asked = ChatRequest.model_validate({"model": "m", "messages": HI, "tools": [tool]})
    (definition,) = asked.tool_definitions() or []
    assert definition.json_schema == tool["function"]["parameters"]
    assert Toolset.of([definition]).schemas["travel/book.it"] == tool["function"]["parameters"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": {"a": {}}, "required": ["b"], "additionalProperties": {"type": "integer"}},
        {"anyOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {"a": {}, "b": {"nullable": True}}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"x": {"oneOf": [{"type": "null"}, {"type": "string"}]}}}}},
        {"patternProperties": {"^x-": {"format": "uuid"}}, "minProperties": 1, "x-order": 3},
        {"properties": {"a": {"uniqueItems": True, "prefixItems": [{}]}}, "dependentRequired": {"a": ["b"]}},
    ],
    ids=itertools.count(),
)
def test_a_schema_of_arguments_is_kept_whole_and_enforced(api: openai.OpenAI, parameters: Any) -> None:
    tool: Any = {"type": "function", "function": {"name": "mcp/do", "parameters": {"type": "object"} | parameters}}
    answer = api.chat.completions.create(
        model="random", messages=HI, tools=[tool], tool_choice="required", max_tokens=300, seed=3
    )
    for call in answer.choices[0].message.tool_calls or ():
        assert call.type == "function"
        assert call.function.name == "mcp/do"
        jsonschema.Draft202012Validator(parameters).validate(json.loads(call.function.arguments))
    assert answer.choices[0].message.tool_calls


def test_a_schema_that_cannot_be_kept_is_refused_where_it_stands(api: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"unevaluatedProperties": False}}}
    with pytest.raises(openai.BadRequestError, match=r"tools\[0\]\.function\.parameters .*unevaluatedProperties"):
        api.chat.completions.create(model="random", messages=HI, tools=[tool])


def test_models_are_listed_and_found(api: openai.OpenAI) -> None:
    assert [model.id for model in api.models.list()] == ["random", "scripted"]
    assert api.models.retrieve("scripted").owned_by == "fakes"
    with pytest.raises(openai.NotFoundError, match="nobody"):
        api.models.retrieve("nobody")


def test_a_chat_is_answered_whole_and_streamed_alike(api: openai.OpenAI) -> None:
    whole = api.chat.completions.create(model="random", messages=HI, max_tokens=9, temperature=0)
    stream = api.chat.completions.create(
        model="random", messages=HI, max_tokens=9, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 9
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"


def test_a_text_is_continued_with_logprobs(api: openai.OpenAI) -> None:
    answer = api.completions.create(model="scripted", prompt=["\0"] * 2, max_tokens=100, logprobs=2, temperature=0)
    assert [choice.text for choice in answer.choices] == ["Hello 🌍!"] * 2
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.text_offset is not None
    assert logprobs.tokens[:5] == list("Hello")
    assert logprobs.text_offset[:5] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "given, kind, param",
    [
        ({"n": 2}, "UnsupportedFieldError", "n"),
        ({"verbosity": "low"}, "UnsupportedFieldError", "verbosity"),
        ({"max_tokens": 0}, "InvalidRequestError", "max_tokens"),
        ({"temperature": -1}, "InvalidRequestError", "temperature"),
        ({"extra_body": {"surprise": 1}}, "InvalidRequestError", "surprise"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    api: openai.OpenAI, given: dict[str, Any], kind: str, param: str
) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        api.chat.completions.create(model="random", messages=HI, **given)
    assert (refused.value.type, refused.value.param) == (kind, param)


def test_a_tool_is_called_whole_and_streamed_alike_and_its_result_read(echo: openai.OpenAI) -> None:
    whole = echo.chat.completions.create(model="echo", messages=ASKED, tools=[WEATHER], temperature=0)
    assert whole.choices[0].finish_reason == "tool_calls"
    message = whole.choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"location": ASKED[0]["content"]}

    stream = echo.chat.completions.create(model="echo", messages=ASKED, tools=[WEATHER], temperature=0, stream=True)
    choices = [chunk.choices[0] for chunk in stream]
    told = [delta for choice in choices for delta in choice.delta.tool_calls or ()]
    assert [(one.index, one.id, one.function.arguments) for one in told if one.function] == [
        (0, call.id, call.function.arguments)
    ]
    assert "".join(choice.delta.content or "" for choice in choices) == ""
    assert choices[-1].finish_reason == "tool_calls"

    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
    said: Any = message.to_dict()
    after = echo.chat.completions.create(model="echo", messages=[*ASKED, said, result], tools=[WEATHER], temperature=0)
    assert after.choices[0].message.content == "Sunny."


def test_a_tool_choice_is_kept_to(echo: openai.OpenAI) -> None:
    other: Any = {"type": "function", "function": {"name": "other"}}
    create: Any = echo.chat.completions.create
    none = create(model="echo", messages=ASKED, tools=[WEATHER], tool_choice="none", temperature=0)
    assert none.choices[0].message.tool_calls is None
    required = create(model="echo", messages=HI, tools=[WEATHER, other], tool_choice="required", temperature=0)
    assert required.choices[0].message.tool_calls[0].function.name == "get_weather"
    named = create(model="echo", messages=HI, tools=[WEATHER, other], tool_choice=other, temperature=0)
    assert named.choices[0].message.tool_calls[0].function.name == "other"
    with pytest.raises(openai.BadRequestError, match="one of the tools"):
        create(model="echo", messages=HI, tools=[WEATHER], tool_choice=other)


def test_logprobs_of_a_chat_are_those_of_the_protocol(echo: openai.OpenAI, echoed: Served) -> None:
    answer = echo.chat.completions.create(model="echo", messages=HI, temperature=0, logprobs=True, top_logprobs=3)
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content is not None
    (token,) = answer.choices[0].logprobs.content
    asked = {"model": "echo", "messages": HI, "logprobs": {"top_k": 3}}
    protocol = echoed.client().post("/inference/chat_completion", json=asked).json()["logprobs"][0]["tokens"]
    assert (token.token, token.logprob, token.bytes) == ("Hi", protocol[0]["logprob"], list(b"Hi"))
    assert [(one.token, one.logprob) for one in token.top_logprobs] == [
        (one["text"], one["logprob"]) for one in protocol[:3]
    ]


def test_embeddings_are_the_same_in_both_encodings(echo: openai.OpenAI) -> None:
    texts = ["one", "two"]
    packed = echo.embeddings.create(model="echo-embedding", input=texts)  # the client asks for base64 by itself
    plain = echo.embeddings.create(model="echo-embedding", input=texts, encoding_format="float")
    assert [one.index for one in packed.data] == [0, 1]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert (plain.usage.prompt_tokens, plain.usage.total_tokens) == (2, 2)
    single = echo.embeddings.create(model="echo-embedding", input="one", encoding_format="float")
    assert single.data[0].embedding == plain.data[0].embedding


def test_a_stream_of_text_tells_usage_where_it_is_asked_to(echo: openai.OpenAI) -> None:
    stream = echo.completions.create(
        model="echo", prompt="a b c", stream=True, stream_options={"include_usage": True}, logprobs=0, temperature=0
    )
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "a b c"
    offsets = [offset for chunk in chunks if (told := chunk.choices[0].logprobs) for offset in told.text_offset or ()]
    assert offsets == [0, 1, 3]
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (3, 3)


async def test_the_async_client_works_by_the_same_routes(echoed: Served) -> None:
    async with openai.AsyncOpenAI(base_url=f"{echoed.url}/v1", api_key=TOKEN, max_retries=0) as api:
        stream = await api.chat.completions.create(model="echo", messages=HI, temperature=0, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Hi"


def test_an_error_in_a_stream_is_raised_by_the_client(fake_models: FakeModels) -> None:
    decoder = FakeDecoder(answering("a long answer"))

    def fault(_: object) -> None:
        if len(decoder.decodes) > 3:
            raise RuntimeError

    fake_models.add("broken", decoder).before_decode = fault
    with serving(fake_models.config) as served, openai.OpenAI(base_url=f"{served.url}/v1", api_key=TOKEN) as api:
        stream = api.chat.completions.create(model="broken", messages=HI, temperature=0, stream=True)
        with pytest.raises(openai.APIError) as raised:
            list(stream)
        assert not isinstance(raised.value, openai.APIConnectionError)
        assert raised.value.code == "500"


def test_a_request_without_the_token_is_an_authentication_error(echoed: Served) -> None:
    with (
        openai.OpenAI(base_url=f"{echoed.url}/v1", api_key="another", max_retries=0) as api,
        pytest.raises(openai.AuthenticationError),
    ):
        api.models.list()


def test_messages_become_the_protocols() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": '{"location": "Rome"}'}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    asked = ChatRequest.model_validate(
        {
            "model": "m",
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "Sunny."}]},
                {"role": "assistant", "content": "It is sunny."},
            ],
        }
    )
    system, user, called, result, said = protocol_messages(asked.messages)
    assert system == SystemMessage(content="Be brief.")
    assert isinstance(user, UserMessage)
    assert isinstance(user.content, list)
    assert user.content[0] == "What is this?"
    assert isinstance(user.content[1], ImageMedia)
    assert isinstance(called, CompletionMessage)
    assert called.stop_reason == "end_of_message"
    assert called.tool_calls[0].arguments == {"location": "Rome"}
    assert result == ToolResponseMessage(call_id="1", tool_name="get_weather", content=["Sunny."])
    assert isinstance(said, CompletionMessage)
    assert (said.content, said.stop_reason) == ("It is sunny.", "end_of_turn")


def test_what_a_tool_says_of_its_parameters_is_kept() -> None:
    asked = ChatRequest.model_validate({"model": "m", "messages": HI, "tools": [WEATHER]})
    (tool,) = asked.tool_definitions() or []
    assert tool.json_schema == WEATHER["function"]["parameters"]


@pytest.mark.parametrize(
    "given, schema",
    [
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "array"}}}, {"type": "array"}),
    ],
)
def test_a_response_format_becomes_the_protocols(given: dict[str, Any], schema: dict[str, Any]) -> None:
    asked = ChatRequest.model_validate({"model": "m", "messages": HI, "response_format": given})
    assert asked.response_format is not None
    assert asked.response_format.protocol_form() == JsonSchemaResponseFormat(json_schema=schema)


@pytest.mark.parametrize(
    "given, strategy, temperature, top_p",
    [
        ({}, "top_p", 1.0, 1.0),
        ({"temperature": 0}, "greedy", 0.0, 1.0),
        ({"temperature": 0.5, "top_p": 0.9}, "top_p", 0.5, 0.9),
        ({"top_k": 7}, "top_k", 1.0, 1.0),
    ],
)
def test_sampling_means_what_openai_means(
    given: dict[str, Any], strategy: str, temperature: float, top_p: float
) -> None:
    params = ChatRequest.model_validate({"model": "m", "messages": HI} | given).sampling()
    assert (params.strategy, params.temperature, params.top_p) == (strategy, temperature, top_p)


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "a result of no call": (
        {"messages": [{"role": "tool", "tool_call_id": "x", "content": ""}]},
        400,
        "messages[0].tool_call_id",
    ),
    "a tool that is no function": ({"tools": [{"type": "retrieval"}]}, 400, "tools[0].type"),
    "parameters of no object": (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
        400,
        "tools[0].function.parameters.type",
    ),
    "alternatives without logprobs": ({"top_logprobs": 2}, 400, "top_logprobs"),
    "two lengths": ({"max_tokens": 2, "max_completion_tokens": 3}, 400, "max_tokens"),
    "no schema": ({"response_format": {"type": "json_schema"}}, 400, "response_format.json_schema"),
    "options of no stream": ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
    "a bias": ({"logit_bias": {"7": 1.0}}, 501, "logit_bias"),
    "both strategies": ({"top_k": 5, "top_p": 0.5}, 400, "top_k"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_by_its_own_name(echoed: Served, name: str) -> None:
    change, status, param = REFUSED[name]
    response = echoed.client().post("/v1/chat/completions", json={"model": "echo", "messages": HI} | change)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param)
    assert response.headers.get("x-should-retry") == ("false" if status == 501 else None)


@pytest.mark.parametrize("given", [[1, 2], [[1, 2]], ["a", 1], []])
def test_token_ids_are_refused_for_they_belong_to_one_tokenizer(echoed: Served, given: list[Any]) -> None:
    for path, field in (("/v1/completions", "prompt"), ("/v1/embeddings", "input")):
        response = echoed.client(headers=HEADERS).post(path, json={"model": "echo", field: given})
        assert response.status_code in {400, 501}
        assert response.json()["error"]["param"].startswith(field)
