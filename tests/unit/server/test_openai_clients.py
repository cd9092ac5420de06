"""The ``openai`` package against ``/v1``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.fakes.http_server import TOKEN, Served

HI: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def api(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=TOKEN, max_retries=0) as api:
        yield api


def test_models_are_listed_and_found(api: openai.OpenAI) -> None:
    assert [model.id for model in api.models.list()] == ["random", "scripted"]
    assert api.models.retrieve("scripted").owned_by == "fakes"
    with pytest.raises(openai.NotFoundError, match="nobody"):
        api.models.retrieve("nobody")


def test_a_chat_is_answered_whole_and_streamed_alike(api: openai.OpenAI) -> None:
    whole = api.chat.completions.create(model="random", messages=HI, max_tokens=9, temperature=0)
    stream = api.chat.completions.create(
        model="random",
        messages=HI,
        max_tokens=9,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
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
        ({"presence_penalty": 0.5}, "UnsupportedFieldError", "presence_penalty"),
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
