"""Answers with chunks of a real bank: in this process, over HTTP, recorded and replayed, and from a capsule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import workbench as wb
from tests.fakes.http_server import serving
from tests.fakes.models import FakeDecoder
from tests.fakes.serving import FakeModels
from workbench import Workbench
from workbench.errors import InvalidRequestError, MemoryBankNotFoundError, ShieldNotFoundError
from workbench.protocol import SamplingParams, UserMessage

NOTES = {"mill": "The mill is red.", "barn": "The barn is old and red.", "well": "The well is deep."}
BRIEF = SamplingParams(max_tokens=3)


def config_of(inference: dict[str, Any], folder: Path) -> dict[str, Any]:
    memory = {
        "provider_id": "memory",
        "provider_type": "inline::sqlite",
        "config": {"path": str(folder / "memory.sqlite3")},
    }
    return {**inference, "providers": {**inference["providers"], "memory": [memory]}}


@pytest.fixture
def config(fake_models: FakeModels, tmp_path: Path) -> dict[str, Any]:
    fake_models.add("model", FakeDecoder())
    return config_of(fake_models.config, tmp_path)


def filled(bench: Workbench) -> None:
    bench.register_memory_bank("notes", "keyword")
    bench.insert("notes", NOTES)


@pytest.fixture
def bench(config: dict[str, Any]) -> Iterator[Workbench]:
    with Workbench(config) as bench:
        filled(bench)
        yield bench


def test_an_answer_has_the_chunks_that_the_bank_found(bench: Workbench) -> None:
    run = bench.ask("What is red?", "notes", sampling_params=BRIEF, max_chunks=2)
    run.result(60)
    found = bench.query("notes", "What is red?", max_chunks=2)
    assert run.chunks == found.chunks
    assert {chunk.document_id for chunk in run.chunks} == {"mill", "barn"}
    attribution = run.attribution()
    assert len(attribution.without) == 2
    assert attribution.tokens == tuple(run.tokens)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"bank": "nots"}, MemoryBankNotFoundError, "served memory banks: notes"),
        ({"mode": "vector"}, InvalidRequestError, "params"),
        ({"max_chunks": 0}, InvalidRequestError, "max_chunks"),
        ({"question": " "}, InvalidRequestError, "^question must be a text that is not blank"),
        ({"question": 7}, InvalidRequestError, "^question must be a text"),
        ({"shields": ["nobody"]}, ShieldNotFoundError, "served shields: none"),
    ],
)
def test_what_cannot_be_answered_is_refused_before_a_run_starts(
    bench: Workbench, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bench.ask(**{"question": "What is red?", "bank": "notes", **options})
    run = bench.ask("What is red?", "notes", sampling_params=BRIEF)
    assert run.id == "run-1"


def test_a_recorded_answer_with_chunks_replays_with_its_attribution(
    bench: Workbench, tmp_path: Path, fake_models: FakeModels
) -> None:
    path = tmp_path / "trace.jsonl"
    with bench.record(path):
        run = bench.ask("What is red?", "notes", sampling_params=BRIEF)
        run.result(60)
        attribution = run.attribution()
    tape = {"provider_id": "tape", "provider_type": "inline::trace", "config": {"path": str(path), "timing": "skipped"}}
    with Workbench(config_of({"image_name": "tape", "providers": {"inference": [tape]}}, tmp_path)) as played:
        again = played.ask("What is red?", "notes", sampling_params=BRIEF)
        again.result(60)
        assert again.text == run.text
        assert again.chunks == run.chunks
        assert again.attribution().without == attribution.without


def test_a_capsule_keeps_the_chunks_and_needs_no_bank_to_replay(bench: Workbench, fake_models: FakeModels) -> None:
    run = bench.ask("What is red?", "notes", sampling_params=BRIEF)
    run.result(60)
    written = run.capsule.to_json()
    assert "The mill is red." in written
    with Workbench(fake_models.config) as without_memory:
        replay = wb.replay(json.loads(written), without_memory)
        assert replay.same
        assert replay.run.chunks == run.chunks
        assert replay.run.attribution().without == run.attribution().without
    plain = bench.chat_completion([UserMessage(content="x")], sampling_params=BRIEF)
    plain.result(60)
    assert "retrieved" not in json.loads(plain.capsule.to_json()), "capsules without chunks are as before"


def test_over_http_an_answer_has_its_chunks_and_their_effect(config: dict[str, Any]) -> None:
    with Workbench(config) as bench:
        filled(bench)
        run = bench.ask("What is red?", "notes", sampling_params=BRIEF, max_chunks=2)
        run.result(60)
        attribution = run.attribution()
    body = {
        "model": "model",
        "messages": [{"role": "user", "content": "What is red?"}],
        "sampling_params": {"max_tokens": 3},
        "retrieval": {"bank_id": "notes", "params": {"max_chunks": 2}, "attribution": True},
    }
    with serving(config) as served, served.client() as client:
        whole = client.post("/inference/chat_completion", json=body)
        found = whole.json()["retrieval"]
        assert whole.status_code == 200
        assert [chunk["content"] for chunk in found["chunks"]] == [chunk.content for chunk in run.chunks]
        for position, entry in enumerate(found["attribution"]):
            assert entry["token_id"] == run.tokens[position].token_id
            assert entry["without"] == pytest.approx([row[position] for row in attribution.without], abs=1e-5)
        streamed = [event["event"] for event in events(client, {**body, "stream": True})]
        assert streamed[-1]["retrieval"] == found
        assert [event.get("retrieval", {}).get("chunks") for event in streamed].count(found["chunks"]) == 2
        for wrong, status, field in (
            ({"bank_id": "nots"}, 404, None),
            ({"bank_id": "notes", "attribution": 1}, 400, "retrieval.attribution"),
            ({"bank_id": "notes", "bank": "notes"}, 400, "retrieval.bank"),
            ({"bank_id": "notes", "params": {"mood": "vector"}}, 400, "retrieval.params.mood"),
        ):
            refused = client.post("/inference/chat_completion", json={**body, "retrieval": wrong})
            assert (refused.status_code, refused.json()["error"]["param"]) == (status, field), refused.text


def events(client: httpx.Client, body: dict[str, Any]) -> list[Any]:
    with client.stream("POST", "/inference/chat_completion", json=body) as response:
        return [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
