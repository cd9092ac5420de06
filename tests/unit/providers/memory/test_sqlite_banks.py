"""Banks in the file: registered once, kept by definition, listed by every process, gone once unregistered."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.memory_models import MAX_TOKENS, WordModels
from tests.unit.providers.memory.conftest import BANKS, Open, bank, documents
from workbench.errors import (
    ClosedError,
    ConfigError,
    InvalidRequestError,
    MemoryBankNotFoundError,
    ModelNotFoundError,
    StateError,
)
from workbench.paths import state_dir
from workbench.protocol import Provider
from workbench.providers.memory.sqlite import SqliteProvider


def test_reading_creates_no_file(provider: SqliteProvider, tmp_path: Path) -> None:
    assert provider.get_memory_bank("any") is None
    assert list(tmp_path.iterdir()) == []


async def test_banks_are_listed_in_order_and_outlive_their_process(open_provider: Open) -> None:
    first = open_provider()
    for kind in BANKS:
        await first.register_memory_bank(bank(kind))
        await first.insert_documents(kind, documents("a text"))
    first.close()
    models = WordModels()
    second = open_provider(models)
    assert await second.list_memory_banks() == [bank(kind) for kind in BANKS]
    for kind in BANKS:
        await second.register_memory_bank(bank(kind))
        assert second.get_memory_bank(kind) == bank(kind)
        assert await second.list_documents(kind) == ["d0"]
    assert not models.calls, "restoring a registration loads no model"


@pytest.mark.parametrize("kind", BANKS)
async def test_an_unregistered_bank_is_gone_with_its_documents(provider: SqliteProvider, kind: str) -> None:
    await provider.register_memory_bank(bank(kind, "other"))
    await provider.register_memory_bank(bank(kind))
    for name in (kind, "other"):
        await provider.insert_documents(name, documents("one", "two"))
    await provider.unregister_memory_bank(kind)
    for call in (
        provider.unregister_memory_bank(kind),
        provider.insert_documents(kind, []),
        provider.query_documents(kind, "one"),
        provider.list_documents(kind),
        provider.delete_documents(kind, ["d0"]),
    ):
        with pytest.raises(MemoryBankNotFoundError, match="served memory banks: other"):
            await call
    await provider.register_memory_bank(bank(kind))
    assert await provider.list_documents(kind) == []
    assert await provider.list_documents("other") == ["d0", "d1"]


async def test_another_bank_of_the_same_name_is_refused(provider: SqliteProvider) -> None:
    await provider.register_memory_bank(bank("vector", "x"))
    for other in (bank("keyword", "x"), bank("vector", "x", chunk_size_in_tokens=9)):
        with pytest.raises(InvalidRequestError, match="in use for another bank") as caught:
            await provider.register_memory_bank(other)
        assert caught.value.field == "identifier"


@pytest.mark.parametrize(
    "field,fields,words",
    [
        ("chunk_size_in_tokens", {"chunk_size_in_tokens": MAX_TOKENS + 1}, f"at most {MAX_TOKENS}"),
        ("chunk_size_in_tokens", {"chunk_size_in_tokens": 0}, "1 or above"),
        ("chunk_size_in_tokens", {"chunk_size_in_tokens": -5}, "1 or above"),
        ("overlap_size_in_tokens", {"overlap_size_in_tokens": 8}, "less than chunk_size_in_tokens, 8"),
        ("overlap_size_in_tokens", {"overlap_size_in_tokens": 100}, "less than"),
        ("overlap_size_in_tokens", {"overlap_size_in_tokens": -1}, "0 or above"),
        ("embedding_model", {"embedding_model": "chat"}, "a sentence model"),
    ],
)
async def test_bad_definitions_are_refused_by_the_field(
    provider: SqliteProvider, field: str, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidRequestError, match=words) as caught:
        await provider.register_memory_bank(bank("vector", **fields))
    assert caught.value.field == f"memory_bank.{field}"
    assert await provider.list_memory_banks() == []


async def test_an_embedding_model_that_is_not_served_is_named_with_those_that_are(provider: SqliteProvider) -> None:
    with pytest.raises(ModelNotFoundError, match="chat, words"):
        await provider.register_memory_bank(bank("vector", embedding_model="missing"))


async def test_chunks_of_a_banks_own_size_and_a_quarter_of_overlap(provider: SqliteProvider) -> None:
    await provider.register_memory_bank(bank("vector", overlap_size_in_tokens=None))
    await provider.insert_documents("vector", documents(" ".join(map(str, range(20)))))
    found = await provider.query_documents("vector", "7", {"max_chunks": 9})
    words = sorted([list(map(int, str(chunk.content).split())) for chunk in found.chunks])
    assert words == [list(range(8)), list(range(6, 14)), list(range(12, 20))]
    assert {chunk.token_count for chunk in found.chunks} == {8}


async def test_a_model_with_vectors_of_another_length_is_refused(open_provider: Open) -> None:
    first = open_provider()
    await first.register_memory_bank(bank("vector"))
    await first.insert_documents("vector", documents("a text"))
    second = open_provider(WordModels(dimensions=5))
    for call in (second.insert_documents("vector", documents("more")), second.query_documents("vector", "text")):
        with pytest.raises(InvalidRequestError, match="vectors of 32 numbers") as caught:
            await call
        assert caught.value.field == "bank_id"
    assert await first.list_documents("vector") == ["d0"]


def test_the_file_is_under_the_folder_of_saved_state_by_default(own_state: Path) -> None:
    spec = Provider(provider_id="my notes:1", provider_type="inline::sqlite", config={})
    provider = SqliteProvider(spec, WordModels())  # type: ignore[arg-type]
    assert state_dir() == own_state
    assert provider._store.database.path == own_state / "memory-my notes%3A1.sqlite3"


@pytest.mark.parametrize(
    "config",
    [
        {"path": ""},
        {"document_root": "/missing"},
        {"document_hosts": ["http://x"]},
        {"document_networks": ["x"]},
        {"max_document_bytes": 0},
        {"max_insert_bytes": 0},
        {"cache_mb": -1},
        {"unknown": 1},
    ],
)
def test_a_bad_config_is_refused_by_its_key(open_provider: Open, config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(config))):
        open_provider(**config)


@pytest.mark.parametrize("content", [b"no database at all, but text" * 200, b"\0" * 5000])
async def test_a_damaged_file_is_a_state_error_and_is_left_as_it_is(
    open_provider: Open, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "banks.sqlite3"
    path.write_bytes(content)
    provider = open_provider()
    with pytest.raises(StateError, match=r"banks\.sqlite3"):
        await provider.list_memory_banks()
    with pytest.raises(StateError):
        await provider.register_memory_bank(bank("keyword"))
    assert (await provider.health()).status != "OK"
    assert path.read_bytes() == content


@pytest.mark.parametrize("change", ["CREATE TABLE other (x)", "PRAGMA user_version = 99"])
async def test_a_file_of_something_else_or_of_a_newer_workbench_is_left_alone(
    open_provider: Open, tmp_path: Path, change: str
) -> None:
    provider = open_provider()
    if "99" in change:
        await provider.register_memory_bank(bank("keyword"))
    with closing(sqlite3.connect(tmp_path / "banks.sqlite3")) as connection:
        connection.execute(change)
        connection.commit()
    with pytest.raises(StateError, match=r"no file of memory banks|newer workbench"):
        await provider.register_memory_bank(bank("graph"))


async def test_a_folder_that_cannot_be_made_is_a_state_error(open_provider: Open, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    provider = open_provider(path=str(tmp_path / "file" / "banks.sqlite3"))
    with pytest.raises(StateError):
        await provider.register_memory_bank(bank("keyword"))


async def test_a_closed_provider_says_so(provider: SqliteProvider) -> None:
    await provider.register_memory_bank(bank("keyword"))
    assert (await provider.health()).status == "OK"
    provider.close()
    provider.close()
    with pytest.raises(ClosedError):
        await provider.query_documents("keyword", "text")
    assert "closed" in (await provider.health()).status
