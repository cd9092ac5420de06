from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.http_server import Served, eventually, serving
from tests.fakes.models import FakeDecoder, endless_speech
from tests.fakes.serving import FakeModels
from tests.unit.server.conftest import ECHO
from workbench.server import Limits

LIMITS = Limits(max_body_bytes=10_000, max_batch=3, max_tokens=5, max_logprobs=2, max_concurrent=2)
COMPLETION = {"model": "echo", "content": "a b c d e f g h"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def limited() -> Iterator[Served]:
    with serving(ECHO, limits=LIMITS) as served:
        yield served


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert error["code"] == response.status_code
    return error


def test_a_body_over_the_limit_is_refused_before_it_is_read(limited: Served) -> None:
    response = limited.client().post("/inference/completion", json=COMPLETION | {"content": "x" * 10_000_000})
    assert response.status_code == 413
    assert "at most 10000 bytes" in error_of(response)["message"]


def test_a_body_of_unknown_length_is_refused_where_the_limit_is_passed(limited: Served) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b" " * 10_000

    with limited.client() as client:
        assert client.post("/inference/completion", content=endless(), headers=JSON).status_code == 413


@pytest.mark.parametrize(
    "path, change, param",
    [
        ("/batch_inference/completion", {"content_batch": ["a"] * 4}, "content_batch"),
        ("/batch_inference/chat_completion", {"messages_batch": [[]] * 4}, "messages_batch"),
        ("/inference/embeddings", {"contents": ["a"] * 4}, "contents"),
        ("/inference/completion", {"content": "a", "sampling_params": {"max_tokens": 6}}, "sampling_params.max_tokens"),
        ("/inference/completion", {"content": "a", "logprobs": {"top_k": 3}}, "logprobs.top_k"),
        ("/v1/embeddings", {"input": ["a"] * 4}, "input"),
        ("/v1/completions", {"prompt": ["a"] * 4}, "prompt"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 6}, "max_tokens"),
    ],
)
def test_what_asks_for_more_than_the_server_gives_is_refused_by_name(
    limited: Served, path: str, change: dict[str, Any], param: str
) -> None:
    response = limited.client().post(path, json={"model": "echo"} | change)
    assert response.status_code == 400
    assert error_of(response)["param"] == param


def test_an_answer_without_a_length_of_its_own_ends_at_the_limit(limited: Served) -> None:
    message = limited.client().post("/inference/completion", json=COMPLETION).json()["completion_message"]
    assert (message["content"], message["stop_reason"]) == ("a b c d e", "out_of_tokens")


def test_requests_beyond_those_that_are_answered_at_once_are_told_to_come_back(fake_models: FakeModels) -> None:
    decoder = fake_models.add("slow", FakeDecoder(endless_speech))
    decoder.before_decode = lambda _: time.sleep(0.01)
    asked = {"model": "slow", "content": "a", "sampling_params": {"max_tokens": 3000}, "stream": True}
    with serving(fake_models.config, limits=Limits(max_concurrent=2)) as served:
        client = served.client()
        with (
            client.stream("POST", "/inference/completion", json=asked),
            client.stream("POST", "/inference/completion", json=asked),
        ):
            third = client.post("/inference/completion", json=asked)
            assert (third.status_code, third.headers["retry-after"]) == (429, "1")
            assert error_of(third)["type"] == "BusyError"
            assert client.get("/health").status_code == 200  # whoever only looks something up need not wait
        short = asked | {"sampling_params": {"max_tokens": 1}}
        assert eventually(lambda: client.post("/inference/completion", json=short).status_code == 200)


MALFORMED: dict[str, tuple[bytes, int]] = {
    "no JSON": (b"{", 400),
    "nothing": (b"", 400),
    "another type": (b"[]", 400),
    "100,000 levels": (b'{"model":"echo","content":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
    "a key twice": (b'{"model":"echo","content":"a","model":"echo"}', 400),
    "a key of a key twice": (b'{"model":"echo","content":"a","sampling_params":{"top_k":1,"top_k":2}}', 400),
    "NaN": (b'{"model":"echo","content":"a","sampling_params":{"temperature":NaN}}', 400),
    "infinity": (b'{"model":"echo","content":"a","sampling_params":{"temperature":1e999}}', 400),
    "no UTF-8": (b'{"model":"echo","content":"\xff"}', 400),
    "half a surrogate pair": (b'{"model":"echo","content":"\\ud800"}', 400),
    "a number of a million digits": (
        b'{"model":"echo","content":"a","sampling_params":{"seed":' + b"9" * 9**6 + b"}}",
        400,
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("path", ["/inference/completion", "/v1/completions"])
def test_a_malformed_body_is_the_senders_fault_and_is_told_soon(echoed: Served, path: str, name: str) -> None:
    body, status = MALFORMED[name]
    client = echoed.client()
    client.get("/health")
    begun = time.perf_counter()
    response = client.post(path, content=body, headers=JSON)
    assert response.status_code == status, response.text
    assert error_of(response)["message"]
    assert time.perf_counter() - begun < 30  # no more than that it does not hang: machines differ


MESSAGES: dict[str, Callable[[], Any]] = {
    "a text": lambda: "hi",
    "an object": dict,
    "nothing": lambda: None,
    "texts": lambda: ["hi"],
    "no role": lambda: [{"content": "hi"}],
    "an unknown role": lambda: [{"role": "god", "content": "hi"}],
    "no content": lambda: [{"role": "user"}],
    "a number for content": lambda: [{"role": "user", "content": 7}],
    "content within content": lambda: [{"role": "user", "content": [["hi"]]}],
    "an unknown field": lambda: [{"role": "user", "content": "hi", "mood": "good"}],
}


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("path", ["/inference/chat_completion", "/v1/chat/completions"])
def test_messages_of_another_shape_are_refused_with_their_place(echoed: Served, path: str, name: str) -> None:
    response = echoed.client().post(path, json={"model": "echo", "messages": MESSAGES[name]()})
    assert response.status_code == 400
    assert str(error_of(response)["param"]).startswith("messages")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_that_is_not_declared_as_json_is_refused(echoed: Served, kind: str) -> None:
    response = echoed.client().post("/v1/completions", content=json.dumps(COMPLETION), headers={"Content-Type": kind})
    assert response.status_code == 415
