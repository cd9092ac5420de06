"""What the fields of OpenAI's requests do to the answers: places in the text, calls, seeds, lines that stay whole."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.http_server import TOKEN, Served, serving
from tests.fakes.models import FakeDecoder, answering, scripted_speech
from tests.fakes.serving import FakeModels
from workbench.protocol import TokenLogProb, TokenLogProbs
from workbench.providers.trace.file import TraceWriter, read_trace
from workbench.records import TokenRecord
from workbench.server import Limits
from workbench.server.answering import event
from workbench.server.openai.messages import protocol_messages
from workbench.server.openai.offsets import TextLogprobs
from workbench.server.openai.requests import ChatRequest, CompletionRequest

HI: Any = [{"role": "user", "content": "Hi"}]
TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
OTHER: Any = {"type": "function", "function": {"name": "other", "parameters": {"type": "object"}}}
NAMELESS: Any = {"type": "function", "function": {"name": "a b"}}
LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r\n"


def called(name: str) -> str:
    return f'{{"type": "function", "name": "{name}", "parameters": {{}}}}'


@pytest.fixture
def api(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=TOKEN, max_retries=0) as api:
        yield api


@pytest.fixture
def echo(echoed: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{echoed.url}/v1", api_key=TOKEN, max_retries=0) as api:
        yield api


# ------------------------------------------------------------------------------------------------ places in the text


def entry(text: str, raw: bytes) -> TokenLogProbs:
    one = TokenLogProb(token_id=1, text=text, bytes=list(raw), logprob=-1.0, rank=1, is_sampled=True)
    return TokenLogProbs(logprobs_by_token={text: -1.0}, tokens=[one])


def record(raw: bytes, *, is_special: bool = False) -> TokenRecord:
    text = raw.decode(errors="replace")
    return TokenRecord(0, 1, text, raw, -1.0, 1, math.nan, is_special=is_special)


@given(
    text=st.text(st.sampled_from("ab ö€🌍\u2028"), max_size=12),
    cuts=st.lists(st.integers(0, 40), max_size=12),
    parts=st.lists(st.integers(0, 12), max_size=4),
    kept=st.integers(0, 12),
    is_sentencepiece=st.booleans(),
)
def test_every_token_is_told_with_the_character_at_which_it_begins(
    text: str, cuts: list[int], parts: list[int], kept: int, is_sentencepiece: bool
) -> None:
    whole = text.encode()
    is_sentencepiece = is_sentencepiece and not text.startswith(" ")
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(whole)), len(whole)]
    tokens = [whole[start:end] for start, end in itertools.pairwise(places)]
    # A token that begins inside a character has that character's place.
    starts = [len(whole[:place].decode(errors="ignore")) for place in places[:-1]]
    if is_sentencepiece:
        tokens[0] = b" " + tokens[0]
    tokens, starts = [*tokens, b"<|x|>"], [*starts, len(text)]
    records = [record(token, is_special=token == b"<|x|>") for token in tokens]
    entries = [entry(one.text, one.bytes) for one in records]
    shown = text[:kept]  # what a stop string leaves of it
    wanted = [
        (min(start, len(shown)), one.text)
        for start, one in zip(starts, records, strict=True)
        if one.is_special or (one.bytes and start < len(shown))
    ]

    told = TextLogprobs(0).feed(shown, entries, records, ended=True)
    found = list(zip(told["text_offset"], told["tokens"], strict=True))
    assert [one for one in found if one[1]] == [one for one in wanted if one[1]]

    # Streamed, the text comes some time after its tokens, in parts of any size.
    stream, ends = TextLogprobs(0), sorted(part for part in parts if part < len(shown))
    steps = [stream.feed("", entries[:-1], records[:-1], ended=False)]
    steps += [stream.feed(shown[a:b], (), (), ended=False) for a, b in itertools.pairwise([0, *ends, len(shown)])]
    steps.append(stream.feed("", entries[-1:], records[-1:], ended=True))
    for key in told:
        assert [value for step in steps for value in step[key]] == told[key]


@pytest.mark.parametrize("stop", [None, "e", "🌍!"])
def test_places_count_characters_of_the_text_streamed_as_whole(api: openai.OpenAI, stop: str | None) -> None:
    asked: Any = {"model": "scripted", "prompt": "\0", "max_tokens": 100, "logprobs": 1, "temperature": 0, "stop": stop}
    choice = api.completions.create(**asked).choices[0]
    assert choice.text == "Hello 🌍!".partition(stop or "#")[0]
    assert choice.logprobs is not None
    assert choice.logprobs.tokens is not None
    assert choice.logprobs.text_offset == {None: [0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 7], "e": [0], "🌍!": [*range(6)]}[stop]
    for offset, token in zip(choice.logprobs.text_offset or (), choice.logprobs.tokens, strict=True):
        assert choice.text[offset:].startswith(token) or token == "\ufffd"
    chunks = [chunk.choices[0] for chunk in api.completions.create(**asked, stream=True)]
    told = [chunk.logprobs.to_dict() for chunk in chunks if chunk.logprobs]
    for key, value in choice.logprobs.to_dict().items():
        assert [item for one in told for item in one[key]] == value


@pytest.mark.parametrize("count", [0, 1, 5])
def test_so_many_of_the_most_probable_tokens_and_the_sampled_one(echo: openai.OpenAI, count: int) -> None:
    asked: Any = {"model": "echo", "prompt": "a b c d e f", "logprobs": count, "seed": 3}
    logprobs = echo.completions.create(**asked, temperature=1.0).choices[0].logprobs
    assert logprobs is not None
    for token, listed in zip(logprobs.tokens or (), logprobs.top_logprobs or (), strict=True):
        assert token in listed
        assert len(listed) == (count if token.count("~") < count else count + 1)
    assert echo.completions.create(**asked | {"logprobs": None}).choices[0].logprobs is None


def test_a_token_of_which_nobody_told_the_logprob_still_has_its_place_in_the_text() -> None:
    untold = TokenLogProbs(logprobs_by_token={})
    told = TextLogprobs(0).feed("ab", [untold, entry("b", b"b")], [record(b"a"), record(b"b")], ended=True)
    assert (told["tokens"], told["text_offset"]) == (["b"], [1])


# ------------------------------------------------------------------------------------------------------------- calls


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_without_parallel_calls_the_answer_ends_with_its_first_one(fake_models: FakeModels, choice: Any) -> None:
    answer = f"{called('get_weather')}\n{called('other')}"
    fake_models.add("calling", FakeDecoder(answering(answer)))
    asked: Any = {"model": "calling", "messages": HI, "tools": [TOOL, OTHER], "tool_choice": choice, "temperature": 0}
    with serving(fake_models.config) as served, openai.OpenAI(base_url=f"{served.url}/v1", api_key=TOKEN) as api:
        both = api.chat.completions.create(**asked, parallel_tool_calls=True).choices[0]
        assert [call.function.name for call in both.message.tool_calls or ()] == ["get_weather", "other"]

        one = api.chat.completions.create(**asked, parallel_tool_calls=False, logprobs=True)
        (call,) = one.choices[0].message.tool_calls or [None]
        assert call == (both.message.tool_calls or [None])[0]
        assert (one.choices[0].finish_reason, one.choices[0].message.content) == ("tool_calls", None)
        assert one.usage is not None
        assert one.usage.completion_tokens == len(called("get_weather"))
        assert one.choices[0].logprobs is not None
        assert len(one.choices[0].logprobs.content or ()) == one.usage.completion_tokens

        stream = api.chat.completions.create(
            **asked, parallel_tool_calls=False, stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = list(stream)
        told = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        assert [(call.index, call.function.name) for call in told if call.function] == [(0, "get_weather")]
        assert chunks[-1].choices[0].finish_reason == "tool_calls"
        assert last.usage == one.usage

        text = api.chat.completions.create(model="calling", messages=HI, parallel_tool_calls=False, temperature=0)
        assert text.choices[0].message.content == answer  # where there are no tools, there is nothing to end


def test_allowed_tools_are_those_that_can_be_called(echo: openai.OpenAI) -> None:
    def ask(mode: str, *tools: Any) -> Any:
        choice: Any = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}
        text: Any = [{"role": "user", "content": "get_weather"}]
        create: Any = echo.chat.completions.create
        return (
            create(model="echo", messages=text, tools=[TOOL, OTHER], tool_choice=choice).choices[0].message.tool_calls
        )

    assert [call.function.name for call in ask("auto", {"type": "function", "function": {"name": "get_weather"}})]
    assert ask("auto", {"type": "function", "function": {"name": "other"}}) is None
    (call,) = ask("required", {"type": "function", "function": {"name": "other"}})
    assert call.function.name == "other"


def test_a_refusal_is_what_the_model_said() -> None:
    said: Any = [
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": [{"type": "text", "text": "Well. "}, {"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "content": "Well. ", "refusal": "No.", "name": "me"},
    ]
    messages = protocol_messages(ChatRequest.model_validate({"model": "m", "messages": said}).messages)
    assert [message.content for message in messages] == ["No.", ["Well. ", "No."], "Well. No."]


# ---------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("seed, ours", [(None, None), (0, 0), (-1, 2**63 - 1), (-(2**63), 0), (2**63 - 1, 2**63 - 1)])
def test_every_seed_is_one_of_the_protocols(echo: openai.OpenAI, seed: int | None, ours: int | None) -> None:
    asked = ChatRequest.model_validate({"model": "m", "messages": HI, "seed": seed})
    assert asked.sampling().seed == ours
    if seed is not None:
        texts = {echo.completions.create(model="echo", prompt="a b c d e", seed=seed).choices[0].text for _ in range(3)}
        assert len(texts) == 1


def test_no_share_of_probability_is_the_most_probable_token_alone(echo: openai.OpenAI) -> None:
    for edge in ({"top_p": 0}, {"temperature": 0}, {"top_p": 0, "temperature": 2}, {"temperature": 0, "top_p": 0.5}):
        texts = {echo.completions.create(model="echo", prompt="a b c d e", **edge).choices[0].text for _ in range(3)}
        assert texts == {"a b c d e"}


def test_a_length_of_either_name_is_kept_and_none_is_no_limit(echo: openai.OpenAI) -> None:
    text: Any = [{"role": "user", "content": " ".join(["a"] * 20)}]
    for fields, words in (({"max_tokens": 3}, 3), ({"max_completion_tokens": 3}, 3), ({"max_tokens": None}, 20)):
        answer: Any = echo.chat.completions.create(model="echo", messages=text, temperature=0, **fields)
        assert len(answer.choices[0].message.content.split()) == words
    asked = {"model": "m", "prompt": "a"}
    assert [
        CompletionRequest.model_validate(asked | more).sampling().max_tokens for more in ({}, {"max_tokens": None})
    ] == [16, 16]


# ------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "path, asked, param",
    [
        ("completions", {"prompt": "a " * 9000}, "prompt"),
        ("completions", {"prompt": "a", "logprobs": 21}, "logprobs"),
        ("chat/completions", {"messages": HI, "logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ("chat/completions", {"messages": HI, "repetition_penalty": 2}, "repetition_penalty"),
        ("chat/completions", {"messages": HI, "min_p": 0.1}, "min_p"),
        ("chat/completions", {"messages": HI, "min_p": 1.5}, "min_p"),
        ("chat/completions", {"messages": HI, "frequency_penalty": 2.5}, "frequency_penalty"),
        ("chat/completions", {"messages": HI, "logit_bias": {"x": 1}}, "logit_bias"),
        ("chat/completions", {"messages": HI, "stream": True, "repetition_penalty": 2}, "repetition_penalty"),
        ("chat/completions", {"messages": [{"role": "user", "content": "a " * 9000}]}, "messages"),
        (
            "chat/completions",
            {"messages": HI, "tools": [TOOL | {"function": {"name": "a b"}}]},
            "tools[0].function.name",
        ),
    ],
)
def test_a_refusal_from_below_names_the_field_that_the_client_knows(
    echoed: Served, path: str, asked: dict[str, Any], param: str
) -> None:
    error = echoed.client().post(f"/v1/{path}", json={"model": "echo"} | asked).json()["error"]
    assert error["param"] == param
    assert error["message"].startswith(f"{param} must be ")


def test_a_length_beyond_the_servers_is_refused_by_the_name_that_was_given(fake_models: FakeModels) -> None:
    fake_models.add("random")
    with serving(fake_models.config, limits=Limits(max_tokens=5)) as served:
        for name in ("max_tokens", "max_completion_tokens"):
            asked = {"model": "random", "messages": HI, name: 6}
            assert served.client().post("/v1/chat/completions", json=asked).json()["error"]["param"] == name


# ------------------------------------------------------------------------------------------------------------- lines


@given(st.recursive(st.text(st.sampled_from(f'ab"\\ö🌍{LINE_ENDS}')), lambda value: st.dictionaries(st.text(), value)))
def test_an_event_is_one_line_for_every_reader(value: Any) -> None:
    line, *rest = event({"value": value}).decode().splitlines()
    assert rest == [""]
    assert json.loads(line.removeprefix("data: ")) == {"value": value}


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/inference/completion"])
def test_clients_that_split_by_lines_read_every_character(fake_models: FakeModels, path: str) -> None:
    text = f"a{'b'.join(LINE_ENDS)}c"
    is_chat = "chat" in path
    fake_models.add("ending", FakeDecoder(answering(text) if is_chat else scripted_speech(text)))
    content = {"messages": HI} if is_chat else {"prompt": "\0"} if "v1" in path else {"content": "\0"}
    sampling = {"temperature": 0, "max_tokens": 99} if "v1" in path else {}
    with serving(fake_models.config) as served:
        client: httpx.Client = served.client()
        body = client.post(path, json={"model": "ending", "stream": True} | content | sampling).text
    events = [json.loads(line[6:]) for line in body.splitlines() if line and line != "data: [DONE]"]
    told = [choice for one in events for choice in one.get("choices", [one])]
    assert (
        "".join(one["delta"].get("content", "") if is_chat else one.get("text", one.get("delta")) for one in told)
        == text
    )


def test_a_trace_is_read_by_lines_of_any_reader(tmp_path: Any) -> None:
    writer = TraceWriter(tmp_path / "trace.jsonl")
    writer._write({"vocabulary": {"model": LINE_ENDS, "texts": LINE_ENDS}})
    writer.close()
    lines = (tmp_path / "trace.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert read_trace(tmp_path / "trace.jsonl").vocabularies == {LINE_ENDS: LINE_ENDS}
