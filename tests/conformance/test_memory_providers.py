"""What every memory provider type keeps to: the laws of banks for what it declares, a refusal by name for all else.

A new provider type adds its entry to `CANDIDATES`; the tests do the rest.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from tests.fakes.memory_models import MAX_TOKENS, WordModels
from workbench.errors import (
    ClosedError,
    ConfigError,
    InvalidRequestError,
    MemoryBankNotFoundError,
    ModelNotFoundError,
    UnsupportedContentError,
    UnsupportedFieldError,
)
from workbench.protocol import (
    URL,
    ImageMedia,
    Memory,
    MemoryBankDef,
    MemoryBankDocument,
    MemoryBanksProtocolPrivate,
    MemoryBankType,
    Provider,
    memory_bank,
)
from workbench.providers import MEMORY_PROVIDER_TYPES, class_of, create_memory
from workbench.providers.memory.interface import MemoryCapabilities, MemoryProvider
from workbench.providers.model_access import ModelAccess
from workbench.stack.memory_banks import MemoryBankRegistry, MemoryRouter

CANDIDATES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "inline::sqlite": lambda folder: {"path": str(folder / "banks.sqlite3")},
    "remote::qdrant": lambda folder: {"path": str(folder / "qdrant")},
}
"""By provider type, the config of one that stores its banks in a folder of the test."""

FOREIGN_PARAMS: dict[MemoryBankType, dict[str, Any]] = {
    MemoryBankType.vector: {"hops": 1},
    MemoryBankType.keyword: {"mode": "vector"},
    MemoryBankType.keyvalue: {"hops": 1},
    MemoryBankType.graph: {"prefix": True},
}
"""Parameters that other types of banks take."""

TEXTS = ("the loom weaves", "the engine computes", "the loom rests")


class HeldModels(WordModels):
    """Models that embed nothing before they are released."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.released = asyncio.Event(), asyncio.Event()

    async def embed(self, model: str, contents: list[Any]) -> Any:
        self.reached.set()
        await self.released.wait()
        return await super().embed(model, contents)


@dataclass(frozen=True)
class Served:
    """A provider behind the registry and the router of a stack, with models that need no weights."""

    provider: MemoryProvider
    banks: MemoryBankRegistry
    memory: MemoryRouter

    @property
    def can(self) -> MemoryCapabilities:
        return self.provider.capabilities

    async def with_bank(self, kind: str, identifier: str = "", **fields: Any) -> str:
        """Register a bank and return its name."""
        definition = bank(kind, identifier, **fields)
        await self.banks.register_memory_bank(definition)
        return definition.identifier

    async def found(self, name: str, query: str, **params: Any) -> list[str]:
        response = await self.memory.query_documents(name, query, params)
        assert len(response.chunks) == len(response.scores)
        assert response.scores == sorted(response.scores, reverse=True)
        assert all(score > 0 for score in response.scores)
        return [chunk.document_id for chunk in response.chunks]


def bank(kind: str, identifier: str = "", **fields: Any) -> MemoryBankDef:
    if kind == "vector":
        fields = {"embedding_model": "words", "chunk_size_in_tokens": 8, "overlap_size_in_tokens": 0} | fields
    return memory_bank({"type": kind, "identifier": identifier or kind, "provider_id": "one", **fields})


def document(document_id: str, content: Any, **metadata: Any) -> MemoryBankDocument:
    return MemoryBankDocument(document_id=document_id, content=content, metadata=metadata)


def documents(*texts: str) -> list[MemoryBankDocument]:
    """Documents ``d0``, ``d1`` and so on."""
    return [document(f"d{index}", text) for index, text in enumerate(texts)]


def asking_for(kind: str, document_id: str, word: str) -> str:
    """The query that finds a document in a bank of any type."""
    return document_id if kind == "keyvalue" else word


Open = Callable[..., Served]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test for every provider type; one that asks for `kind` for every type of bank, or those it declares."""
    if "open_served" not in metafunc.fixturenames:
        return
    if "kind" not in metafunc.fixturenames:
        metafunc.parametrize("provider_type", sorted(CANDIDATES))
        return
    declared = {name: class_of("memory", name).capabilities.bank_types for name in CANDIDATES}
    asked = {name: declared[name] if "named" in metafunc.fixturenames else MemoryBankType for name in CANDIDATES}
    pairs = [(name, str(kind)) for name in sorted(asked) for kind in MemoryBankType if kind in asked[name]]
    metafunc.parametrize("provider_type, kind", pairs)


@pytest.fixture
async def open_served(provider_type: str, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a provider of the type; the next one sees what this one stored."""
    opened: list[MemoryProvider] = []

    def open_one(models: WordModels | None = None) -> Served:
        config = CANDIDATES[provider_type](tmp_path)
        described = Provider(provider_id="one", provider_type=provider_type, config=config)
        provider = create_memory(described, cast("ModelAccess", models or WordModels()))
        opened.append(provider)
        registry = MemoryBankRegistry({"one": provider})
        return Served(provider, registry, MemoryRouter(registry))

    yield open_one
    for provider in opened:
        provider.close()


@pytest.fixture
async def served(open_served: Open) -> Served:
    served = open_served()
    await served.banks.open()
    return served


@pytest.fixture
async def named(served: Served, kind: str) -> str:
    """An empty bank of a type that the provider stores."""
    return await served.with_bank(kind)


# ------------------------------------------------------------------------------------------------------ types, life


def test_every_memory_provider_type_of_ours_is_here() -> None:
    assert set(CANDIDATES) == set(MEMORY_PROVIDER_TYPES)
    assert all(issubclass(class_of("memory", name), MemoryProvider) for name in MEMORY_PROVIDER_TYPES)


async def test_it_satisfies_the_protocols(served: Served) -> None:
    assert isinstance(served.provider, Memory)
    assert isinstance(served.provider, MemoryBanksProtocolPrivate)
    assert served.can.bank_types
    assert "vector" in served.can.modes or MemoryBankType.vector not in served.can.bank_types


@pytest.mark.parametrize("provider_type", sorted(CANDIDATES))
def test_an_unknown_key_of_its_config_is_refused_by_name(provider_type: str, tmp_path: Path) -> None:
    config = CANDIDATES[provider_type](tmp_path) | {"colour": "blue"}
    with pytest.raises(ConfigError, match=r"'one'.*colour"):
        create_memory(
            Provider(provider_id="one", provider_type=provider_type, config=config), cast("ModelAccess", WordModels())
        )


async def test_it_is_healthy(served: Served) -> None:
    assert (await served.provider.health()).status == "OK"


async def test_a_closed_provider_answers_with_a_typed_error(served: Served) -> None:
    name = await served.with_bank("vector")
    served.provider.close()
    served.provider.close()
    for request in (
        served.memory.insert_documents(name, documents(*TEXTS)),
        served.memory.query_documents(name, "loom"),
        served.memory.list_documents(name),
        served.memory.delete_documents(name, []),
    ):
        with pytest.raises(ClosedError, match="one was closed"):
            await request


# ------------------------------------------------------------------------------------------------------------ banks


async def test_a_type_of_bank_is_stored_or_refused(served: Served, kind: str) -> None:
    if kind in served.can.bank_types:
        name = await served.with_bank(kind)
        assert await served.provider.list_memory_banks() == [bank(kind)]
        assert await served.banks.get_memory_bank(name) == await served.banks.get_memory_bank(f"one/{name}")
        return
    with pytest.raises(UnsupportedFieldError) as caught:
        await served.with_bank(kind)
    assert caught.value.field == "memory_bank.type"
    assert await served.provider.list_memory_banks() == []


async def test_banks_are_listed_in_order_and_come_back_the_same_to_the_next_provider(
    served: Served, open_served: Open
) -> None:
    definitions = [
        bank("vector", "zebra"),
        bank("vector", "über / naïve", overlap_size_in_tokens=None),
        bank("vector", "apple", chunk_size_in_tokens=4, overlap_size_in_tokens=1),
    ]
    for definition in definitions:
        await served.banks.register_memory_bank(definition)
    assert await served.banks.list_memory_banks() == definitions
    served.provider.close()
    again = open_served()
    assert await again.provider.list_memory_banks() == definitions
    assert [again.provider.get_memory_bank(one.identifier) for one in definitions] == definitions
    assert again.provider.get_memory_bank("other") is None


async def test_registering_the_same_bank_again_keeps_its_documents_and_another_one_is_refused(served: Served) -> None:
    name = await served.with_bank("vector")
    await served.memory.insert_documents(name, documents(*TEXTS))
    await served.with_bank("vector")
    assert await served.memory.list_documents(name) == ["d0", "d1", "d2"]
    with pytest.raises(InvalidRequestError) as caught:
        await served.provider.register_memory_bank(bank("vector", chunk_size_in_tokens=5))
    assert caught.value.field == "identifier"
    assert await served.provider.list_memory_banks() == [bank("vector")]


async def test_an_unregistered_bank_is_gone_with_its_documents(served: Served, named: str, kind: str) -> None:
    await served.memory.insert_documents(named, documents(*TEXTS))
    await served.banks.unregister_memory_bank(named)
    assert await served.banks.list_memory_banks() == await served.provider.list_memory_banks() == []
    with pytest.raises(MemoryBankNotFoundError):
        await served.provider.unregister_memory_bank(named)
    await served.with_bank(kind)
    assert await served.memory.list_documents(named) == []
    assert await served.found(named, asking_for(kind, "d0", "loom")) == []


@pytest.mark.parametrize(
    "field, value",
    [
        ("chunk_size_in_tokens", 0),
        ("chunk_size_in_tokens", MAX_TOKENS + 1),
        ("overlap_size_in_tokens", 8),
        ("overlap_size_in_tokens", -1),
        ("embedding_model", "chat"),
    ],
)
async def test_a_vector_bank_that_its_model_cannot_fill_is_refused_by_name(
    served: Served, field: str, value: Any
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await served.with_bank("vector", **{field: value})
    assert caught.value.field == f"memory_bank.{field}"
    with pytest.raises(ModelNotFoundError, match="words"):
        await served.with_bank("vector", embedding_model="nobody")
    assert await served.provider.list_memory_banks() == []


async def test_an_unknown_bank_is_an_error_that_lists_those_that_are_served(served: Served) -> None:
    await served.with_bank("vector", "notes")
    for side in (served.memory, served.provider):
        for request in (
            side.insert_documents("nobody", documents("x")),
            side.query_documents("nobody", "x"),
            side.list_documents("nobody"),
            side.delete_documents("nobody", ["d0"]),
        ):
            with pytest.raises(MemoryBankNotFoundError, match="notes"):
                await request
    with pytest.raises(MemoryBankNotFoundError):
        await served.banks.unregister_memory_bank("nobody")


# -------------------------------------------------------------------------------------------------------- documents


async def test_documents_are_listed_in_order_of_insertion_and_one_of_the_same_id_is_replaced(
    served: Served, named: str, kind: str
) -> None:
    await served.memory.insert_documents(named, [document("z", "moon"), document("a", "sun"), document("m", "star")])
    assert await served.memory.list_documents(named) == ["z", "a", "m"]
    await served.memory.insert_documents(named, [document("z", "comet"), document("b", "moth")])
    assert await served.memory.list_documents(named) == ["a", "m", "z", "b"]
    response = await served.memory.query_documents(named, asking_for(kind, "z", "comet"))
    assert (response.chunks[0].document_id, response.chunks[0].content) == ("z", "comet")
    everything = {query: await served.memory.query_documents(named, query) for query in ("moon", "z")}
    contents = [chunk.content for response in everything.values() for chunk in response.chunks]
    assert "moon" not in contents, "nothing of the replaced document remains"


async def test_the_last_of_two_documents_of_one_id_in_a_call_is_kept(served: Served, named: str, kind: str) -> None:
    await served.memory.insert_documents(named, [document("a", "moon"), document("b", "sun"), document("a", "comet")])
    assert sorted(await served.memory.list_documents(named)) == ["a", "b"]
    response = await served.memory.query_documents(named, asking_for(kind, "a", "comet"))
    assert response.chunks[0].content == "comet"
    assert "moon" not in [chunk.content for chunk in response.chunks]


async def test_deleted_documents_are_gone_and_deleting_is_all_or_nothing(served: Served, named: str, kind: str) -> None:
    await served.memory.insert_documents(named, documents(*TEXTS))
    with pytest.raises(InvalidRequestError) as caught:
        await served.memory.delete_documents(named, ["d0", "nobody"])
    assert caught.value.field == "document_ids[1]"
    assert await served.memory.list_documents(named) == ["d0", "d1", "d2"]
    await served.memory.delete_documents(named, ["d0", "d2"])
    assert await served.memory.list_documents(named) == ["d1"]
    assert "d0" not in await served.found(named, asking_for(kind, "d0", "loom"))
    await served.memory.delete_documents(named, [])
    assert await served.memory.list_documents(named) == ["d1"]


async def test_a_document_that_is_not_allowed_keeps_the_others_out_and_the_one_it_replaces_in(
    served: Served, named: str, kind: str
) -> None:
    await served.memory.insert_documents(named, [document("d0", "sun")])
    picture = ImageMedia(image=URL(uri="data:image/png;base64,iVBORw0KGgo="))
    for bad, path in (
        (document("bad", picture), "documents[1].content"),
        (document("", "text"), "documents[1].document_id"),
        (document("x" * 10_000, "text"), "documents[1].document_id"),
        (document("bad", URL(uri="file:///etc/passwd")), "documents[1].content"),
        (document("bad", "text", when=math.nan), "documents[1].metadata"),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            await served.memory.insert_documents(named, [document("d0", "moon"), bad])
        assert caught.value.field.startswith(path)
    assert await served.memory.list_documents(named) == ["d0"]
    response = await served.memory.query_documents(named, asking_for(kind, "d0", "sun"))
    assert [chunk.content for chunk in response.chunks] == ["sun"]


async def test_no_documents_are_no_error_and_the_bank_stays_empty(served: Served, named: str, kind: str) -> None:
    await served.memory.insert_documents(named, [])
    assert await served.memory.list_documents(named) == []
    response = await served.memory.query_documents(named, asking_for(kind, "d0", "loom"))
    assert (response.chunks, response.scores) == ([], [])


async def test_what_was_inserted_is_there_for_the_next_provider(
    served: Served, named: str, kind: str, open_served: Open
) -> None:
    await served.memory.insert_documents(named, [document("d0", "the loom", year=1801, tags=["silk", None], deep={})])
    served.provider.close()
    again = open_served()
    await again.banks.open()
    response = await again.memory.query_documents(named, asking_for(kind, "d0", "loom"))
    [chunk] = response.chunks
    assert (chunk.document_id, chunk.content) == ("d0", "the loom")
    assert chunk.metadata == {"year": 1801, "tags": ["silk", None], "deep": {}}


async def test_foreign_syntax_in_ids_texts_and_queries_is_only_text(served: Served, named: str, kind: str) -> None:
    odd = '\'; DROP TABLE chunks; -- " OR 1=1 {"$ne": null} NEAR(a b) naïve 한국어 \U0001f600'
    await served.memory.insert_documents(named, [document(odd, odd, **{odd: odd}), document("other", "quiet")])
    assert await served.memory.list_documents(named) == [odd, "other"]
    assert odd in await served.found(named, odd)
    if served.can.filter:
        assert set(await served.found(named, odd, filter={odd: odd})) == {odd}
    await served.memory.delete_documents(named, [odd])
    assert await served.memory.list_documents(named) == ["other"]


async def test_progress_ends_with_every_chunk(served: Served, named: str) -> None:
    seen: list[tuple[int, int]] = []
    await served.memory.insert_documents(named, documents(*TEXTS), progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (3, 3)
    assert seen == sorted(seen)


# ---------------------------------------------------------------------------------------------------------- queries


async def test_the_chunks_of_a_document_are_its_text_and_as_long_as_the_bank_allows(served: Served) -> None:
    name = await served.with_bank("vector", chunk_size_in_tokens=4, overlap_size_in_tokens=0)
    words = [f"word{index}" for index in range(10)]
    await served.memory.insert_documents(name, [document("long", " ".join(words))])
    response = await served.memory.query_documents(name, "word5")
    assert sorted(chunk.token_count for chunk in response.chunks) == [2, 4, 4]
    assert sorted(word for chunk in response.chunks for word in str(chunk.content).split()) == words
    assert "word5" in str(response.chunks[0].content)


async def test_the_best_come_first_and_no_more_than_were_asked_for(served: Served) -> None:
    name = await served.with_bank("vector")
    await served.memory.insert_documents(name, documents(*TEXTS))
    whole = await served.memory.query_documents(name, "the engine computes")
    assert whole.chunks[0].document_id == "d1"
    assert whole.scores[0] == pytest.approx(1, abs=1e-5), "(1 + cosine) / 2 of the same text"
    for count in (1, 2):
        limited = await served.memory.query_documents(name, "the engine computes", {"max_chunks": count})
        assert limited.chunks == whole.chunks[:count]
    threshold = whole.scores[1]
    above = await served.memory.query_documents(name, "the engine computes", {"score_threshold": threshold - 1e-6})
    assert len(above.chunks) == sum(score >= threshold - 1e-6 for score in whole.scores) == 2


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
async def test_a_mode_finds_or_is_refused_by_name(served: Served, mode: str) -> None:
    name = await served.with_bank("vector")
    await served.memory.insert_documents(name, documents(*TEXTS))
    if mode in served.can.modes:
        assert (await served.found(name, "engine", mode=mode))[0] == "d1"
        return
    with pytest.raises(UnsupportedFieldError) as caught:
        await served.memory.query_documents(name, "engine", {"mode": mode})
    assert caught.value.field == "params.mode"


async def test_a_filter_is_honoured_or_refused_by_name(served: Served, named: str, kind: str) -> None:
    queried = "d" if kind == "keyvalue" else "loom"
    more: dict[str, Any] = {"prefix": True} if kind == "keyvalue" else {}
    given = [
        document("d0", "loom", colour="red", size=1, tags=["a", "b"]),
        document("d1", "loom", colour="blue", size=True),
        document("d2", "loom", colour=None, tags=["b"]),
        document("d3", "loom", **{"wide name.x": 1.5}),
    ]
    await served.memory.insert_documents(named, given)
    if not served.can.filter:
        with pytest.raises(UnsupportedFieldError) as caught:
            await served.memory.query_documents(named, queried, {"filter": {"colour": "red"}})
        assert caught.value.field == "params.filter"
        return
    for condition, expected in (
        ({}, ["d0", "d1", "d2", "d3"]),
        ({"colour": "red"}, ["d0"]),
        ({"colour": ["red", "blue"]}, ["d0", "d1"]),
        ({"colour": None}, ["d2", "d3"]),
        ({"colour": [None, "red"]}, ["d0", "d2", "d3"]),
        ({"size": 1}, ["d0"]),
        ({"size": True}, ["d1"]),
        ({"tags": "b"}, ["d0", "d2"]),
        ({"tags": "b", "colour": "red"}, ["d0"]),
        ({"wide name.x": 1.5}, ["d3"]),
        ({"colour": "green"}, []),
    ):
        assert sorted(await served.found(named, queried, filter=condition, **more)) == expected, condition
    best = await served.found(named, queried, filter={"colour": None}, max_chunks=1, **more)
    assert len(best) == 1, "what is filtered out does not take the place of what is found"


@pytest.mark.parametrize(
    "name, value",
    [("colour", "blue"), ("max_chunks", 0), ("max_chunks", "5"), ("score_threshold", "high"), ("filter", ["red"])],
)
async def test_a_parameter_that_is_not_allowed_is_refused_by_name(
    served: Served, named: str, name: str, value: object
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await served.memory.query_documents(named, "loom", {name: value})
    assert caught.value.field == f"params.{name}"


async def test_a_parameter_of_another_type_of_bank_is_refused_by_name(served: Served, named: str, kind: str) -> None:
    foreign = FOREIGN_PARAMS[MemoryBankType(kind)]
    with pytest.raises(InvalidRequestError) as caught:
        await served.memory.query_documents(named, "loom", foreign)
    assert caught.value.field == f"params.{next(iter(foreign))}"


async def test_a_blank_query_and_an_image_are_refused(served: Served, named: str) -> None:
    for query in ("", " \n"):
        with pytest.raises(InvalidRequestError, match="query"):
            await served.memory.query_documents(named, query)
    with pytest.raises(UnsupportedContentError, match="query"):
        await served.memory.query_documents(named, ImageMedia(image=URL(uri="data:image/png;base64,iVBORw0KGgo=")))


async def test_a_query_of_several_texts_is_one_query(served: Served) -> None:
    name = await served.with_bank("vector")
    await served.memory.insert_documents(name, documents(*TEXTS))
    assert await served.memory.query_documents(name, ["engine", "computes"]) == await served.memory.query_documents(
        name, "engine\ncomputes"
    )


# ------------------------------------------------------------------------------------------------------ time, tasks


async def test_expired_documents_are_not_found_or_a_time_to_live_is_refused(
    served: Served, named: str, kind: str
) -> None:
    if not served.can.ttl:
        with pytest.raises(UnsupportedFieldError) as caught:
            await served.memory.insert_documents(named, documents("loom"), ttl_seconds=60)
        assert caught.value.field == "ttl_seconds"
        return
    now = 1_000_000.0
    served.provider.clock = lambda: now
    await served.memory.insert_documents(named, [document("kept", "loom")])
    await served.memory.insert_documents(named, [document("brief", "loom")], ttl_seconds=60)
    assert await served.memory.list_documents(named) == ["kept", "brief"]
    assert "brief" in await served.found(named, asking_for(kind, "brief", "loom"))
    now += 61
    assert await served.memory.list_documents(named) == ["kept"]
    assert "brief" not in await served.found(named, asking_for(kind, "brief", "loom"))
    with pytest.raises(InvalidRequestError):
        await served.memory.delete_documents(named, ["brief"])
    await served.memory.insert_documents(named, [document("brief", "loom")])
    now += 1_000
    assert sorted(await served.memory.list_documents(named)) == ["brief", "kept"]


@pytest.mark.parametrize("ttl", [0, -1, True, 1.5, "60", 10**12])
async def test_a_time_to_live_that_is_not_allowed_is_refused(served: Served, named: str, ttl: Any) -> None:
    with pytest.raises(InvalidRequestError, match="ttl_seconds"):
        await served.provider.insert_documents(named, documents("loom"), ttl_seconds=ttl)
    assert await served.memory.list_documents(named) == []


async def test_a_cancelled_insertion_leaves_nothing(open_served: Open) -> None:
    models = HeldModels()
    served = open_served(models)
    name = await served.with_bank("vector")
    task = asyncio.create_task(served.memory.insert_documents(name, documents(*TEXTS)))
    await models.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    models.released.set()
    assert await served.memory.list_documents(name) == []
    await served.memory.insert_documents(name, documents("loom"))
    assert await served.memory.list_documents(name) == ["d0"]


async def test_a_bank_that_goes_while_documents_are_prepared_gets_none(open_served: Open) -> None:
    models = HeldModels()
    served = open_served(models)
    name = await served.with_bank("vector")
    task = asyncio.create_task(served.memory.insert_documents(name, documents(*TEXTS)))
    await models.reached.wait()
    await served.banks.unregister_memory_bank(name)
    await served.with_bank("vector")
    models.released.set()
    with pytest.raises(MemoryBankNotFoundError):
        await task
    assert await served.memory.list_documents(name) == []


async def test_insertions_and_queries_at_once_are_what_they_are_alone(served: Served, named: str, kind: str) -> None:
    given = [document(f"d{index}", f"loom word{index}") for index in range(12)]
    await asyncio.gather(
        *(served.memory.insert_documents(named, [one]) for one in given),
        *(served.memory.query_documents(named, asking_for(kind, "d0", "loom")) for _ in range(12)),
    )
    assert sorted(await served.memory.list_documents(named)) == sorted(one.document_id for one in given)
    asked = [asking_for(kind, f"d{index}", f"word{index}") for index in range(12)]
    together = await asyncio.gather(*(served.memory.query_documents(named, query) for query in asked))
    assert together == [await served.memory.query_documents(named, query) for query in asked]
    assert [response.chunks[0].document_id for response in together] == [one.document_id for one in given]


async def test_banks_come_and_go_while_others_are_filled(served: Served) -> None:
    async def life(name: str) -> list[str]:
        await served.with_bank("vector", name)
        await served.memory.insert_documents(name, documents(*TEXTS))
        found = await served.found(name, "the engine computes")
        await served.banks.unregister_memory_bank(name)
        return found

    lives = await asyncio.gather(*(life(f"bank{index}") for index in range(8)))
    assert [found[0] for found in lives] == ["d1"] * 8
    assert await served.provider.list_memory_banks() == []


async def test_requests_come_from_any_event_loop(served: Served, named: str, kind: str) -> None:
    await served.memory.insert_documents(named, documents(*TEXTS))

    async def asked() -> tuple[list[str], list[str]]:
        await served.memory.insert_documents(named, [document("elsewhere", "loom")])
        return await served.memory.list_documents(named), await served.found(named, asking_for(kind, "d0", "loom"))

    listed, found = await asyncio.to_thread(asyncio.run, asked())
    assert listed == ["d0", "d1", "d2", "elsewhere"] == await served.memory.list_documents(named)
    assert found == await served.found(named, asking_for(kind, "d0", "loom"))
