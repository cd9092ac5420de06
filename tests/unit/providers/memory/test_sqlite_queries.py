"""Queries of each type of bank, against plain computations of the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import budget
from tests.fakes.memory_models import vector_of
from tests.unit.providers.memory.conftest import BANKS, Open, bank, documents
from workbench.errors import InvalidRequestError, UnsupportedContentError
from workbench.protocol import URL, ImageMedia, MemoryBankDocument, QueryDocumentsResponse
from workbench.providers.memory.sqlite import SqliteProvider
from workbench.providers.memory.sqlite import vectors as vectors_module
from workbench.providers.memory.sqlite.index import VectorIndex
from workbench.providers.memory.sqlite.searching import match_expression
from workbench.providers.memory.sqlite.vectors import BankVectors, unit

WORDS = ["ada", "babbage", "engine", "loom", "number", "sum"]
LINES = [f"{one} {other}" for one in WORDS for other in WORDS if one < other]


async def filled(provider: SqliteProvider, kind: str, *texts: str, **metadata: Any) -> SqliteProvider:
    await provider.register_memory_bank(bank(kind))
    await provider.insert_documents(kind, documents(*texts, **metadata))
    return provider


def found_ids(response: QueryDocumentsResponse) -> list[str]:
    return [chunk.document_id for chunk in response.chunks]


def cosine(one: Any, other: Any) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


# ------------------------------------------------------------------------------------------------------------ vector


@pytest.mark.parametrize("query", ["ada engine", "engine ada", "loom", "sum number ada"])
async def test_a_vector_bank_finds_by_exact_cosine(provider: SqliteProvider, query: str) -> None:
    await filled(provider, "vector", *LINES)
    found = await provider.query_documents("vector", query, {"max_chunks": 4})
    vectors = {line: vector_of(line).astype(float) for line in LINES}
    expected = sorted(((1 + cosine(vectors[line], vector_of(query).astype(float))) / 2, line) for line in LINES)[::-1]
    assert found.scores == pytest.approx([score for score, _ in expected[:4]], abs=1e-6)
    assert [chunk.content for chunk in found.chunks] == [line for _, line in expected[:4]]
    if query in LINES:
        assert found.scores[0] == pytest.approx(1, abs=1e-6), "an exact hit divides by nothing"


@settings(max_examples=budget(100))
@given(
    rows=st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), max_size=30),
    query=st.lists(st.integers(-2, 2), min_size=3, max_size=3),
    count=st.integers(1, 12),
    mask=st.none() | st.integers(0, 2**30 - 1),
)
def test_the_nearest_are_those_of_a_plain_loop_also_among_equals(
    rows: list[list[int]], query: list[int], count: int, mask: int | None
) -> None:
    matrix = unit(np.array(rows, dtype=np.float32).reshape(-1, 3))
    numbers = np.arange(len(rows), dtype=np.int64) + 7
    allowed = None if mask is None else np.array([bool(mask >> row & 1) for row in range(len(rows))], dtype=bool)
    hits = BankVectors(0, numbers, numbers, matrix).nearest(np.array(query, dtype=np.float32), count, allowed)

    def score(row: int) -> float:
        lengths = math.hypot(*rows[row]) * math.hypot(*query)
        return 0.5 if not lengths else (1 + sum(a * b for a, b in zip(rows[row], query, strict=True)) / lengths) / 2

    exact = {row + 7: score(row) for row in range(len(rows)) if allowed is None or allowed[row]}
    best = sorted(exact.values(), reverse=True)[:count]
    assert [exact[chunk] for chunk, _ in hits] == pytest.approx(best, abs=1e-6)
    assert [score for _, score in hits] == pytest.approx(best, abs=1e-6)
    assert len({chunk for chunk, _ in hits}) == len(hits)


@settings(max_examples=budget(20))
@given(seed=st.integers(0, 10**6), size=st.integers(1, 256), count=st.integers(1, 20), data=st.data())
def test_an_index_finds_in_a_small_bank_what_exact_search_finds(
    seed: int, size: int, count: int, data: st.DataObject
) -> None:
    """Also after chunks were deleted and added."""
    draw = np.random.default_rng(seed)
    numbers = np.arange(size, dtype=np.int64) * 3 + 5
    matrix = unit(draw.integers(-3, 4, (size, 4)).astype(np.float32))
    index = VectorIndex(numbers, matrix)
    kept = np.array([data.draw(st.booleans()) if row % 7 == 0 else True for row in range(size)])
    added = data.draw(st.integers(0, 5))
    chunks = np.concatenate([numbers[kept], numbers[-1] + 1 + np.arange(added)])
    vectors = np.concatenate([matrix[kept], unit(draw.integers(-3, 4, (added, 4)).astype(np.float32))])
    query = draw.integers(-3, 4, 4).astype(np.float32)
    exact = BankVectors(0, chunks, chunks, vectors).nearest(query, count)
    indexed = BankVectors(0, chunks, chunks, vectors, index).nearest(query, count)
    assert [score for _, score in indexed] == pytest.approx([score for _, score in exact], abs=1e-6)


async def test_a_bank_beyond_the_limit_is_indexed_and_follows_its_changes(open_provider: Open) -> None:
    provider, exact = open_provider(index_above=10), open_provider()
    await filled(provider, "vector", *LINES)
    for step in range(3):
        for query in ("ada engine", "loom", "new 0"):
            params = {"max_chunks": 30}
            found = await provider.query_documents("vector", query, params)
            assert found == await exact.query_documents("vector", query, params)
        (known,) = provider._cache._banks.values()
        assert known.index is not None
        new = [MemoryBankDocument(document_id=f"new{number}", content=f"new {number}") for number in range(step * 4)]
        await provider.insert_documents("vector", new)
        await provider.delete_documents("vector", [f"d{step}"])


async def test_without_faiss_a_large_bank_is_searched_exactly(
    open_provider: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_module, "is_installed", lambda: False)
    provider = open_provider(index_above=0)
    await filled(provider, "vector", "ada engine", "loom")
    assert found_ids(await provider.query_documents("vector", "loom")) == ["d1", "d0"]


async def test_hybrid_finds_what_either_finds_and_ranks_first_what_both_do(provider: SqliteProvider) -> None:
    await filled(provider, "vector", *LINES)
    modes = {
        mode: await provider.query_documents("vector", "ada engine", {"mode": mode, "max_chunks": 50})
        for mode in ("vector", "keyword", "hybrid")
    }
    assert set(found_ids(modes["hybrid"])) == set(found_ids(modes["vector"])) | set(found_ids(modes["keyword"]))
    ranks = [{name: rank for rank, name in enumerate(found_ids(modes[mode]), 1)} for mode in ("vector", "keyword")]
    for chunk, score in zip(modes["hybrid"].chunks, modes["hybrid"].scores, strict=True):
        fused = sum(21 / (20 + rank[chunk.document_id]) / 2 for rank in ranks if chunk.document_id in rank)
        assert score == pytest.approx(fused)
    assert modes["hybrid"].scores[0] == 1
    assert modes["hybrid"].chunks[0].content == "ada engine"


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
async def test_thresholds_counts_and_filters_are_honoured_in_every_mode(provider: SqliteProvider, mode: str) -> None:
    await provider.register_memory_bank(bank("vector"))
    for index, line in enumerate(LINES):
        one = MemoryBankDocument(document_id=line, content=line, metadata={"even": index % 2 == 0})
        await provider.insert_documents("vector", [one])
    everything = await provider.query_documents("vector", "ada", {"mode": mode, "max_chunks": 100})
    least = everything.scores[2]
    some = await provider.query_documents("vector", "ada", {"mode": mode, "max_chunks": 100, "score_threshold": least})
    assert some.scores == [score for score in everything.scores if score >= least]
    assert len((await provider.query_documents("vector", "ada", {"mode": mode})).chunks) == 5
    even = await provider.query_documents("vector", "ada", {"mode": mode, "max_chunks": 100, "filter": {"even": True}})
    names = [name for name in found_ids(everything) if LINES.index(name) % 2 == 0]
    assert found_ids(even) == names or (mode == "hybrid" and set(found_ids(even)) == set(names))
    assert all(chunk.metadata == {"even": True} for chunk in even.chunks)


async def test_a_query_that_the_model_would_not_read_to_its_end_is_refused_unless_words_are_searched(
    provider: SqliteProvider,
) -> None:
    await filled(provider, "vector", *LINES)
    long = " ".join(f"w{index}" for index in range(100)) + " ada"
    with pytest.raises(InvalidRequestError, match="at most 64 tokens of words") as caught:
        await provider.query_documents("vector", long)
    assert caught.value.field == "query"
    assert (await provider.query_documents("vector", long, {"mode": "keyword"})).chunks


async def test_changes_by_another_process_are_found(open_provider: Open) -> None:
    here, there = open_provider(), open_provider()
    await filled(here, "vector", "ada engine")
    assert found_ids(await here.query_documents("vector", "ada engine")) == ["d0"]
    await there.insert_documents("vector", [MemoryBankDocument(document_id="new", content="ada loom")])
    assert found_ids(await here.query_documents("vector", "ada loom", {"max_chunks": 1})) == ["new"]
    await there.delete_documents("vector", ["new"])
    assert found_ids(await here.query_documents("vector", "ada loom")) == ["d0"]


async def test_vectors_beyond_the_cache_are_read_again(open_provider: Open) -> None:
    provider = open_provider(cache_mb=0)
    for name in ("one", "two"):
        await provider.register_memory_bank(bank("vector", name))
        await provider.insert_documents(name, documents(name))
    for name in ("one", "two", "one"):
        assert [chunk.content for chunk in (await provider.query_documents(name, name)).chunks] == [name]
        assert len(provider._cache._banks) == 1


# ----------------------------------------------------------------------------------------------------------- keyword


async def test_a_keyword_bank_finds_whole_documents_by_any_word_and_rarer_words_count_more(
    provider: SqliteProvider,
) -> None:
    texts = ["common words here", "common rare words", "common words again", "nothing alike", "other things"]
    await filled(provider, "keyword", *texts)
    found = await provider.query_documents("keyword", "Common, RARE?")
    assert found_ids(found)[0] == "d1"
    assert set(found_ids(found)) == {"d0", "d1", "d2"}
    assert found.scores == sorted(found.scores, reverse=True)
    assert min(found.scores) > 0
    assert found.chunks[0].content == texts[1]
    assert found.chunks[0].token_count == 3


async def test_inflected_and_accented_words_are_found(provider: SqliteProvider) -> None:
    await filled(provider, "keyword", "registering shields in a café", "something else", "a third")
    for query in ("registered", "shield", "cafe", "CAFÉ"):
        assert found_ids(await provider.query_documents("keyword", query)) == ["d0"]


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "'; DROP TABLE banks; --",
        "NEAR(a b)",
        "a AND NOT b",
        "content: a",
        "a*",
        "^a",
        "(",
        "-a",
        "{a b} : c",
        "\0",
    ],
)
@pytest.mark.parametrize("kind", ["keyword", "graph", "vector"])
async def test_a_query_is_never_syntax(provider: SqliteProvider, kind: str, query: str) -> None:
    await filled(provider, kind, "and not near content drop", "other")
    await provider.query_documents(kind, query, {"mode": "keyword"} if kind == "vector" else {})
    assert await provider.list_documents(kind) == ["d0", "d1"]


@given(text=st.text())
def test_every_match_expression_is_quoted_words(text: str) -> None:
    expression = match_expression(text)
    if expression is not None:
        words = expression.split(" OR ")
        assert all(word[0] == word[-1] == '"' and '"' not in word[1:-1] for word in words)
        assert all(word[1:-1] in text.lower() for word in words)


async def test_too_many_words_are_refused(provider: SqliteProvider) -> None:
    await filled(provider, "keyword", "text")
    with pytest.raises(InvalidRequestError, match="at most 500 different words") as caught:
        await provider.query_documents("keyword", " ".join(map(str, range(501))))
    assert caught.value.field == "query"


async def test_a_banks_scores_do_not_depend_on_other_banks(provider: SqliteProvider) -> None:
    await filled(provider, "keyword", "ada engine", "loom", "sum")
    before = await provider.query_documents("keyword", "ada")
    await provider.register_memory_bank(bank("keyword", "other"))
    await provider.insert_documents("other", documents(*["ada"] * 50))
    assert await provider.query_documents("keyword", "ada") == before


# ---------------------------------------------------------------------------------------------------------- keyvalue


async def test_a_keyvalue_bank_finds_by_id_and_by_prefix(provider: SqliteProvider) -> None:
    await provider.register_memory_bank(bank("keyvalue"))
    names = ["user", "user/1", "user/2", "users", "USER/3", "100%", "100x"]
    stored = [MemoryBankDocument(document_id=name, content=f"of {name}") for name in names]
    await provider.insert_documents("keyvalue", stored)

    async def found(query: str, **params: Any) -> list[str]:
        response = await provider.query_documents("keyvalue", query, params)
        assert set(response.scores) <= {1.0}
        assert all(chunk.content == f"of {chunk.document_id}" for chunk in response.chunks)
        return found_ids(response)

    assert await found("user/1") == ["user/1"]
    assert await found("user/") == []
    assert await found("user/", prefix=True) == ["user/1", "user/2"]
    assert await found("user", prefix=True, max_chunks=2) == ["user", "user/1"]
    assert await found("100%", prefix=True) == ["100%"]
    assert await found("_", prefix=True) == []


# ------------------------------------------------------------------------------------------------------------- graph


async def graph(provider: SqliteProvider, **links: list[str]) -> None:
    await provider.register_memory_bank(bank("graph"))
    nodes = [
        MemoryBankDocument(document_id=name, content=f"node {name}", metadata={"links": targets, "name": name})
        for name, targets in links.items()
    ]
    await provider.insert_documents("graph", nodes)


async def test_links_are_walked_to_the_hops_and_the_score_is_their_inverse(provider: SqliteProvider) -> None:
    await graph(provider, one=["two", "missing"], two=["three"], three=["one", "three"], four=["one"])
    for hops, names in enumerate((["one"], ["one", "two"], ["one", "two", "three"], ["one", "two", "three"])):
        found = await provider.query_documents("graph", "one", {"hops": hops})
        assert found_ids(found) == names
        assert found.scores == [1 / (1 + hop) for hop in range(len(names))]
    assert found_ids(await provider.query_documents("graph", "one")) == ["one", "two"]
    assert found_ids(await provider.query_documents("graph", "one", {"hops": 10, "max_chunks": 2})) == ["one", "two"]


async def test_every_match_is_a_start_unless_starts_are_limited(provider: SqliteProvider) -> None:
    await graph(provider, a=["b"], b=["c"], c=[])
    assert len((await provider.query_documents("graph", "node", {"hops": 0})).chunks) == 3
    limited = await provider.query_documents("graph", "node", {"hops": 1, "max_starts": 1})
    assert found_ids(limited) == ["a", "b"]


async def test_a_filter_restricts_what_is_found_but_not_the_walk(provider: SqliteProvider) -> None:
    await graph(provider, one=["two"], two=["three"], three=[])
    found = await provider.query_documents("graph", "one", {"hops": 2, "filter": {"name": ["three"]}})
    assert found_ids(found) == ["three"]


# ------------------------------------------------------------------------------------------------------------ any bank


@pytest.mark.parametrize("kind", BANKS)
@pytest.mark.parametrize(
    "field,params",
    [
        ("params", []),
        ("params", "text"),
        ("params", {1: 2}),
        ("params.unknown", {"unknown": 1}),
        ("params.max_chunks", {"max_chunks": 0}),
        ("params.max_chunks", {"max_chunks": 1001}),
        ("params.max_chunks", {"max_chunks": "5"}),
        ("params.max_chunks", {"max_chunks": True}),
        ("params.max_chunks", {"max_chunks": None}),
        ("params.score_threshold", {"score_threshold": math.nan}),
        ("params.score_threshold", {"score_threshold": "high"}),
        ("params.filter", {"filter": []}),
        ("params.filter.a", {"filter": {"a": {}}}),
        ("params.filter.a", {"filter": {"a": []}}),
        ("params.filter.a", {"filter": {"a": [[1]]}}),
        ("query", {"query": ""}),
        ("query", {"query": " \n"}),
        ("query", {"query": []}),
        ("query", {"query": 5}),
        ("query", {"query": "\ud800"}),
        ("query", {"query": ImageMedia(image=URL(uri="data:image/png;base64,AA=="))}),
    ],
)
async def test_bad_queries_are_refused_by_the_field(
    provider: SqliteProvider, kind: str, field: str, params: Any
) -> None:
    await filled(provider, kind, "text")
    query: Any = params["query"] if field == "query" else "text"
    with pytest.raises(InvalidRequestError) as caught:
        await provider.query_documents(kind, query, {} if field == "query" else params)
    assert caught.value.field == field
    assert isinstance(caught.value, UnsupportedContentError) == isinstance(query, ImageMedia)


@pytest.mark.parametrize(
    "kind,params",
    [
        ("vector", {"hops": 1}),
        ("vector", {"mode": "best"}),
        ("keyword", {"mode": "keyword"}),
        ("keyvalue", {"mode": "vector"}),
        ("keyvalue", {"prefix": 1}),
        ("graph", {"prefix": True}),
        ("graph", {"hops": 11}),
        ("graph", {"hops": -1}),
        ("graph", {"max_starts": 0}),
    ],
)
async def test_params_of_other_banks_and_other_values_are_refused(
    provider: SqliteProvider, kind: str, params: dict[str, Any]
) -> None:
    await filled(provider, kind, "text")
    with pytest.raises(InvalidRequestError) as caught:
        await provider.query_documents(kind, "text", params)
    assert caught.value.field == f"params.{next(iter(params))}"


@pytest.mark.parametrize("kind", BANKS)
async def test_a_list_of_texts_is_one_query(provider: SqliteProvider, kind: str) -> None:
    await filled(provider, kind, "ada engine", "loom")
    assert await provider.query_documents(kind, ["ada", "engine"]) == await provider.query_documents(kind, "ada engine")


@pytest.mark.parametrize(
    "allowed,names",
    [
        (1, {"one", "list"}),
        (True, {"true"}),
        ("1", {"text"}),
        (None, {"null", "absent"}),
        ([1, "1"], {"one", "text", "list"}),
        (2, {"list"}),
        (1.0, {"one", "list"}),
        ("nothing", set()),
    ],
)
async def test_filters_compare_as_json_does(provider: SqliteProvider, allowed: Any, names: set[str]) -> None:
    values = {"one": 1, "true": True, "text": "1", "null": None, "list": [1, 2], "map": {"a": 1}}
    stored = [MemoryBankDocument(document_id=name, content="x", metadata={"v": v}) for name, v in values.items()]
    stored.append(MemoryBankDocument(document_id="absent", content="x"))
    for kind in ("keyword", "vector"):
        await provider.register_memory_bank(bank(kind))
        await provider.insert_documents(kind, stored)
        found = await provider.query_documents(kind, "x", {"filter": {"v": allowed}, "max_chunks": 50})
        assert set(found_ids(found)) == names


@pytest.mark.parametrize("kind", BANKS)
async def test_an_empty_bank_finds_nothing(provider: SqliteProvider, kind: str) -> None:
    await provider.register_memory_bank(bank(kind))
    for mode in ("vector", "keyword", "hybrid") if kind == "vector" else (None,):
        found = await provider.query_documents(kind, "text", {"mode": mode} if mode else None)
        assert (found.chunks, found.scores) == ([], [])
