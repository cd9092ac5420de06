"""Clients that leave, and servers that stop, in the middle of an answer."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.http_server import TOKEN, Served, eventually, serving, tasks_of, threads
from tests.fakes.models import FakeDecoder, Gate, endless_speech
from tests.fakes.serving import FakeModels
from workbench.errors import NumericalError

ENDLESS = {"model": "slow", "content": "a", "sampling_params": {"max_tokens": 4000}}
BATCH = {"model": "slow", "content_batch": ["a", "b"], "sampling_params": {"max_tokens": 4000}}
CHAT = {"model": "slow", "messages": [{"role": "user", "content": "a"}], "max_tokens": 4000}


@pytest.fixture
def slow(fake_models: FakeModels) -> Iterator[tuple[Served, FakeModels, FakeDecoder]]:
    """A server whose model takes a while for each token."""
    decoder = fake_models.add("slow", FakeDecoder(endless_speech), context_length=5000)
    decoder.before_decode = lambda _: time.sleep(0.01)
    with serving(fake_models.config) as served:
        yield served, fake_models, decoder


@pytest.mark.parametrize(
    "path, asked",
    [
        ("/inference/completion", ENDLESS),
        ("/inference/completion", ENDLESS | {"stream": True}),
        ("/batch_inference/completion", BATCH),
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", CHAT | {"stream": True}),
    ],
    ids=["whole", "streamed", "batch", "openai whole", "openai streamed"],
)
def test_a_client_that_leaves_stops_its_computation(
    slow: tuple[Served, FakeModels, FakeDecoder], path: str, asked: dict[str, Any]
) -> None:
    served, models, decoder = slow

    def ask() -> None:
        served.client().post("/inference/completion", json=ENDLESS | {"sampling_params": {"max_tokens": 2}})

    ask()
    engine, steps_of_one = models.engines["slow"], len(decoder.decodes)
    assert eventually(lambda: engine.in_flight == 0)
    tasks, others, done = tasks_of(served), threads(), len(decoder.decodes)
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(as_sent(path, asked))
        assert eventually(lambda: len(decoder.decodes) > done + 2)
    assert eventually(lambda: engine.in_flight == 0)
    after = len(decoder.decodes)
    ask()
    assert len(decoder.decodes) == after + steps_of_one, "nothing but the last request is computed"
    assert eventually(lambda: tasks_of(served) <= tasks)
    assert eventually(lambda: threads() <= others)


def as_sent(path: str, asked: dict[str, Any]) -> bytes:
    """A request, byte by byte: a client's own library would tidy up after it, a program that is killed does not."""
    body = json.dumps(asked).encode()
    headers = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{headers}Content-Type: application/json\r\n\r\n".encode() + body


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line and "[DONE]" not in line]


@pytest.mark.parametrize("path, asked", [("/inference/completion", ENDLESS), ("/v1/chat/completions", CHAT)])
def test_a_fault_after_the_first_event_is_the_last_event_and_the_server_lives(
    fake_models: FakeModels, path: str, asked: dict[str, Any]
) -> None:
    decoder = FakeDecoder(endless_speech)

    def fault(_: object) -> None:
        if len(decoder.decodes) > 5:
            raise NumericalError("the model computed NaN")

    fake_models.add("slow", decoder).before_decode = fault
    with serving(fake_models.config) as served:
        response = served.client().post(path, json=asked | {"stream": True})
        assert response.status_code == 200
        assert "[DONE]" not in response.text
        *before, last = events(response.text)
        assert before
        assert not any("error" in event for event in before)
        assert last["error"]["type"] == "NumericalError"
        assert last["error"]["code"] == 500
        whole = served.client().post(path, json=asked)
        assert (whole.status_code, whole.json()["error"]["type"]) == (500, "NumericalError")
        assert served.client().get("/health").status_code == 200


def test_an_unforeseen_fault_tells_the_client_nothing_of_itself(
    fake_models: FakeModels, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(_: object) -> None:
        raise RuntimeError("the secret is xyzzy")

    decoder = FakeDecoder()
    fake_models.add("slow", decoder).before_decode = fault
    with serving(fake_models.config) as served:
        response = served.client().post("/inference/completion", json=ENDLESS)
    assert response.status_code == 500
    assert "xyzzy" not in response.text
    assert "xyzzy" not in caplog.text


def test_a_server_that_stops_lets_answers_end_or_ends_them_with_an_error(fake_models: FakeModels) -> None:
    decoder, gate = FakeDecoder(endless_speech), Gate()
    fake_models.add("slow", decoder).before_decode = gate
    gate.step()
    short = ENDLESS | {"stream": True, "sampling_params": {"max_tokens": 3}}
    with serving(fake_models.config, grace_s=30) as served:
        client = served.client()
        with client.stream("POST", "/inference/completion", json=short) as response:
            served.server.should_exit = True
            gate.open()
            assert events("".join(response.iter_text()))[-1]["stop_reason"] == "out_of_tokens"


def test_when_its_time_has_run_out_a_stopping_server_says_so(slow: tuple[Served, FakeModels, FakeDecoder]) -> None:
    served, _, _ = slow
    client = served.client()
    with client.stream("POST", "/inference/completion", json=ENDLESS | {"stream": True}) as response:
        served.server.should_exit = True
        last = events("".join(response.iter_text()))[-1]
    assert last["error"]["type"] == "ClosedError"
    assert last["error"]["code"] == 503
