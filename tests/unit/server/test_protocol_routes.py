from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.fakes.http_server import Served
from tests.fakes.requests import chat_request, completion_request
from workbench.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseStreamChunk,
    CompletionResponse,
    CompletionResponseStreamChunk,
    LogProbConfig,
    UserMessage,
    routes_of,
)
from workbench.providers.emissions import emission_of
from workbench.providers.folding import response
from workbench.stack.apis import DEFAULT_APIS, SERVED_APIS

COMPLETION = {"model": "scripted", "content": "\0"}
CHAT = {"model": "random", "messages": [{"role": "user", "content": "Hi"}], "sampling_params": {"max_tokens": 12}}


def events(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in response.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_every_route_of_the_protocol_is_served_and_listed(served: Served, client: httpx.Client) -> None:
    marked = {
        (route.route, route.method)
        for api in DEFAULT_APIS
        for protocol in SERVED_APIS[api]
        for route in routes_of(protocol)
    }
    assert len(marked) == 24
    paths = client.get("/openapi.json").json()["paths"]
    assert marked <= {(path, method.upper()) for path, methods in paths.items() for method in methods}
    listed = {(one["route"], one["method"]) for routes in client.get("/routes/list").json().values() for one in routes}
    assert marked <= listed


def test_a_completion_is_that_of_the_call(client: httpx.Client) -> None:
    response = client.post("/inference/completion", json=COMPLETION)
    assert response.status_code == 200
    message = CompletionResponse.model_validate_json(response.content).completion_message
    assert message.content == "Hello 🌍!"
    assert message.stop_reason == "end_of_turn"


def test_the_events_of_a_stream_fold_to_the_whole_answer(client: httpx.Client) -> None:
    asked = COMPLETION | {"logprobs": {"top_k": 3}}
    whole = client.post("/inference/completion", json=asked).json()
    streamed = client.post("/inference/completion", json=asked | {"stream": True})
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert streamed.headers["cache-control"] == "no-store"
    chunks = [CompletionResponseStreamChunk.model_validate(one) for one in events(streamed)]
    request = completion_request("scripted", "\0", logprobs=LogProbConfig())
    assert json.loads(response(request, list(map(emission_of, chunks))).model_dump_json()) == whole


def test_a_chat_stream_is_one_start_progress_and_one_complete(client: httpx.Client) -> None:
    whole = ChatCompletionResponse.model_validate_json(client.post("/inference/chat_completion", json=CHAT).content)
    streamed = client.post("/inference/chat_completion", json=CHAT | {"stream": True})
    chunks = [ChatCompletionResponseStreamChunk.model_validate(one) for one in events(streamed)]
    kinds = [chunk.event.event_type.value for chunk in chunks]
    assert kinds == ["start", *["progress"] * (len(kinds) - 2), "complete"]
    assert [chunk.event.stop_reason is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    request = chat_request("random", [UserMessage(content="Hi")])
    assert response(request, [emission_of(chunk.event) for chunk in chunks]) == whole


def test_batches_keep_their_order(client: httpx.Client) -> None:
    contents = ["\0"] * 3
    batch = client.post("/batch_inference/completion", json={"model": "scripted", "content_batch": contents}).json()
    assert [one["content"] for one in batch["completion_message_batch"]] == ["Hello 🌍!"] * 3
    asked = CHAT | {"messages_batch": [CHAT["messages"], [{"role": "user", "content": "Bye"}]]}
    del asked["messages"]
    chats = client.post("/batch_inference/chat_completion", json=asked).json()["completion_message_batch"]
    alone = [
        client.post("/inference/chat_completion", json=CHAT | {"messages": messages}).json()["completion_message"]
        for messages in asked["messages_batch"]
    ]
    assert chats == alone


def test_models_are_listed_found_and_told_absent(client: httpx.Client) -> None:
    listed = client.get("/models/list").json()
    assert [one["identifier"] for one in listed] == ["random", "scripted"]
    assert client.get("/models/get", params={"identifier": "scripted"}).json() == listed[1]
    assert client.get("/models/get", params={"identifier": "nobody"}).json() is None


def test_inspection_tells_providers_and_health(client: httpx.Client) -> None:
    provider = client.get("/providers/list").json()["fakes"]
    assert provider == {"provider_id": "fakes", "provider_type": "inline::transformers"}
    assert client.get("/health").json()["status"] == "OK"


@pytest.mark.parametrize(
    "path, change, status, kind, param",
    [
        ("/inference/completion", {"model": "nobody"}, 404, "ModelNotFoundError", None),
        ("/inference/completion", {"content": "x" * 5000}, 400, "ContextLengthError", "content"),
        (
            "/inference/completion",
            {"sampling_params": {"top_p": 2}},
            400,
            "InvalidRequestError",
            "sampling_params.top_p",
        ),
        ("/inference/completion", {"stream": "yes"}, 400, "InvalidRequestError", "stream"),
        ("/inference/completion", {"surprise": 1}, 400, "InvalidRequestError", "surprise"),
        ("/inference/completion", {"stream": True, "model": "nobody"}, 404, "ModelNotFoundError", None),
        ("/inference/completion", {"stream": True, "content": "x" * 5000}, 400, "ContextLengthError", "content"),
    ],
)
def test_what_is_wrong_with_a_request_is_its_status_streamed_or_not(
    client: httpx.Client, path: str, change: dict[str, Any], status: int, kind: str, param: str | None
) -> None:
    response = client.post(path, json=COMPLETION | change)
    assert response.status_code == status
    error = response.json()["error"]
    assert (error["type"], error["code"]) == (kind, status)
    assert error["param"] == param or param == "content"


def test_paths_and_methods_that_are_not_there_are_typed_errors_too(client: httpx.Client) -> None:
    for method, path, status in (("GET", "/not/there", 404), ("GET", "/inference/completion", 405)):
        response = client.request(method, path)
        assert response.status_code == status
        assert response.json()["error"]["code"] == status
