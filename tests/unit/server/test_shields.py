"""Shields over HTTP: a refusal is the client's fault, in a stream the last event, and never repeats the text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.http_server import Served, serving
from tests.fakes.models import FakeDecoder, answering
from tests.fakes.serving import FakeModels
from tests.fakes.shields import FORBIDDEN, word_shields

ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], "shields": ["words"]}


@pytest.fixture
def guarded(fake_models: FakeModels, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    fake_models.add("fine", FakeDecoder(answering("I am fine. And you?")))
    fake_models.add("bad", FakeDecoder(answering(f"I am fine. It is {FORBIDDEN}. And so on.")))
    providers = fake_models.config["providers"] | {"safety": [word_shields(monkeypatch, "words")]}
    with serving({"providers": providers}) as served:
        yield served


def asked(guarded: Served, model: str, **more: Any) -> httpx.Response:
    return guarded.client().post("/inference/chat_completion", json=ASKED | {"model": model} | more)


def events(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n") if line]


def test_a_harmless_answer_is_that_without_shields(guarded: Served) -> None:
    assert asked(guarded, "fine").json() == asked(guarded, "fine", shields=None).json()


def test_a_refused_answer_is_an_error_that_is_not_retried(guarded: Served) -> None:
    response = asked(guarded, "bad")
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "ShieldViolationError"
    assert error["message"].startswith("shield 'words' refused the answer: category S9 (Indiscriminate Weapons)")
    assert FORBIDDEN not in response.text


def test_in_a_stream_the_refusal_is_the_last_event_after_what_passed(guarded: Served) -> None:
    response = asked(guarded, "bad", stream=True)
    assert response.status_code == 200
    *passed, last = events(response)
    assert last["error"]["type"] == "ShieldViolationError"
    assert last["error"]["code"] == 400
    assert "".join(one["event"]["delta"] for one in passed) == "I am fine."
    assert {one["event"]["event_type"] for one in passed} == {"start", "progress"}
    assert FORBIDDEN not in response.text


def test_a_refused_prompt_is_refused_before_the_stream_begins(guarded: Served) -> None:
    response = asked(guarded, "fine", stream=True, messages=[{"role": "user", "content": FORBIDDEN}])
    assert response.status_code == 400
    assert "refused the prompt" in response.json()["error"]["message"]


def test_an_unknown_shield_is_not_found(guarded: Served) -> None:
    response = asked(guarded, "fine", shields=["nope"])
    assert response.status_code == 404
    assert "served shields: words" in response.json()["error"]["message"]


@pytest.mark.parametrize("shields", ["words", [1], [""], {}])
def test_shields_of_another_shape_are_refused_by_name(guarded: Served, shields: Any) -> None:
    response = asked(guarded, "fine", shields=shields)
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("shields")


@pytest.mark.parametrize("path", ["/inference/completion", "/batch_inference/chat_completion"])
def test_other_calls_refuse_shields_instead_of_ignoring_them(guarded: Served, path: str) -> None:
    body: dict[str, Any] = {"model": "fine", "shields": ["words"]}
    body |= {"content": "Hello"} if "batch" not in path else {"messages_batch": [ASKED["messages"]]}
    response = guarded.client().post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "shields"
