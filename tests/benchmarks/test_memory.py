"""Memory banks: how long 10,000 chunks take to insert and to search, and how often a search finds the answer."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.doc_questions import QUESTIONS, sections
from workbench.protocol import MemoryBankDocument, VectorMemoryBankDef
from workbench.stack.stack import Stack

CHUNKS = 10_000
AT_ONCE = 500
QUERIES = 100
MODEL = "all-minilm-l6-v2"
DOCS = Path(__file__).parents[2] / "docs"
MODES = ("vector", "keyword", "hybrid")


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    """The default stack."""
    opened = Stack()
    await opened.open()
    yield opened
    opened.close()


async def make_bank(stack: Stack, name: str, size: int) -> None:
    definition = VectorMemoryBankDef(identifier=name, embedding_model=MODEL, chunk_size_in_tokens=size)
    await stack.memory_banks.register_memory_bank(definition)


async def timed(call: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    result = await call
    return 1000 * (time.perf_counter() - began), result


@pytest.mark.timeout(1800)
async def test_10_000_chunks_are_searched_exactly_within_20_ms(stack: Stack) -> None:
    await make_bank(stack, "many", 64)
    words = sorted({word for text in sections(DOCS).values() for word in text.split() if word.isalpha()})
    draw = random.Random(0)
    began = time.perf_counter()
    for done in range(0, CHUNKS, AT_ONCE):
        texts = [" ".join(draw.choices(words, k=30)) for _ in range(AT_ONCE)]
        batch = [MemoryBankDocument(document_id=f"d{done + index}", content=text) for index, text in enumerate(texts)]
        await stack.memory.insert_documents("many", batch)
        elapsed_s = time.perf_counter() - began
        print(f"\r{done + AT_ONCE:6,} of {CHUNKS:,} chunks in {elapsed_s:.1f} s", end="", flush=True)
    print(f": {CHUNKS / elapsed_s:.0f} chunks a second")
    queries = [" ".join(draw.choices(words, k=8)) for _ in range(QUERIES)]
    first_ms, _ = await timed(stack.memory.query_documents("many", queries[0]))
    embedded = [(await timed(stack.inference.embed(MODEL, [query])))[0] for query in queries]
    print(
        f"first query, which reads the vectors: {first_ms:.1f} ms; embedding p50 {statistics.median(embedded):.1f} ms"
    )
    for mode in MODES:
        times = [(await timed(stack.memory.query_documents("many", query, {"mode": mode})))[0] for query in queries]
        p95 = statistics.quantiles(times, n=20)[-1]
        print(f"{mode:8} query, embedding included: p50 {statistics.median(times):.1f} ms, p95 {p95:.1f} ms")
        if mode == "vector":
            assert statistics.median(times) < 20


@pytest.mark.timeout(1800)
async def test_hybrid_search_finds_at_least_what_either_search_finds(stack: Stack) -> None:
    await make_bank(stack, "docs", 128)
    found = sections(DOCS)
    assert len(QUESTIONS) == 50
    assert {expected for _, expected in QUESTIONS} <= found.keys()
    documents = [MemoryBankDocument(document_id=name, content=text) for name, text in found.items()]
    await stack.memory.insert_documents("docs", documents)
    ranks: dict[str, list[int]] = {}
    for mode in MODES:
        ranks[mode] = []
        for question, expected in QUESTIONS:
            params = {"mode": mode, "max_chunks": 10}
            response = await stack.memory.query_documents("docs", question, params)
            ids = [chunk.document_id for chunk in response.chunks]
            ranks[mode].append(ids.index(expected) if expected in ids else 10)
    for mode in MODES:
        rates = {count: sum(rank < count for rank in ranks[mode]) / len(QUESTIONS) for count in (1, 3, 5, 10)}
        print(f"{mode:8}", *(f"in the first {count}: {rate:.0%}" for count, rate in rates.items()), sep="  ")
    for index, (question, _) in enumerate(QUESTIONS):
        places = [ranks[mode][index] for mode in MODES]
        if max(places) == 10:
            print(f"  {places} {question}")
    hits = {mode: sum(rank < 10 for rank in ranks[mode]) for mode in MODES}
    assert hits["hybrid"] >= max(hits["vector"], hits["keyword"])
