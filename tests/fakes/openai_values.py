"""Values of every field that the ``openai`` package documents, at the edges: what is taken, and what is refused."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import (
    ChatCompletionAssistantMessageParam,
    ChatCompletionContentPartImageParam,
    ChatCompletionContentPartTextParam,
    ChatCompletionDeveloperMessageParam,
    ChatCompletionFunctionToolParam,
    ChatCompletionMessageFunctionToolCallParam,
    ChatCompletionStreamOptionsParam,
    ChatCompletionSystemMessageParam,
    ChatCompletionToolMessageParam,
    ChatCompletionUserMessageParam,
    chat_completion_content_part_image_param,
)
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.shared_params import FunctionDefinition, ResponseFormatJSONSchema
from openai.types.shared_params.response_format_json_schema import JSONSchema
from PIL import Image


@dataclass(frozen=True)
class Values:
    """Of one field."""

    taken: tuple[Any, ...] = ()
    refused: tuple[Any, ...] = ()
    beside: dict[str, Any] = field(default_factory=dict)
    """What the field is asked with."""
    foreign: tuple[Any, ...] = ()
    """Taken as well, though not of the client's own types."""


def values(*taken: Any, refused: tuple[Any, ...] = (), foreign: tuple[Any, ...] = (), **beside: Any) -> Values:
    return Values(taken, refused, beside, foreign)


with io.BytesIO() as file:
    Image.new("RGB", (2, 2)).save(file, format="PNG")
    PNG = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"

HI: Any = [{"role": "user", "content": "Hi"}]
TEXT_PART = {"type": "text", "text": "Hi"}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
OTHER = {"type": "function", "function": {"name": "other"}}
CUSTOM = {"type": "custom", "custom": {"name": "get_weather"}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
NOBODY = {"type": "function", "function": {"name": "nobody"}}
CALL = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "Sunny."}
SCHEMA = {"name": "n", "schema": {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]}}


def allowed_tools(mode: str, *tools: Any) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


GENERATING: dict[str, Values] = {
    "model": values("echo"),
    "temperature": values(0, 1e-6, 1, 2, None, refused=(-0.1, "1", True)),
    "top_p": values(0, 1e-6, 0.5, 1, None, refused=(-0.1, 1.1, "1")),
    "seed": values(0, 1, -1, -(2**63), 2**63 - 1, None, refused=(2**63, -(2**63) - 1, 1.5, "1")),
    "stop": values("x", ["x"], ["x"] * 4, [], None, refused=("", [""], ["x"] * 17, 7)),
    "max_tokens": values(1, 2**31, None, refused=(0, -1, 1.5)),
    "stream_options": values(None, refused=({"include_usage": True},)),
    "n": values(1, None, refused=(2, 0, -1)),
    "frequency_penalty": values(0, None, -2, 2, 0.5, refused=(-2.1, 2.1, "1", True), model="random"),
    "presence_penalty": values(0, None, -2, 2, 0.5, refused=(-2.1, 2.1, "1", True), model="random"),
    "logit_bias": values(
        {}, {"7": -100, "8": 1}, None, refused=({"x": 1}, {"7": 101}, {"7": "1"}, {"1000000": 1}, []), model="random"
    ),
    "user": values("", "somebody", foreign=(None,)),
}
CHAT = GENERATING | {
    "messages": values(HI, refused=([], None, [{"role": "function", "name": "f", "content": ""}])),
    "max_completion_tokens": values(1, 2**31, None, refused=(0, -1)),
    "logprobs": values(False, True, None, refused=(1,)),
    "top_logprobs": values(0, 1, 20, None, refused=(-1, 101, 1.5), logprobs=True),
    "tools": values([TOOL], [TOOL, OTHER], [], foreign=(None,), refused=([CUSTOM],)),
    "tool_choice": values(
        "none",
        "auto",
        "required",
        NAMED,
        allowed_tools("auto", NAMED),
        allowed_tools("required", NAMED, OTHER),
        foreign=(None,),
        refused=(
            "any",
            CUSTOM,
            NOBODY,
            allowed_tools("auto"),
            allowed_tools("auto", NOBODY),
            allowed_tools("x", NAMED),
        ),
        tools=[TOOL, OTHER],
    ),
    "parallel_tool_calls": values(False, True, foreign=(None,), refused=(0,), tools=[TOOL]),
    "response_format": values(
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": SCHEMA},
        {"type": "json_schema", "json_schema": SCHEMA | {"strict": True, "description": "d"}},
        foreign=(None,),
        refused=({"type": "xml"}, {"type": "json_schema"}, "json_object"),
        model="random",
    ),
    "metadata": values({}, {"a": "b"}, None, refused=({"a": 1},)),
    "store": values(False, True, None, refused=("yes",)),
    "service_tier": values("auto", "flex", None, refused=(1,)),
    "safety_identifier": values("", "s", None, refused=(1,)),
    "prediction": values({"type": "content", "content": "Hi"}, None, refused=("Hi",)),
    "prompt_cache_key": values("", "k", None, refused=(1,)),
    "prompt_cache_options": values({"mode": "explicit"}, foreign=(None,), refused=(1,)),
    "prompt_cache_retention": values("in_memory", "24h", None, refused=(1,)),
    "audio": values(None, refused=({"format": "wav", "voice": "alloy"},)),
    "function_call": values(foreign=(None,), refused=("none", "auto", {"name": "f"})),
    "functions": values(foreign=(None,), refused=([{"name": "f"}], [])),
    "modalities": values(["text"], None, refused=(["text", "audio"], ["audio"], [])),
    "moderation": values(None, refused=({"model": "omni-moderation-latest"},)),
    "reasoning_effort": values(None, refused=("none", "low", "high")),
    "verbosity": values("medium", None, refused=("low", "high")),
    "web_search_options": values(foreign=(None,), refused=({},)),
}
COMPLETIONS = GENERATING | {
    "prompt": values("a b", ["a b"], refused=([], [1, 2], [[1, 2]], ["a", 1], None, 7)),
    "logprobs": values(0, 1, 5, None, refused=(-1, 101, True)),
    "best_of": values(1, None, refused=(2, 0)),
    "echo": values(False, None, refused=(True,)),
    "suffix": values("", None, refused=("s",)),
}
EMBEDDINGS = {
    "model": values("echo-embedding"),
    "input": values("a", "", ["a", "b"], [""], refused=([], [1, 2], [[1, 2]], None)),
    "encoding_format": values("float", "base64", foreign=(None,), refused=("int8",)),
    "dimensions": values(foreign=(None,), refused=(1, 32)),
    "user": values("", "somebody", foreign=(None,)),
}


def message(base: dict[str, Any], *before: Any, after: Any = ()) -> Callable[[str, Any], dict[str, Any]]:
    return lambda name, value: {"messages": [*before, base | {name: value}, *after]}


@dataclass(frozen=True)
class Place:
    """Where a part of a request stands, with the fields of the client's type for it."""

    types: tuple[Any, ...]
    path: str
    """Of the part, before the name of a field."""
    request: Callable[[str, Any], dict[str, Any]]
    fields: dict[str, Values]
    route: str = "chat"


USER = {"role": "user", "content": "Hi"}
CONTENT = values("", "Hi", [TEXT_PART], [TEXT_PART] * 2, refused=(None, 7, [{"type": "image_file"}]))
NAME = values("somebody", "get_weather", foreign=(None,), refused=(7,))
IMAGE_PART = {"type": "image_url", "image_url": {"url": PNG}}
BREAKPOINT = values({"mode": "explicit"}, foreign=(None,))
PLACES: dict[str, Place] = {
    "chat": Place(
        (chat_create_params.CompletionCreateParamsNonStreaming, chat_create_params.CompletionCreateParamsStreaming),
        "",
        lambda name, value: {"messages": HI, name: value},
        CHAT | {"stream": values(False, None, refused=(1,))},
    ),
    "completions": Place(
        (
            completion_create_params.CompletionCreateParamsNonStreaming,
            completion_create_params.CompletionCreateParamsStreaming,
        ),
        "",
        lambda name, value: {"prompt": "a b", name: value},
        COMPLETIONS | {"stream": values(False, None, refused=(1,))},
        "completions",
    ),
    "embeddings": Place(
        (embedding_create_params.EmbeddingCreateParams,),
        "",
        lambda name, value: {"input": "a", "encoding_format": "float", name: value},
        EMBEDDINGS,
        "embeddings",
    ),
    "stream options": Place(
        (ChatCompletionStreamOptionsParam,),
        "stream_options.",
        lambda name, value: {"messages": HI, "stream": True, "stream_options": {name: value}},
        {"include_usage": values(True, False, refused=(1,)), "include_obfuscation": values(True, False, refused=(1,))},
    ),
    "developer": Place(
        (ChatCompletionDeveloperMessageParam,),
        "messages[0].",
        message({"role": "developer", "content": "Hi"}, after=HI),
        {"role": values("developer", refused=("boss",)), "content": CONTENT, "name": NAME},
    ),
    "system": Place(
        (ChatCompletionSystemMessageParam,),
        "messages[0].",
        message({"role": "system", "content": "Hi"}, after=HI),
        {"role": values("system"), "content": CONTENT, "name": NAME},
    ),
    "user": Place(
        (ChatCompletionUserMessageParam,),
        "messages[0].",
        message(USER),
        {"role": values("user"), "content": CONTENT, "name": NAME},
    ),
    "assistant": Place(
        (ChatCompletionAssistantMessageParam,),
        "messages[1].",
        message({"role": "assistant", "content": "Hi"}, USER, after=HI),
        {
            "role": values("assistant"),
            "content": values(None, "", "Hi", [TEXT_PART], [{"type": "refusal", "refusal": "No."}], refused=(7,)),
            "refusal": values(None, "", "No.", refused=(7,)),
            "name": NAME,
            "tool_calls": values([CALL], [], foreign=(None,), refused=([CUSTOM | {"id": "1"}], 7)),
            "function_call": values(None, refused=({"name": "f", "arguments": "{}"},)),
            "audio": values(None, refused=({"id": "audio_1"},)),
        },
    ),
    "tool": Place(
        (ChatCompletionToolMessageParam,),
        "messages[2].",
        message(RESULT, USER, CALLED),
        {
            "role": values("tool"),
            "content": CONTENT,
            "tool_call_id": values("1", refused=("2", None)),
            "name": values(foreign=("get_weather", None)),
        },
    ),
    "call": Place(
        (ChatCompletionMessageFunctionToolCallParam,),
        "messages[1].tool_calls[0].",
        lambda name, value: {"messages": [USER, CALLED | {"tool_calls": [CALL | {name: value}]}, *HI]},
        {
            "id": values("", "1", refused=(None,)),
            "type": values("function", refused=("custom",)),
            "function": values(
                {"name": "f", "arguments": ""},
                {"name": "f", "arguments": '{"a": "\u2028"}'},
                refused=({"name": "f", "arguments": "["}, {"name": "f", "arguments": "[]"}, None),
            ),
        },
    ),
    "text part": Place(
        (ChatCompletionContentPartTextParam,),
        "messages[0].content[0].",
        lambda name, value: {"messages": [USER | {"content": [TEXT_PART | {name: value}]}]},
        {
            "type": values("text", refused=("input_audio", "file")),
            "text": values("", "Hi", refused=(None,)),
            "prompt_cache_breakpoint": BREAKPOINT,
        },
    ),
    "image part": Place(
        (ChatCompletionContentPartImageParam,),
        "messages[0].content[0].",
        lambda name, value: {"messages": [USER | {"content": [IMAGE_PART | {name: value}]}]},
        {"type": values("image_url"), "image_url": values({"url": PNG}), "prompt_cache_breakpoint": BREAKPOINT},
        "parsed",
    ),
    "image": Place(
        (chat_completion_content_part_image_param.ImageURL,),
        "messages[0].content[0].image_url.",
        lambda name, value: {
            "messages": [USER | {"content": [{"type": "image_url", "image_url": {"url": PNG, name: value}}]}]
        },
        {"url": values(PNG), "detail": values("auto", "low", "high", "original", foreign=(None,), refused=("max",))},
        "parsed",
    ),
    "tool definition": Place(
        (ChatCompletionFunctionToolParam,),
        "tools[0].",
        lambda name, value: {"messages": HI, "tools": [TOOL | {name: value}]},
        {"type": values("function", refused=("custom", "web_search")), "function": values({"name": "f"})},
    ),
    "function": Place(
        (FunctionDefinition,),
        "tools[0].function.",
        lambda name, value: {"messages": HI, "tools": [{"type": "function", "function": {"name": "f", name: value}}]},
        {
            "name": values("f", "a-b_C9", refused=("", None)),
            "description": values("", "d", foreign=(None,), refused=(7,)),
            "parameters": values(
                {}, {"type": "object", "properties": {}}, foreign=(None,), refused=({"type": "array"},)
            ),
            "strict": values(True, False, None, refused=("yes",)),
        },
    ),
    "format": Place(
        (ResponseFormatJSONSchema,),
        "response_format.",
        lambda name, value: {
            "messages": HI,
            "model": "random",
            "response_format": {"type": "json_schema", "json_schema": SCHEMA, name: value},
        },
        {"type": values("json_schema", refused=("xml",)), "json_schema": values(SCHEMA, refused=(None, "x"))},
    ),
    "schema": Place(
        (JSONSchema,),
        "response_format.json_schema.",
        lambda name, value: {
            "messages": HI,
            "model": "random",
            "response_format": {"type": "json_schema", "json_schema": SCHEMA | {name: value}},
        },
        {
            "name": values("n", refused=(None,)),
            "description": values("", "d"),
            "schema": values({"enum": [1]}, refused=(None, [])),
            "strict": values(True, False, None, refused=("yes",)),
        },
    ),
}
