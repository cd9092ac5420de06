"""What a Qdrant provider does beyond the contract of all: two steps of an insertion, a server, its failures."""

from __future__ import annotations

import gc
import importlib.util
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models

from tests.budget import budget
from tests.fakes.memory_models import WordModels, vector_of
from tests.fakes.qdrant_server import API_KEY, QdrantServer, qdrant_server
from tests.unit.providers.memory.conftest import bank, documents
from workbench.errors import (
    ClosedError,
    ConfigError,
    InvalidRequestError,
    MemoryBankNotFoundError,
    RemoteConnectionError,
    RemoteError,
    StateError,
)
from workbench.protocol import MemoryBankDocument, Provider
from workbench.providers import create_memory
from workbench.providers.memory.params import VectorParams
from workbench.providers.memory.preparing import NewChunk, NewDocument
from workbench.providers.memory.qdrant import filters

Open = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")


@pytest.fixture
def open_qdrant() -> Iterator[Open]:
    opened: list[Any] = []

    def open_one(models: WordModels | None = None, **config: Any) -> Any:
        described = Provider(provider_id="memory", provider_type="remote::qdrant", config=config)
        opened.append(create_memory(described, cast("Any", models or WordModels())))
        return opened[-1]

    yield open_one
    for provider in opened:
        provider.close()


@pytest.fixture
def served() -> Iterator[tuple[str, QdrantServer]]:
    with qdrant_server() as (url, server):
        yield url, server


async def found(provider: Any, query: str, **params: Any) -> list[str]:
    response = await provider.query_documents("vector", query, params)
    return [chunk.content for chunk in response.chunks]


# ------------------------------------------------------------------------------------------------------- the server


async def test_a_server_does_what_the_embedded_store_does(
    served: tuple[str, QdrantServer], open_qdrant: Open, tmp_path: Path
) -> None:
    url, server = served

    async def told(provider: Any) -> list[Any]:
        now = 1000.0
        provider.clock = lambda: now
        await provider.register_memory_bank(bank("vector"))
        before = (await provider.query_documents("vector", "loom")).chunks
        await provider.insert_documents("vector", documents("the loom", "an engine", colour="red"))
        await provider.insert_documents("vector", documents("the new loom", colour=None))
        await provider.insert_documents("vector", [MemoryBankDocument(document_id="brief", content="loom")], 60)
        said = [before, await provider.query_documents("vector", "the loom"), await provider.list_documents("vector")]
        now += 61
        said += [await provider.list_documents("vector"), await found(provider, "loom", filter={"colour": "red"})]
        await provider.delete_documents("vector", ["d0"])
        return [*said, await found(provider, "loom"), await provider.list_memory_banks(), await provider.health()]

    remote = open_qdrant(url=url, api_token=API_KEY)
    assert await told(remote) == await told(open_qdrant(path=str(tmp_path / "store")))
    other = open_qdrant(url=url, api_token=API_KEY)
    assert await other.list_documents("vector") == ["d1"]
    await other.unregister_memory_bank("vector")
    assert await remote.list_memory_banks() == []
    with pytest.raises(MemoryBankNotFoundError):
        await remote.list_documents("vector")
    assert [name.name for name in server.store.get_collections().collections] == ["workbench-banks"]


async def test_workbenches_with_other_prefixes_have_other_banks(
    served: tuple[str, QdrantServer], open_qdrant: Open
) -> None:
    one, other = (open_qdrant(url=served[0], api_token=API_KEY, collection_prefix=name) for name in ("one", "other"))
    await one.register_memory_bank(bank("vector"))
    assert await other.list_memory_banks() == []


@pytest.mark.parametrize("failing", ["/points", "/points/batch"])
async def test_a_failed_insertion_leaves_the_bank_as_it_was_and_shows_no_secret(
    served: tuple[str, QdrantServer], open_qdrant: Open, failing: str
) -> None:
    url, server = served
    provider = open_qdrant(url=url, api_token=API_KEY)
    await provider.register_memory_bank(bank("vector"))
    await provider.insert_documents("vector", documents("the loom"))
    server.failing = failing
    with pytest.raises(RemoteError, match="disk full") as caught:
        await provider.insert_documents("vector", documents("another", "more"))
    assert url in str(caught.value)
    assert API_KEY not in str(caught.value)
    server.failing = ""
    assert await provider.list_documents("vector") == ["d0"]
    assert await found(provider, "another") == ["the loom"]
    [collection] = [one.name for one in server.store.get_collections().collections if "banks" not in one.name]
    assert server.store.count(collection).count == 1, "nothing staged remains"


async def test_a_wrong_key_is_an_error_that_does_not_repeat_it(
    served: tuple[str, QdrantServer], open_qdrant: Open
) -> None:
    provider = open_qdrant(url=served[0], api_token="wrong-secret")
    with pytest.raises(RemoteError, match="HTTP 401") as caught:
        await provider.list_memory_banks()
    assert "wrong-secret" not in str(caught.value)


async def test_a_server_that_is_away_is_named_and_the_health_says_so(open_qdrant: Open) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    provider = open_qdrant(url=url, api_token=API_KEY)
    for request in (
        provider.list_memory_banks(),
        provider.register_memory_bank(bank("vector")),
        provider.insert_documents("vector", documents("x")),
        provider.query_documents("vector", "x"),
    ):
        with pytest.raises(RemoteConnectionError, match=url) as caught:
            await request
        assert API_KEY not in str(caught.value)
    assert url in (await provider.health()).status


async def test_a_request_that_runs_when_the_provider_is_closed_fails_with_a_typed_error(
    served: tuple[str, QdrantServer], open_qdrant: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, server = served
    provider = open_qdrant(url=url, api_token=API_KEY)
    answer = server.answer

    def closing(method: str, path: str, body: Any) -> Any:
        provider.close()
        return answer(method, path, body)

    await provider.register_memory_bank(bank("vector"))
    monkeypatch.setattr(server, "answer", closing)
    with pytest.raises(ClosedError, match="memory was closed"):
        await provider.list_documents("vector")


# ----------------------------------------------------------------------------------------------- the embedded store


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the client leaves a lock file open
async def test_a_store_in_use_is_a_typed_error(open_qdrant: Open, tmp_path: Path) -> None:
    first, second = (open_qdrant(path=str(tmp_path / "store")) for _ in range(2))
    await first.register_memory_bank(bank("vector"))
    with pytest.raises(StateError, match="store"):
        await second.list_memory_banks()
    first.close()
    assert await second.list_memory_banks() == [bank("vector")]
    gc.collect()


async def test_what_a_dead_process_left_is_never_found_and_purged_after_a_day(
    open_qdrant: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = open_qdrant(path=str(tmp_path / "store"))
    provider.clock = lambda: 1_000_000.0
    await provider.register_memory_bank(bank("vector"))
    await provider.insert_documents("vector", documents("the loom"))
    client: QdrantClient = provider._store._client
    with monkeypatch.context() as patch:
        patch.setattr(client, "batch_update_points", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(client, "delete", lambda *_, **__: None)  # the process is dead by then
        with pytest.raises(KeyboardInterrupt):
            provider._store.insert(
                provider._store.bank("vector"),
                [store_document("d0", "staged")],
                now=1_000_000.0,
                expires_at=None,
                dimensions=32,
                cancelled=threading.Event(),
            )
    collection = provider._store.bank("vector").collection
    assert client.count(collection).count == 2
    assert await found(provider, "staged") == ["the loom"]
    await provider.insert_documents("vector", [MemoryBankDocument(document_id="d1", content="soon after")])
    assert client.count(collection).count == 3, "it may still be running"
    provider.clock = lambda: 1_100_000.0
    await provider.insert_documents("vector", [MemoryBankDocument(document_id="d2", content="a day after")])
    assert client.count(collection).count == 3
    assert await provider.list_documents("vector") == ["d0", "d1", "d2"]


def store_document(document_id: str, content: str) -> Any:
    return NewDocument(document_id, {}, [NewChunk(content, 1, vector_of(content).tobytes())])


async def test_a_model_whose_vectors_have_another_length_is_refused(open_qdrant: Open, tmp_path: Path) -> None:
    provider = open_qdrant(path=str(tmp_path / "store"))
    await provider.register_memory_bank(bank("vector"))
    await provider.insert_documents("vector", documents("the loom"))
    provider.close()
    changed = open_qdrant(WordModels(dimensions=7), path=str(tmp_path / "store"))
    for request in (changed.insert_documents("vector", documents("x")), changed.query_documents("vector", "x")):
        with pytest.raises(InvalidRequestError, match="vectors of 32 numbers"):
            await request
    assert await changed.list_documents("vector") == ["d0"]


# ---------------------------------------------------------------------------------------------------------- filters


SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 1.5, -0.0, "", "a", "1", "é"])
METADATA = st.dictionaries(st.sampled_from(["a", "b.c", '"]']), SCALARS | st.lists(SCALARS, max_size=3), max_size=3)
FILTERS = st.dictionaries(
    st.sampled_from(["a", "b.c", '"]']), SCALARS | st.lists(SCALARS, min_size=1, max_size=3), min_size=1, max_size=2
)


@settings(max_examples=budget(100))
@given(rows=st.lists(METADATA, min_size=1, max_size=5), wanted=FILTERS)
def test_a_filter_accepts_what_the_parameters_of_all_providers_accept(
    rows: list[dict[str, Any]], wanted: dict[str, Any]
) -> None:
    client = QdrantClient(":memory:")
    client.create_collection("rows", vectors_config={})
    points = [
        models.PointStruct(id=index, vector={}, payload={"staged": False, "tags": filters.tags(row)})
        for index, row in enumerate(rows)
    ]
    client.upsert("rows", points)
    accepted, _ = client.scroll("rows", scroll_filter=filters.visible(0.0, wanted), limit=10)
    client.close()
    params = VectorParams(filter=wanted)
    assert [record.id for record in accepted] == [index for index, row in enumerate(rows) if params.accepts(row)]


# ----------------------------------------------------------------------------------------------------------- config


@pytest.mark.parametrize(
    "config, field",
    [
        ({}, "url"),
        ({"url": "http://host", "path": "folder"}, "url"),
        ({"url": "host:6333"}, "url"),
        ({"url": "http://user:secret@host"}, "url"),
        ({"path": ""}, "path"),
        ({"url": "http://host", "api_token": "two words"}, "api_token"),
        ({"url": "http://host", "collection_prefix": "a/b"}, "collection_prefix"),
        ({"url": "http://host", "timeout_s": 0}, "timeout_s"),
    ],
)
def test_a_config_that_is_not_allowed_is_refused_by_its_key(
    open_qdrant: Open, config: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError, match=rf"'memory'.*{field}") as caught:
        open_qdrant(**config)
    assert "secret" not in str(caught.value)
    assert "two words" not in str(caught.value)


def test_a_client_that_is_not_installed_is_named(open_qdrant: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "qdrant_client" else find(name))
    with pytest.raises(ConfigError, match=r"inference-workbench\[qdrant\]"):
        open_qdrant(path="folder")
