"""Memory banks with the embedded sentence model, through the default stack, against sentence-transformers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.budget import budget
from tests.sentence_models import Judge
from tests.tiny_models import UNICODE_CORPUS
from workbench.errors import InvalidRequestError, ModelNotFoundError
from workbench.protocol import MemoryBankDocument, VectorMemoryBankDef
from workbench.providers.memory.chunking import Chunker
from workbench.records import TokenSpans
from workbench.stack.stack import Stack

MODEL = "all-minilm-l6-v2"
TEXTS = (
    "The capital of France is Paris.",
    "Sourdough bread needs flour, water, salt and time.",
    "A neural network learns by following gradients downhill.",
    "Whales are mammals that live in the sea.",
    "The sampler draws a token from the distribution.",
)


@pytest.fixture
async def stack(minilm_path: Path) -> AsyncIterator[Stack]:
    assert str(minilm_path)  # the model is there
    opened = Stack()
    await opened.open()
    yield opened
    opened.close()


def bank(**fields: object) -> VectorMemoryBankDef:
    return VectorMemoryBankDef.model_validate(
        {"identifier": "bank", "embedding_model": MODEL, "chunk_size_in_tokens": 64} | fields
    )


@pytest.mark.parametrize("query", ["What do bakers use?", "animals of the ocean", "machine learning", TEXTS[0]])
async def test_scores_are_the_cosines_of_an_independent_library(stack: Stack, minilm_path: Path, query: str) -> None:
    await stack.memory_banks.register_memory_bank(bank())
    stored = [MemoryBankDocument(document_id=f"d{index}", content=text) for index, text in enumerate(TEXTS)]
    await stack.memory.insert_documents("bank", stored)
    found = await stack.memory.query_documents("bank", query)
    vectors = Judge(minilm_path)([query, *TEXTS]).numpy().astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors[1:] @ vectors[0]
    order = np.argsort(-cosines)
    assert [chunk.document_id for chunk in found.chunks] == [f"d{index}" for index in order]
    assert found.scores == pytest.approx((1 + cosines[order]) / 2, abs=1e-5)


async def test_a_bank_is_restored_without_loading_a_model_and_finds_the_same(stack: Stack) -> None:
    await stack.memory_banks.register_memory_bank(bank())
    await stack.memory.insert_documents("bank", [MemoryBankDocument(document_id="d", content=TEXTS[1])])
    before = await stack.memory.query_documents("bank", "bread")
    again = Stack(precision="float32")
    await again.open()
    try:
        assert not again.providers["local"].card(MODEL).loaded
        assert [known.identifier for known in await again.memory_banks.list_memory_banks()] == ["bank"]
        assert await again.memory.query_documents("bank", "bread") == before, "whatever the precision of the models"
    finally:
        again.close()


async def test_chunks_beyond_the_model_and_other_models_are_refused_by_name(stack: Stack) -> None:
    for fields, field in (
        ({"chunk_size_in_tokens": 255}, "memory_bank.chunk_size_in_tokens"),
        ({"embedding_model": "smollm2-135m-instruct"}, "memory_bank.embedding_model"),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            await stack.memory_banks.register_memory_bank(bank(**fields))
        assert caught.value.field == field
    with pytest.raises(ModelNotFoundError, match=MODEL):
        await stack.memory_banks.register_memory_bank(bank(embedding_model="missing"))
    await stack.memory_banks.register_memory_bank(bank(chunk_size_in_tokens=254))


pieces = st.sampled_from([*UNICODE_CORPUS, *TEXTS, "electroencephalographically", "\r\n", "  "]) | st.text(max_size=8)


@settings(max_examples=budget(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(pieces, max_size=8).map("".join), size=st.integers(3, 40), share=st.floats(0, 0.99))
async def test_chunks_are_the_text_and_fit_by_the_models_own_count(
    stack: Stack, text: str, size: int, share: float
) -> None:
    async def spans_of(part: str) -> TokenSpans:
        return await stack.inference.token_spans(MODEL, part)

    for character in set(regex.findall(r"\X", text)):  # the model reads a Korean syllable as its letters
        assume(len((await spans_of(character)).spans) <= size)
    chunks = await Chunker(size, int(size * share), spans_of).chunks(text, "text")
    starts = [0, *(chunk.end for chunk in chunks)]
    assert "".join(text[start : chunk.end] for start, chunk in zip(starts, chunks, strict=False)) == text
    if chunks:
        assert max(chunk.token_count for chunk in chunks) <= size
        embedded = await stack.inference.embed(MODEL, [text[chunk.start : chunk.end] for chunk in chunks])
        assert embedded.usage.prompt_tokens == sum(chunk.token_count + 2 for chunk in chunks)
