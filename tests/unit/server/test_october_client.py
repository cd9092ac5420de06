"""The client of October 2024, as it was published then, against the server: sync, and async by the same words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from llama_stack_client import APIStatusError, AsyncLlamaStackClient, LlamaStackClient

from tests.fakes.http_server import HEADERS, Served, serving
from tests.fakes.resources import config_of, memory, safety, serve_fakes
from tests.unit.server.conftest import ECHO

MESSAGES: Any = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Call get_weather for Rome, please."},
]
TOOLS: Any = [
    {
        "tool_name": "get_weather",
        "description": "Tells the weather.",
        "parameters": {"location": {"param_type": "string", "description": "The city.", "required": True}},
    }
]


class Sync:
    """The sync client under the async one's calls, so that each test is written once."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        return self._call(found) if callable(found) and not hasattr(found, "_client") else Sync(found)

    @staticmethod
    def _call(function: Any) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            return function(*args, **options)

        return call


async def items(stream: Any) -> list[Any]:
    if hasattr(stream, "__aiter__"):
        return [item async for item in stream]
    return list(stream)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """One with ``echo``, a shield that flags a word, and a bank that finds words."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        serve_fakes(monkeypatch)
        config = config_of(ECHO["providers"]["inference"], [safety("guard", "own")], [memory("memory", "notes")])
        with serving(config) as served:
            yield served


@pytest.fixture(params=["sync", "async"])
async def october(request: pytest.FixtureRequest, served: Served) -> AsyncIterator[Any]:
    options: Any = {"base_url": served.url, "default_headers": HEADERS, "max_retries": 0}
    # The client that it would make itself has an argument that httpx no longer knows.
    if request.param == "async":
        async with AsyncLlamaStackClient(**options, http_client=httpx.AsyncClient()) as client:
            yield client
    else:
        with LlamaStackClient(**options, http_client=httpx.Client()) as client:
            yield Sync(client)


async def test_it_lists_finds_and_registers_models(october: Any) -> None:
    name = f"by-{type(october).__name__}"
    await october.models.register(
        model={"identifier": name, "llama_model": "echo", "provider_id": "echo", "metadata": {"kept": [1, {"a": None}]}}
    )
    listed = await october.models.list()
    assert {"echo", "echo-embedding", name} <= {model.identifier for model in listed}
    found = await october.models.retrieve(identifier=name)
    assert (found.identifier, found.llama_model, found.provider_id) == (name, "echo", "echo")
    assert found.metadata == {"kept": [1, {"a": None}]}
    assert await october.models.retrieve(identifier="nobody") is None


async def test_it_chats_and_reads_logprobs(october: Any) -> None:
    answer = await october.inference.chat_completion(
        model="echo",
        messages=MESSAGES,
        logprobs={"top_k": 2},
        sampling_params={"strategy": "greedy", "temperature": 0.0, "max_tokens": 3},
    )
    assert answer.completion_message.content == "Call get_weather for"
    assert answer.completion_message.stop_reason == "out_of_tokens"
    assert [len(entry.logprobs_by_token) for entry in answer.logprobs] == [3, 3, 3]


async def test_it_streams_the_same_chat_in_events(october: Any) -> None:
    stream = await october.inference.chat_completion(model="echo", messages=MESSAGES, stream=True)
    events = [chunk.event for chunk in await items(stream)]
    assert [events[0].event_type, events[-1].event_type] == ["start", "complete"]
    assert {event.event_type for event in events[1:-1]} == {"progress"}
    assert "".join(event.delta for event in events) == MESSAGES[-1]["content"]
    assert events[-1].stop_reason == "end_of_turn"


async def test_it_gets_tool_calls_whole_and_streamed(october: Any) -> None:
    asked: Any = {"model": "echo", "messages": MESSAGES, "tools": TOOLS, "tool_prompt_format": "function_tag"}
    whole = await october.inference.chat_completion(**asked)
    (call,) = whole.completion_message.tool_calls
    assert (call.tool_name, call.arguments) == ("get_weather", {"location": MESSAGES[-1]["content"]})
    stream = await october.inference.chat_completion(**asked, stream=True)
    deltas = [chunk.event.delta for chunk in await items(stream) if chunk.event.event_type == "progress"]
    assert deltas[0].parse_status == "started"
    assert deltas[-1].parse_status == "success"
    assert deltas[-1].content.to_dict() == call.to_dict()


async def test_it_sends_back_a_call_and_its_result(october: Any) -> None:
    call = {"call_id": "1", "tool_name": "get_weather", "arguments": {"location": "Rome"}}
    said = {"role": "assistant", "content": "", "stop_reason": "end_of_message", "tool_calls": [call]}
    result = {"role": "ipython", "call_id": "1", "tool_name": "get_weather", "content": "Sunny."}
    answer = await october.inference.chat_completion(model="echo", messages=[*MESSAGES, said, result], tools=TOOLS)
    assert answer.completion_message.content == "Sunny."


async def test_it_completes_embeds_and_batches(october: Any) -> None:
    answer = await october.inference.completion(model="echo", content="Once upon a time")
    assert answer.completion_message.content == "Once upon a time"
    vectors = await october.inference.embeddings.create(model="echo-embedding", contents=["one", "two", "one"])
    assert vectors.embeddings[0] == vectors.embeddings[2] != vectors.embeddings[1]
    texts = await october.batch_inferences.completion(model="echo", content_batch=["a b", "c"])
    assert [message.content for message in texts.completion_message_batch] == ["a b", "c"]
    chats = await october.batch_inferences.chat_completion(model="echo", messages_batch=[MESSAGES, MESSAGES[1:]])
    assert [message.content for message in chats.completion_message_batch] == [MESSAGES[1]["content"]] * 2


async def test_it_registers_lists_and_runs_shields(october: Any) -> None:
    name = f"shield-by-{type(october).__name__}"
    definition: Any = {"identifier": name, "type": "llama_guard", "provider_id": "guard", "params": {"words": ["moon"]}}
    assert await october.shields.register(shield=definition) is None
    assert name in [shield.identifier for shield in await october.shields.list()]
    found = await october.shields.retrieve(shield_type=name)
    assert (found.type, found.params) == ("llama_guard", {"words": ["moon"]})
    assert await october.shields.retrieve(shield_type="nobody") is None
    moon: Any = [{"role": "user", "content": "the moon"}]
    violation = (await october.safety.run_shield(shield_type=name, messages=moon, params={})).violation
    assert (violation.violation_level, violation.metadata) == ("error", {"word": "moon"})
    fine = await october.safety.run_shield(shield_type="own", messages=moon, params={})
    assert fine.violation is None


async def test_it_registers_lists_fills_and_queries_memory_banks(october: Any) -> None:
    name = f"bank-by-{type(october).__name__}"
    sizes: Any = {"embedding_model": "echo-embedding", "chunk_size_in_tokens": 64, "overlap_size_in_tokens": 8}
    bank: Any = {"identifier": name, "type": "vector", "provider_id": "memory"} | sizes
    assert await october.memory_banks.register(memory_bank=bank) is None
    listed = {one.identifier: one for one in await october.memory_banks.list()}
    assert listed[name].to_dict() == bank
    assert (await october.memory_banks.retrieve(identifier=name)).to_dict() == bank
    assert await october.memory_banks.retrieve(identifier="nobody") is None
    documents: Any = [
        {"document_id": "rome", "content": "Rome is old", "mime_type": "text/plain", "metadata": {"course": 1}},
        {"document_id": "paris", "content": ["Paris ", "is big"], "metadata": {}},
    ]
    assert await october.memory.insert(bank_id=name, documents=documents, ttl_seconds=60) is None
    found = await october.memory.query(bank_id=name, query=["Rome"], params={"max_chunks": 1})
    assert [(chunk.document_id, chunk.content, chunk.token_count) for chunk in found.chunks] == [
        ("rome", "Rome is old", 3)
    ]
    assert found.scores == [1.0]


async def test_it_inspects(october: Any) -> None:
    assert (await october.providers.list())["echo"].provider_type == "inline::echo"
    routes = await october.routes.list()
    assert "/inference/chat_completion" in {route.route for route in routes["inference"]}
    assert {route.route for route in routes["memory"]} == {"/memory/insert", "/memory/query"}
    assert (await october.inspect.health()).status == "OK"


async def test_its_errors_say_what_is_wrong(october: Any) -> None:
    with pytest.raises(APIStatusError) as unknown:
        await october.inference.chat_completion(model="nobody", messages=MESSAGES)
    assert unknown.value.status_code == 404
    with pytest.raises(APIStatusError) as wrong:
        await october.inference.chat_completion(model="echo", messages=MESSAGES, sampling_params={"top_p": 7})
    body: Any = wrong.value.body
    assert body["error"]["param"] == "sampling_params.top_p"
