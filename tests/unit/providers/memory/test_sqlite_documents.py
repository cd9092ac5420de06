"""Documents in banks: inserted all or none, replaced, deleted, expired; bad ones are refused by their place."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.budget import budget
from tests.fakes.memory_models import WordModels
from tests.unit.providers.memory.conftest import BANKS, Open, bank, documents
from workbench.errors import InvalidRequestError, StateError
from workbench.protocol import MemoryBankDocument
from workbench.providers.memory.sqlite import SqliteProvider
from workbench.providers.memory.sqlite import banks as banks_module

LONG = " ".join(f"word{index}" for index in range(40))


@pytest.fixture(params=BANKS)
async def filled(request: pytest.FixtureRequest, provider: SqliteProvider) -> tuple[SqliteProvider, str]:
    """A provider with a bank of each type in turn, which holds two documents."""
    await provider.register_memory_bank(bank(request.param))
    await provider.insert_documents(request.param, documents(LONG, "second"))
    return provider, request.param


def rows(path: Path) -> dict[str, int]:
    """How many rows each table has, and that the indexes agree with the tables."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%USING fts5%'").fetchall():
            connection.execute(f"INSERT INTO {name} ({name}, rank) VALUES ('integrity-check', 1)")
        tables = ("banks", "documents", "chunks", "vectors")
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}


async def content(provider: SqliteProvider, kind: str, document_id: str) -> str:
    """The text of a document, of its chunks in order."""
    with provider._store.database.reading() as connection:
        found = connection.execute(
            "SELECT content FROM chunks JOIN documents USING (document) WHERE document_id = ? ORDER BY chunk",
            (document_id,),
        )
        return "".join(text for (text,) in found)


async def test_a_document_of_the_same_id_is_replaced(filled: tuple[SqliteProvider, str], tmp_path: Path) -> None:
    provider, kind = filled
    before = rows(tmp_path / "banks.sqlite3")
    await provider.insert_documents(kind, documents(LONG.replace("word", "other")))
    assert rows(tmp_path / "banks.sqlite3") == before
    assert (await content(provider, kind, "d0")).startswith("other0")
    assert await provider.list_documents(kind) == ["d1", "d0"], "in order of insertion"


async def test_the_last_of_equal_ids_in_one_call_is_stored(filled: tuple[SqliteProvider, str]) -> None:
    provider, kind = filled
    same = [MemoryBankDocument(document_id="same", content=text) for text in ("first", "second", "third")]
    await provider.insert_documents(kind, same)
    assert await content(provider, kind, "same") == "third"


async def test_deleted_documents_are_gone_all_or_none(filled: tuple[SqliteProvider, str], tmp_path: Path) -> None:
    provider, kind = filled
    with pytest.raises(InvalidRequestError, match="the id of a document") as caught:
        await provider.delete_documents(kind, ["d0", "missing"])
    assert caught.value.field == "document_ids[1]"
    assert await provider.list_documents(kind) == ["d0", "d1"]
    await provider.delete_documents(kind, ["d1", "d0", "d1"])
    assert await provider.list_documents(kind) == []
    assert rows(tmp_path / "banks.sqlite3") == {"banks": 1, "documents": 0, "chunks": 0, "vectors": 0}


async def test_expired_documents_are_not_found_and_are_purged_by_the_next_change(
    filled: tuple[SqliteProvider, str], tmp_path: Path
) -> None:
    provider, kind = filled
    now = 1_000_000.0
    provider.clock = lambda: now
    await provider.insert_documents(kind, [MemoryBankDocument(document_id="brief", content="brief")], ttl_seconds=10)
    for modes in [{"mode": mode} for mode in ("vector", "keyword", "hybrid")] if kind == "vector" else [{}]:
        now = 1_000_009.0
        assert "brief" in [chunk.document_id for chunk in (await provider.query_documents(kind, "brief", modes)).chunks]
        now = 1_000_010.0
        found = await provider.query_documents(kind, "brief", modes)
        assert "brief" not in [chunk.document_id for chunk in found.chunks]
    assert await provider.list_documents(kind) == ["d0", "d1"]
    before = rows(tmp_path / "banks.sqlite3")
    await provider.insert_documents(kind, [MemoryBankDocument(document_id="d1", content="second")])
    after = rows(tmp_path / "banks.sqlite3")
    assert after["documents"] == before["documents"] - 1


async def test_a_document_that_is_inserted_again_without_a_ttl_stays(filled: tuple[SqliteProvider, str]) -> None:
    provider, kind = filled
    now = 0.0
    provider.clock = lambda: now
    await provider.insert_documents(kind, documents("brief"), ttl_seconds=1)
    await provider.insert_documents(kind, documents("for good"))
    now = 100.0
    assert set(await provider.list_documents(kind)) == {"d0", "d1"}


@pytest.mark.parametrize("ttl", [0, -1, 1.5, "10", True, 10**400, float("nan")])
async def test_a_bad_ttl_is_refused(filled: tuple[SqliteProvider, str], ttl: Any) -> None:
    provider, kind = filled
    with pytest.raises(InvalidRequestError) as caught:
        await provider.insert_documents(kind, documents("x"), ttl_seconds=ttl)
    assert caught.value.field == "ttl_seconds"


@pytest.mark.parametrize(
    "field,bad",
    [
        ("document_id", {"document_id": ""}),
        ("document_id", {"document_id": "x" * 10_000}),
        ("document_id", {"document_id": "a\0b"}),
        ("document_id", {"document_id": "a\nb"}),
        ("document_id", {"document_id": "\ud800"}),
        ("metadata", {"metadata": {"a": float("inf")}}),
        ("metadata", {"metadata": {"a": object()}}),
        ("metadata", {"metadata": {"a": "\ud800"}}),
        ("metadata", {"metadata": {"a": "x" * 200_000}}),
        ("content", {"content": "a\0b"}),
        ("content", {"content": "x" * 50_000_000}),
        ("mime_type", {"mime_type": "image/png"}),
    ],
)
async def test_one_bad_document_refuses_them_all_by_its_place(
    filled: tuple[SqliteProvider, str], field: str, bad: dict[str, Any]
) -> None:
    provider, kind = filled
    fine = MemoryBankDocument(document_id="fine", content="fine")
    wrong = MemoryBankDocument(**{"document_id": "wrong", "content": "text"} | bad)
    with pytest.raises(InvalidRequestError) as caught:
        await provider.insert_documents(kind, [fine, wrong])
    assert caught.value.field == f"documents[1].{field}"
    assert await provider.list_documents(kind) == ["d0", "d1"]


@pytest.mark.parametrize("given_documents", [None, "text", [{"document_id": "x", "content": "y"}], [None]])
async def test_what_is_no_list_of_documents_is_refused(
    filled: tuple[SqliteProvider, str], given_documents: Any
) -> None:
    provider, kind = filled
    with pytest.raises(InvalidRequestError, match="documents"):
        await provider.insert_documents(kind, given_documents)


@pytest.mark.parametrize("links", ["b", [1], None, {"b": 1}])
async def test_links_of_a_graph_are_ids(provider: SqliteProvider, links: Any) -> None:
    await provider.register_memory_bank(bank("graph"))
    with pytest.raises(InvalidRequestError, match=r"documents\[0\]\.metadata\.links"):
        await provider.insert_documents("graph", documents("x", links=links))


async def test_blank_documents_have_a_place_only_where_they_can_be_found(filled: tuple[SqliteProvider, str]) -> None:
    provider, kind = filled
    blank = [MemoryBankDocument(document_id="blank", content=" \n")]
    if kind in {"keyvalue", "graph"}:
        await provider.insert_documents(kind, blank)
        assert "blank" in await provider.list_documents(kind)
    else:
        with pytest.raises(InvalidRequestError, match="not blank") as caught:
            await provider.insert_documents(kind, blank)
        assert caught.value.field == "documents[0].content"


async def test_no_documents_change_nothing(filled: tuple[SqliteProvider, str], tmp_path: Path) -> None:
    provider, kind = filled
    before = (tmp_path / "banks.sqlite3").read_bytes()
    await provider.insert_documents(kind, [])
    assert (tmp_path / "banks.sqlite3").read_bytes() == before


async def test_ten_thousand_documents_in_one_call(provider: SqliteProvider) -> None:
    await provider.register_memory_bank(bank("keyword"))
    await provider.insert_documents("keyword", documents(*(f"number {index}" for index in range(10_000))))
    assert len(await provider.list_documents("keyword")) == 10_000
    assert [c.document_id for c in (await provider.query_documents("keyword", "1234")).chunks] == ["d1234"]


@pytest.mark.parametrize("kind", BANKS)
async def test_progress_is_reported_in_chunks_from_the_first_to_the_last(provider: SqliteProvider, kind: str) -> None:
    await provider.register_memory_bank(bank(kind))
    reports: list[tuple[int, int]] = []
    many = documents(*[LONG] * 30)
    await provider.insert_documents(kind, many, progress=lambda ready, total: reports.append((ready, total)))
    assert reports == ([(0, 150), (64, 150), (128, 150), (150, 150)] if kind == "vector" else [(30, 30)])


async def test_more_text_than_one_call_may_hold_is_refused(open_provider: Open) -> None:
    provider = open_provider(max_insert_bytes=100)
    await provider.register_memory_bank(bank("keyword"))
    with pytest.raises(InvalidRequestError, match="in one call") as caught:
        await provider.insert_documents("keyword", documents("a" * 60, "b" * 60))
    assert caught.value.field == "documents"
    assert await provider.list_documents("keyword") == []


SQL = "x'); DROP TABLE documents; --"


async def test_sql_in_every_text_is_only_text(provider: SqliteProvider) -> None:
    for kind in BANKS:
        await provider.register_memory_bank(bank(kind, f"{kind} {SQL}"))
        one = MemoryBankDocument(document_id=SQL, content=SQL, metadata={SQL: SQL, "links": [SQL]})
        await provider.insert_documents(f"{kind} {SQL}", [one])
        found = await provider.query_documents(f"{kind} {SQL}", SQL, {"filter": {SQL: SQL}})
        assert [chunk.document_id for chunk in found.chunks] == [SQL]
        await provider.delete_documents(f"{kind} {SQL}", [SQL])
        await provider.unregister_memory_bank(f"{kind} {SQL}")
    assert await provider.list_memory_banks() == []


ids = st.sampled_from(["a", "b", "c", "d"])
changes = st.lists(
    st.tuples(st.just("insert"), st.lists(ids, max_size=3), st.sampled_from([None, 1, 5]))
    | st.tuples(st.just("delete"), st.lists(ids, max_size=2), st.none())
    | st.tuples(st.just("wait"), st.just([]), st.sampled_from([1, 3])),
    max_size=8,
)


@settings(max_examples=budget(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(BANKS), steps=changes)
async def test_any_sequence_of_changes_leaves_what_a_dict_would_hold(
    tmp_path_factory: pytest.TempPathFactory, open_provider: Open, kind: str, steps: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("banks") / "file"
    provider = open_provider(path=str(path))
    await provider.register_memory_bank(bank(kind))
    now = 0.0
    provider.clock = lambda: now
    expected: dict[str, float] = {}
    for action, names, number in steps:
        if action == "wait":
            now += number
        elif action == "insert":
            await provider.insert_documents(
                kind, [MemoryBankDocument(document_id=name, content=f"{name} {now}") for name in names], number
            )
            for name in names:
                expected.pop(name, None)
            for name in dict.fromkeys(names[::-1]):
                expected[name] = now + number if number else float("inf")
        else:
            alive = {name for name, until in expected.items() if until > now}
            if set(names) <= alive:
                await provider.delete_documents(kind, names)
                expected = {name: until for name, until in expected.items() if name not in names}
        expected = {name: until for name, until in expected.items() if until > now}
        assert set(await provider.list_documents(kind)) == set(expected)
    if path.exists():
        rows(path)


async def test_a_full_disk_leaves_nothing_half_written(
    filled: tuple[SqliteProvider, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, kind = filled
    path = tmp_path / "banks.sqlite3"
    before, connect = rows(path), sqlite3.connect

    def full(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")
        return connection

    many = [MemoryBankDocument(document_id=f"big{index}", content=LONG * 10) for index in range(40)]
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", full)
        with pytest.raises(StateError, match="full") as caught:
            await provider.insert_documents(kind, many)
    assert "Make room" in str(caught.value)
    assert rows(path) == before
    await provider.insert_documents(kind, many)
    assert len(await provider.list_documents(kind)) == 42


async def test_a_cancelled_insertion_leaves_nothing(
    filled: tuple[SqliteProvider, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled in the middle of its transaction, which then ends on its own thread."""
    provider, kind = filled
    before = rows(tmp_path / "banks.sqlite3")
    reached, proceed, real = threading.Event(), threading.Event(), banks_module._insert

    def held(*args: Any) -> None:
        real(*args)
        reached.set()
        proceed.wait()

    with monkeypatch.context() as patch:
        patch.setattr(banks_module, "_insert", held)
        task = asyncio.create_task(provider.insert_documents(kind, documents("x", "y", "z")))
        await asyncio.to_thread(reached.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        proceed.set()
    await provider.insert_documents(kind, documents(LONG, "second"))  # waits for the other transaction
    assert rows(tmp_path / "banks.sqlite3") == before


async def test_a_request_cancelled_while_it_embeds_leaves_nothing(open_provider: Open) -> None:
    class Slow(WordModels):
        async def embed(self, model: str, contents: list[Any]) -> Any:
            embedding.set()
            await asyncio.Event().wait()

    embedding = asyncio.Event()
    provider = open_provider(Slow())
    await provider.register_memory_bank(bank("vector"))
    task = asyncio.create_task(provider.insert_documents("vector", documents("x")))
    await embedding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await provider.list_documents("vector") == []


async def test_files_are_never_opened_on_the_event_loops_thread(
    filled: tuple[SqliteProvider, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, kind = filled
    connect, threads = sqlite3.connect, []

    def watched(*args: Any, **options: Any) -> sqlite3.Connection:
        threads.append(threading.current_thread())
        connection: sqlite3.Connection = connect(*args, **options)
        return connection

    monkeypatch.setattr(sqlite3, "connect", watched)
    await provider.register_memory_bank(bank(kind, "more"))
    await provider.insert_documents(kind, documents("x"))
    await provider.query_documents(kind, "x")
    await provider.list_documents(kind)
    await provider.delete_documents(kind, ["d0"])
    await provider.list_memory_banks()
    await provider.unregister_memory_bank("more")
    assert len(threads) >= 7
    assert threading.current_thread() not in threads
