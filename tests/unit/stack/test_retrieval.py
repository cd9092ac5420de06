"""Retrieval inside a chat: what the model is given, what it is refused for, and what the attribution asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.models import FakeDecoder
from tests.fakes.serving import FakeModels
from workbench import Workbench
from workbench.errors import InvalidRequestError, ModelNotFoundError, UnsupportedFieldError
from workbench.protocol import (
    Chunk,
    CompletionMessage,
    QueryDocumentsResponse,
    RetrievalConfig,
    SamplingParams,
    StopReason,
    UserMessage,
)

TEXTS = ("The mill is red.", "The barn is old.", "The well is deep.")
ONE = SamplingParams(max_tokens=3)


class ThreeChunks:
    """Memory whose every query finds the same chunks; remembers what it was asked."""

    def __init__(self, texts: tuple[str, ...] = TEXTS) -> None:
        self.memory_bank_store: Any = None
        self.queries: list[tuple[str, Any, Any]] = []
        self._texts = texts

    async def insert_documents(self, bank_id: str, documents: Any, ttl_seconds: int | None = None) -> None:
        raise NotImplementedError

    async def query_documents(self, bank_id: str, query: Any, params: Any = None) -> QueryDocumentsResponse:
        self.queries.append((bank_id, query, params))
        chunks = [Chunk(content=text, token_count=4, document_id=f"page {text[4:8]}") for text in self._texts]
        return QueryDocumentsResponse(chunks=chunks, scores=[0.9, 0.8, 0.7][: len(chunks)])


@pytest.fixture
def bench(fake_models: FakeModels) -> Iterator[Workbench]:
    fake_models.add("model", FakeDecoder())
    with Workbench(fake_models.config) as bench:
        bench.inference.memory = ThreeChunks()
        yield bench


def test_the_chunks_become_the_context_of_the_question(bench: Workbench) -> None:
    memory: Any = bench.inference.memory
    run = bench.ask("Which colour is the mill?", "notes", max_chunks=3, sampling_params=ONE)
    assert memory.queries == [("notes", "Which colour is the mill?", {"max_chunks": 3})]
    assert [chunk.content for chunk in run.chunks] == list(TEXTS)
    assert run.prompt == [
        UserMessage(
            content="Which colour is the mill?",
            context="Answer with these passages:\n\n[1] page mill\nThe mill is red.\n\n[2] page barn\nThe barn is old."
            "\n\n[3] page well\nThe well is deep.",
        )
    ]
    run.result(60)
    assert "The barn is old." in bench.render(run.prompt).text


def test_leaving_out_a_chunk_keeps_the_numbers_of_the_others(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = bench.ask("Which?", "notes", sampling_params=ONE)
    run.result(60)
    asked: list[Any] = []
    router = type(bench.inference)
    stream = router._stream

    def recorded(self: Any, request: Any) -> Any:
        asked.append(request)
        return stream(self, request)

    monkeypatch.setattr(router, "_stream", recorded)
    attribution = run.attribution()
    numbers = [[part for part in ("[1]", "[2]", "[3]") if part in one.messages[-1].context] for one in asked]
    assert numbers == [["[2]", "[3]"], ["[1]", "[3]"], ["[1]", "[2]"]]
    assert {one.answer_prefix.token_ids for one in asked} == {tuple(token.token_id for token in run.tokens)}
    assert len(attribution.without) == 3
    assert {len(row) for row in attribution.without} == {len(run.tokens)}


def test_without_its_only_chunk_the_prompt_has_no_context(bench: Workbench) -> None:
    bench.inference.memory = ThreeChunks(TEXTS[:1])
    run = bench.ask("Which?", "notes", sampling_params=ONE)
    run.result(60)
    plain = bench.chat_completion([UserMessage(content="Which?")], sampling_params=ONE)
    plain.result(60)
    changes = run.attribution().changes
    assert len(changes) == 1
    assert plain.tokens != run.tokens, "the fake model's answer depends on all that it reads"


def test_a_bank_without_a_match_leaves_the_question_as_it_is(bench: Workbench) -> None:
    bench.inference.memory = ThreeChunks(())
    run = bench.ask("Which?", "notes", sampling_params=ONE)
    run.result(60)
    assert run.chunks == []
    assert run.prompt == [UserMessage(content="Which?")]
    assert run.attribution().totals == ()


@pytest.mark.parametrize(
    "messages, field, allowed",
    [
        (
            [CompletionMessage(content="Hm.", stop_reason=StopReason.end_of_turn)],
            "messages[0]",
            "a user's message, because retrieval answers it",
        ),
        ([UserMessage(content="x", context="y")], "messages[0].context", "absent, because retrieval fills it"),
    ],
)
def test_only_a_user_s_message_without_a_context_can_be_answered_with_chunks(
    bench: Workbench, messages: list[Any], field: str, allowed: str
) -> None:
    config = RetrievalConfig(bank_id="notes")
    with pytest.raises(InvalidRequestError) as refused:
        asyncio.run(bench.inference.chat_completion("model", messages, retrieval=config))
    assert (refused.value.field, refused.value.allowed) == (field, allowed)
    memory: Any = bench.inference.memory
    assert memory.queries == []


def test_what_is_no_retrieval_is_refused_by_name(bench: Workbench) -> None:
    wrong: Any = {"bank_id": "notes"}
    with pytest.raises(InvalidRequestError, match="retrieval must be a RetrievalConfig"):
        asyncio.run(bench.inference.chat_completion("model", [UserMessage(content="x")], retrieval=wrong))


def test_attribution_belongs_to_an_answer_with_chunks_that_has_ended(bench: Workbench) -> None:
    plain = bench.chat_completion([UserMessage(content="x")], sampling_params=ONE)
    plain.result(60)
    with pytest.raises(InvalidRequestError, match="attribution must be used on an answer of"):
        plain.attribution()
    assert plain.chunks == []
    running = bench.ask("x", "notes", sampling_params=SamplingParams(max_tokens=4000))
    with pytest.raises(InvalidRequestError, match="attribution must be used after the run has ended"):
        running.attribution()
    running.cancel()


def test_an_error_of_one_answer_is_the_error_of_the_attribution(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bench.ask("Which?", "notes", sampling_params=ONE)
    run.result(60)

    def fails(_self: Any, request: Any) -> Any:
        raise ModelNotFoundError(request.model, [])

    monkeypatch.setattr(type(bench.inference), "_stream", fails)
    with pytest.raises(ModelNotFoundError):
        run.attribution()


def test_the_attribution_has_the_scores_of_the_chunks(bench: Workbench) -> None:
    run = bench.ask("Which?", "notes", sampling_params=ONE)
    run.result(60)
    assert run.attribution().scores == (0.9, 0.8, 0.7)


def test_a_provider_that_cannot_answer_with_given_tokens_is_refused_before_it_answers() -> None:
    config = {"models": ["m"]}
    with Workbench(
        {"providers": {"inference": [{"provider_id": "e", "provider_type": "inline::echo", "config": config}]}}
    ) as bench:
        memory = bench.inference.memory = ThreeChunks()
        provider = bench.models.find("m").provider
        provider.capabilities = type(provider.capabilities)()
        retrieval = RetrievalConfig(bank_id="notes", attribution=True)
        with pytest.raises(UnsupportedFieldError, match="branch"):
            asyncio.run(bench.inference.chat_completion("m", [UserMessage(content="x")], retrieval=retrieval))
        assert memory.queries == []
        run = bench.ask("x", "notes")
        run.result(60)
        with pytest.raises(UnsupportedFieldError, match="branch"):
            run.attribution()


def test_a_provider_alone_has_no_memory(bench: Workbench) -> None:
    provider = bench.models.find("model").provider
    retrieval = RetrievalConfig(bank_id="notes")
    with pytest.raises(UnsupportedFieldError, match="retrieval must be absent"):
        asyncio.run(provider.chat_completion("model", [UserMessage(content="x")], retrieval=retrieval))
