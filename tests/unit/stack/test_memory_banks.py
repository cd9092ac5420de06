"""A memory bank is found by its names, and is registered, restored and unregistered like a model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.resources import DictionaryMemory, config_of, memory, serve_fakes
from workbench.errors import InvalidRequestError, MemoryBankNotFoundError, UnsupportedFieldError
from workbench.protocol import (
    URL,
    GraphMemoryBankDef,
    KeyValueMemoryBankDef,
    KeywordMemoryBankDef,
    Memory,
    MemoryBankDef,
    MemoryBankDocument,
    MemoryBanks,
    MemoryBankUnregistration,
    VectorMemoryBankDef,
)
from workbench.stack import Stack


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    serve_fakes(monkeypatch)
    return config_of(memory=[memory("one", "same", "own"), memory("two", "same")])


@pytest.fixture
async def stack(config: dict[str, Any]) -> AsyncIterator[Stack]:
    stack = Stack(config)
    await stack.open()
    yield stack
    stack.close()


def keyword(identifier: str, provider_id: str = "two") -> MemoryBankDef:
    return KeywordMemoryBankDef(identifier=identifier, provider_id=provider_id)


def vector(identifier: str, provider_id: str = "two", **changes: Any) -> MemoryBankDef:
    fields: Any = {"embedding_model": "echo-embedding", "chunk_size_in_tokens": 16} | changes
    return VectorMemoryBankDef(identifier=identifier, provider_id=provider_id, **fields)


def document(name: str, text: str = "a text", **metadata: Any) -> MemoryBankDocument:
    return MemoryBankDocument(document_id=name, content=text, metadata=metadata)


async def names(stack: Stack) -> list[str]:
    return [f"{one.provider_id}/{one.identifier}" for one in await stack.memory_banks.list_memory_banks()]


def provider(stack: Stack, provider_id: str) -> DictionaryMemory:
    found = stack.memory_providers[provider_id]
    assert isinstance(found, DictionaryMemory)
    return found


async def test_it_satisfies_the_protocols(stack: Stack) -> None:
    assert isinstance(stack.memory, Memory)
    assert isinstance(stack.memory_banks, MemoryBanks)
    assert isinstance(stack.memory_banks, MemoryBankUnregistration)


async def test_the_plain_name_is_the_first_provider_s_and_the_full_one_either_s(stack: Stack) -> None:
    assert await names(stack) == ["one/same", "one/own", "two/same"]
    await stack.memory.insert_documents("same", [document("first")])
    await stack.memory.insert_documents("two/same", [document("second", note=7)], ttl_seconds=60)
    assert await stack.memory.list_documents("one/same") == ["first"]
    assert await stack.memory.list_documents("two/same") == ["second"]
    assert provider(stack, "two").calls == [(1, 60)]
    found = await stack.memory.query_documents("two/same", "text")
    assert [(chunk.document_id, chunk.metadata) for chunk in found.chunks] == [("second", {"note": 7})]
    assert stack.memory.get_memory_bank("two/same") == keyword("same")
    await stack.memory.delete_documents("two/same", ["second"])
    assert (await stack.memory.query_documents("two/same", ["a", " text"])).chunks == []


async def test_an_unknown_name_is_not_found_and_the_served_ones_are_listed(stack: Stack) -> None:
    said = r"no memory bank 'no' is served; served memory banks: own, same, two/same\."
    calls = [
        stack.memory.insert_documents("no", [document("x")]),
        stack.memory.query_documents("no", "x"),
        stack.memory.list_documents("no"),
        stack.memory.delete_documents("no", ["x"]),
        stack.memory_banks.unregister_memory_bank("no"),
    ]
    for call in calls:
        with pytest.raises(MemoryBankNotFoundError, match=said):
            await call
    assert await stack.memory_banks.get_memory_bank("no") is None
    assert stack.memory.get_memory_bank("no") is None


@pytest.mark.parametrize(
    "field,call",
    [
        ("bank_id", {"bank_id": None}),
        ("documents", {"documents": document("x")}),
        (r"documents\[1\]", {"documents": [document("x"), {"document_id": "y", "content": "z"}]}),
        (r"documents\[0\]", {"documents": ["a text"]}),
        ("ttl_seconds", {"ttl_seconds": 0}),
        ("ttl_seconds", {"ttl_seconds": -1}),
        ("ttl_seconds", {"ttl_seconds": 1.5}),
        ("ttl_seconds", {"ttl_seconds": True}),
    ],
)
async def test_an_insertion_with_a_wrong_field_names_it_and_inserts_nothing(
    stack: Stack, field: str, call: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^{field} must be "):
        await stack.memory.insert_documents(**{"bank_id": "own", "documents": [document("x")], **call})
    assert await stack.memory.list_documents("own") == []


@pytest.mark.parametrize(
    "field,call",
    [
        ("bank_id", {"bank_id": 7}),
        ("query", {"query": None}),
        ("query", {"query": ["a", 7]}),
        ("params", {"params": "max_chunks"}),
        ("params", {"params": [("max_chunks", 1)]}),
        ("params.surprise", {"params": {"surprise": 1}}),
    ],
)
async def test_a_query_with_a_wrong_field_names_it(stack: Stack, field: str, call: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^{field} must be "):
        await stack.memory.query_documents(**{"bank_id": "own", "query": "x", **call})


@pytest.mark.parametrize("ids", ["x", [7], None])
async def test_only_a_list_of_document_ids_can_be_deleted(stack: Stack, ids: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^document_ids"):
        await stack.memory.delete_documents("own", ids)


async def test_a_registration_outlives_the_stack_and_an_unregistered_one_does_not(config: dict[str, Any]) -> None:
    banks: list[MemoryBankDef] = [
        vector("v", overlap_size_in_tokens=0),
        keyword("w"),
        KeyValueMemoryBankDef(identifier="k", provider_id="two"),
        GraphMemoryBankDef(identifier="g", provider_id="two"),
    ]
    first = Stack(config)
    await first.open()
    for bank in [*banks, keyword("gone")]:
        await first.memory_banks.register_memory_bank(bank)
    await first.memory_banks.unregister_memory_bank("gone")
    first.close()
    again = Stack(config)
    await again.open()
    assert (await again.memory_banks.list_memory_banks())[3:] == banks
    assert list(provider(again, "two").banks.values())[1:] == banks
    again.close()


async def test_a_bank_without_a_provider_is_stored_by_the_first_one(stack: Stack) -> None:
    bank = KeywordMemoryBankDef(identifier="new")
    await stack.memory_banks.register_memory_bank(bank)
    assert await stack.memory_banks.get_memory_bank("new") == keyword("new", "one")
    assert bank.provider_id == "", "the caller's definition is not changed"


async def test_registering_the_same_again_keeps_the_documents(stack: Stack) -> None:
    await stack.memory_banks.register_memory_bank(vector("new"))
    await stack.memory.insert_documents("new", [document("x")])
    await stack.memory_banks.register_memory_bank(vector("new"))
    assert await stack.memory.list_documents("new") == ["x"]


@pytest.mark.parametrize(
    "changed",
    [
        keyword("new"),
        vector("new", embedding_model="other"),
        vector("new", chunk_size_in_tokens=17),
        vector("new", overlap_size_in_tokens=0),
    ],
)
async def test_a_name_cannot_mean_another_kind_of_bank_while_it_is_in_use(stack: Stack, changed: Any) -> None:
    await stack.memory_banks.register_memory_bank(vector("new"))
    with pytest.raises(
        InvalidRequestError,
        match=r"^identifier must be a name that two does not already use for a vector bank with echo-embedding",
    ):
        await stack.memory_banks.register_memory_bank(changed)
    assert await stack.memory_banks.get_memory_bank("new") == vector("new")


@pytest.mark.parametrize(
    "field,definition",
    [
        ("memory_bank", {"identifier": "x", "type": "keyword"}),
        ("identifier", keyword("")),
        ("identifier", keyword(" x")),
        ("provider_id", keyword("x", "three")),
    ],
)
async def test_a_definition_that_cannot_be_served_names_the_field_and_changes_nothing(
    stack: Stack, field: str, definition: Any
) -> None:
    before = await names(stack)
    with pytest.raises(InvalidRequestError, match=rf"^{field} must be "):
        await stack.memory_banks.register_memory_bank(definition)
    assert await names(stack) == before


async def test_a_type_that_the_provider_does_not_store_is_refused(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DictionaryMemory, "capabilities", DictionaryMemory.__mro__[1].capabilities)  # type: ignore[attr-defined]
    with pytest.raises(UnsupportedFieldError, match=r"^memory_bank.type must be vector: .* stores no others"):
        await stack.memory_banks.register_memory_bank(keyword("x"))


async def test_the_error_for_an_unusable_document_is_the_provider_s(stack: Stack) -> None:
    page = MemoryBankDocument(document_id="page", content=URL(uri="https://example.org"))
    with pytest.raises(InvalidRequestError, match=r"documents\[1\].content"):
        await stack.memory.insert_documents("own", [document("x"), page])
    assert await stack.memory.list_documents("own") == []


async def test_a_stack_without_memory_providers_stores_none_and_says_so() -> None:
    stack = Stack(config_of())
    await stack.open()
    assert await stack.memory_banks.list_memory_banks() == []
    with pytest.raises(MemoryBankNotFoundError, match="served memory banks: none"):
        await stack.memory.query_documents("own", "x")
    for bank in (keyword("x"), KeywordMemoryBankDef(identifier="x")):
        with pytest.raises(InvalidRequestError, match="one of the configured memory providers: none; got"):
            await stack.memory_banks.register_memory_bank(bank)
    stack.close()
