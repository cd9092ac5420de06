"""Shields and memory banks over HTTP: every route, and what is wrong with a request by its status and its field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.http_server import Served, serving
from tests.fakes.resources import DictionaryMemory, config_of, memory, safety, serve_fakes
from workbench.errors import StateError
from workbench.server import Limits
from workbench.stack.apis import DEFAULT_APIS

USER = {"role": "user", "content": "a forbidden word"}
DOCUMENT = {"document_id": "rome", "content": "Rome is old", "metadata": {"course": 1}}
WORDS = {"identifier": "words", "type": "keyword", "provider_id": "memory"}
CHECK = ("/safety/run_shield", {"shield_type": "own", "messages": [USER]})
INSERT = ("/memory/insert", {"bank_id": "notes", "documents": [DOCUMENT]})
QUERY = ("/memory/query", {"bank_id": "notes", "query": "Rome"})
SHIELD = ("/shields/register", {"shield": {"identifier": "new", "type": "word", "provider_id": "guard"}})
BANK = ("/memory_banks/register", {"memory_bank": WORDS})
MIB = 2**20


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    serve_fakes(monkeypatch)
    config = config_of(safety=[safety("guard", "own")], memory=[memory("memory", "notes")])
    with serving(config, limits=Limits(max_body_bytes=MIB)) as served:
        yield served


@pytest.fixture
def client(served: Served) -> httpx.Client:
    return served.client()


def post(client: httpx.Client, route: tuple[str, dict[str, Any]], **changes: Any) -> Any:
    response = client.post(route[0], json=route[1] | changes)
    assert response.status_code == 200, response.text
    return response.json()


def error_of(response: httpx.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    assert error["code"] == response.status_code
    return response.status_code, error["type"], error["param"]


def test_a_shield_is_run_and_its_violation_is_that_of_the_call(client: httpx.Client) -> None:
    assert post(client, CHECK) == {
        "violation": {
            "violation_level": "error",
            "user_message": "forbidden may not be said",
            "metadata": {"word": "forbidden"},
        }
    }
    assert post(client, CHECK, params={"words": ["moon"]}) == {"violation": None}


def test_shields_are_registered_listed_found_and_unregistered(client: httpx.Client) -> None:
    assert post(client, SHIELD) is None
    listed = client.get("/shields/list").json()
    assert [shield["identifier"] for shield in listed] == ["own", "new"]
    assert listed[1] == {"identifier": "new", "type": "word", "params": {}, "provider_id": "guard"}
    assert client.get("/shields/get", params={"shield_type": "guard/new"}).json() == listed[1]
    assert client.get("/shields/get", params={"shield_type": "nobody"}).json() is None
    assert post(client, ("/shields/unregister", {"identifier": "new"})) is None
    assert len(client.get("/shields/list").json()) == 1


def test_documents_are_inserted_and_found_with_scores_and_metadata(served: Served, client: httpx.Client) -> None:
    paris = {"document_id": "paris", "content": ["Paris ", "is big"], "mime_type": "text/plain", "metadata": {}}
    assert post(client, INSERT, documents=[DOCUMENT, paris], ttl_seconds=60) is None
    provider = served.stack.memory_providers["memory"]
    assert isinstance(provider, DictionaryMemory)
    assert provider.calls == [(2, 60)]
    found = post(client, QUERY, query=["Rome ", "is old"], params={"max_chunks": 1})
    chunk = {"content": "Rome is old", "token_count": 3, "document_id": "rome", "metadata": {"course": 1}}
    assert found == {"chunks": [chunk], "scores": [3.0]}
    (plain,) = post(client, QUERY, query="Paris")["chunks"]
    assert plain == {"content": "Paris is big", "token_count": 3, "document_id": "paris"}, "as the original protocol"


def test_banks_are_registered_listed_found_and_unregistered(client: httpx.Client) -> None:
    vector = {"identifier": "vectors", "type": "vector", "embedding_model": "echo-embedding", "chunk_size_in_tokens": 9}
    assert post(client, BANK) is None
    assert post(client, BANK, memory_bank=vector) is None
    listed = client.get("/memory_banks/list").json()
    assert [bank["identifier"] for bank in listed] == ["notes", "words", "vectors"]
    assert listed[1] == WORDS
    assert listed[2] == vector | {"provider_id": "memory", "overlap_size_in_tokens": None}
    assert client.get("/memory_banks/get", params={"identifier": "memory/words"}).json() == WORDS
    assert client.get("/memory_banks/get", params={"identifier": "nobody"}).json() is None
    assert post(client, ("/memory_banks/unregister", {"identifier": "words"})) is None
    assert len(client.get("/memory_banks/list").json()) == 2


def test_inspection_shows_all_providers_and_routes(client: httpx.Client) -> None:
    providers = client.get("/providers/list").json()
    assert {name: one["provider_type"] for name, one in providers.items()} == {
        "echo": "inline::echo",
        "guard": "inline::word_shield",
        "memory": "inline::dictionary",
    }
    assert list(client.get("/routes/list").json()) == list(DEFAULT_APIS)
    assert set(client.get("/providers/health").json()) == set(providers)


@pytest.mark.parametrize(
    "route,changes,expected",
    [
        (CHECK, {"shield_type": "nobody"}, (404, "ShieldNotFoundError", None)),
        (CHECK, {"messages": []}, (400, "InvalidRequestError", "messages")),
        (CHECK, {"messages": [{"role": "judge", "content": "x"}]}, (400, "InvalidRequestError", "messages[0].role")),
        (CHECK, {"params": {"surprise": 1}}, (400, "InvalidRequestError", "params.surprise")),
        (CHECK, {"params": []}, (400, "InvalidRequestError", "params")),
        (CHECK, {"shield": "own"}, (400, "InvalidRequestError", "shield")),
        (CHECK, {"messages": [{"role": "user", "content": "really?"}]}, (502, "ShieldError", None)),
        (SHIELD, {"shield": SHIELD[1]["shield"] | {"type": "other"}}, (400, "InvalidRequestError", "type")),
        (
            SHIELD,
            {"shield": SHIELD[1]["shield"] | {"provider_id": "echo"}},
            (400, "InvalidRequestError", "provider_id"),
        ),
        (SHIELD, {"shield": {"identifier": "new"}}, (400, "InvalidRequestError", "shield.type")),
        (("/shields/unregister", {}), {"identifier": "nobody"}, (404, "ShieldNotFoundError", None)),
        (INSERT, {"bank_id": "nobody"}, (404, "MemoryBankNotFoundError", None)),
        (INSERT, {"documents": [{"document_id": "x"}]}, (400, "InvalidRequestError", "documents[0].content")),
        (INSERT, {"documents": [DOCUMENT | {"id": 1}]}, (400, "InvalidRequestError", "documents[0].id")),
        (
            INSERT,
            {"documents": [DOCUMENT, DOCUMENT | {"content": {"uri": "https://example.org"}}]},
            (400, "InvalidRequestError", "documents[1].content"),
        ),
        (INSERT, {"ttl_seconds": -1}, (400, "InvalidRequestError", "ttl_seconds")),
        (INSERT, {"ttl_seconds": 1.5}, (400, "InvalidRequestError", "ttl_seconds")),
        (QUERY, {"bank_id": "nobody"}, (404, "MemoryBankNotFoundError", None)),
        (QUERY, {"params": {"surprise": 1}}, (400, "InvalidRequestError", "params.surprise")),
        (QUERY, {"query": 7}, (400, "InvalidRequestError", "query")),
        (BANK, {"memory_bank": WORDS | {"type": "heap"}}, (400, "InvalidRequestError", "memory_bank.type")),
        (BANK, {"memory_bank": WORDS | {"size": 1}}, (400, "InvalidRequestError", "memory_bank.size")),
        (BANK, {"memory_bank": WORDS | {"provider_id": "guard"}}, (400, "InvalidRequestError", "provider_id")),
        (BANK, {"memory_bank": {"identifier": "x", "type": "vector"}}, (400, "InvalidRequestError", None)),
        (("/memory_banks/unregister", {}), {"identifier": "nobody"}, (404, "MemoryBankNotFoundError", None)),
    ],
)
def test_what_is_wrong_with_a_request_is_its_status_and_changes_nothing(
    client: httpx.Client, route: tuple[str, dict[str, Any]], changes: Any, expected: tuple[int, str, str | None]
) -> None:
    status, kind, param = error_of(client.post(route[0], json=route[1] | changes))
    assert (status, kind) == expected[:2]
    assert param is None or expected[2] is None or expected[2] in param
    assert [shield["identifier"] for shield in client.get("/shields/list").json()] == ["own"]
    assert [bank["identifier"] for bank in client.get("/memory_banks/list").json()] == ["notes"]
    assert post(client, QUERY)["chunks"] == []


def test_the_error_for_an_unknown_name_lists_those_that_are_served(client: httpx.Client) -> None:
    unknown = client.post(CHECK[0], json=CHECK[1] | {"shield_type": "nobody"}).json()["error"]["message"]
    assert "served shields: own" in unknown
    unknown = client.post(QUERY[0], json=QUERY[1] | {"bank_id": "nobody"}).json()["error"]["message"]
    assert "served memory banks: notes" in unknown


def test_documents_over_the_limit_of_a_body_are_refused_before_they_are_read(client: httpx.Client) -> None:
    large = DOCUMENT | {"content": "x" * MIB}
    assert client.post(INSERT[0], json=INSERT[1] | {"documents": [large]}).status_code == 413
    many = [DOCUMENT | {"document_id": str(number)} for number in range(1000)]
    post(client, INSERT, documents=many)
    assert len(post(client, QUERY, params={"max_chunks": 2000})["chunks"]) == 1000


def test_a_file_that_cannot_be_written_is_a_failure_of_the_server_that_no_client_repeats(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any, **__: Any) -> None:
        raise StateError("the disk is full")

    monkeypatch.setattr(DictionaryMemory, "insert_documents", full)
    response = client.post(INSERT[0], json=INSERT[1])
    assert error_of(response) == (500, "StateError", None)
    assert response.headers["X-Should-Retry"] == "false"


def test_the_description_has_every_route_with_its_body(client: httpx.Client) -> None:
    description = client.get("/openapi.json").json()
    for path, fields in (
        ("/safety/run_shield", {"shield_type", "messages", "params"}),
        ("/shields/register", {"shield"}),
        ("/memory/insert", {"bank_id", "documents", "ttl_seconds"}),
        ("/memory/query", {"bank_id", "query", "params"}),
        ("/memory_banks/register", {"memory_bank"}),
    ):
        operation = description["paths"][path]["post"]
        name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert set(description["components"]["schemas"][name]["properties"]) == fields
        assert {"200", "400", "404", "500", "502"} <= set(operation["responses"])
    found = description["components"]["schemas"]["QueryDocumentsResponse"]["properties"]
    assert set(found) == {"chunks", "scores"}
