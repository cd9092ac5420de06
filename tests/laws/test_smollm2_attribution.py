"""What retrieved chunks did to an answer, against transformers' forward over the same texts, and on planted facts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import workbench as wb
from tests.laws.test_smollm2 import PATIENCE_S, reference
from tests.unit.widgets.recorded_page import recorded_page
from workbench import Workbench
from workbench.protocol import Chunk, QueryDocumentsResponse, RetrievalConfig, UserMessage
from workbench.providers.requests import Request
from workbench.records import AnswerPrefix
from workbench.stack.retrieval import context_of

FACTS = (
    (
        "The lighthouse of Porto Alba was built by Ines Duarte.",
        "Who built the lighthouse of Porto Alba?",
        "Ines Duarte",
    ),
    ("The town of Velmora keeps its treasure in a blue tin box.", "Where is Velmora's treasure?", "a blue tin box"),
    ("Doctor Okafor keeps seven parrots in the kitchen.", "How many parrots has Doctor Okafor?", "seven"),
    ("The password of the old mill is marmalade.", "What is the password of the old mill?", "marmalade"),
    ("The river Quen freezes only in October.", "When does the river Quen freeze?", "October"),
    ("The captain of the Heron is called Tobias Lund.", "Who is the captain of the Heron?", "Tobias Lund"),
    ("Mount Serrat is 4312 metres high.", "How high is Mount Serrat?", "4312 metres"),
    ("The bakery on Elm Lane sells only rye bread.", "What does the bakery on Elm Lane sell?", "rye bread"),
    ("Aunt Freya's violin was made in Cremona.", "Where was Aunt Freya's violin made?", "Cremona"),
    ("The meeting of the gardeners is on Thursday.", "On which day do the gardeners meet?", "Thursday"),
    ("The green door leads to the archive.", "Where does the green door lead?", "the archive"),
    ("The tallest tree in Lowick is a walnut.", "What is the tallest tree in Lowick?", "a walnut"),
    ("The ferry to Skarn costs eleven crowns.", "What does the ferry to Skarn cost?", "eleven crowns"),
    ("The clockmaker's dog is named Pepper.", "What is the clockmaker's dog named?", "Pepper"),
    ("The library of Ombria was painted yellow.", "Which colour is the library of Ombria?", "yellow"),
    ("Professor Iwu studies the songs of whales.", "What does Professor Iwu study?", "the songs of whales"),
    ("The bridge at Tarn was closed because of moths.", "Why was the bridge at Tarn closed?", "because of moths"),
    ("The recipe needs three spoons of honey.", "How much honey does the recipe need?", "three spoons"),
    ("The school's bell is made of silver.", "Of what is the school's bell made?", "silver"),
    ("The winner of the kite race was Amara Bell.", "Who won the kite race?", "Amara Bell"),
)
"""A planted fact, a question about it, and the words that answer it."""


class FixedMemory:
    """Memory whose every query finds the same chunks."""

    def __init__(self, *texts: str) -> None:
        self.memory_bank_store: Any = None
        self._chunks = [
            Chunk(content=text, token_count=len(text.split()), document_id=f"note {number}")
            for number, text in enumerate(texts, 1)
        ]

    async def insert_documents(self, bank_id: str, documents: Any, ttl_seconds: int | None = None) -> None:
        raise NotImplementedError

    async def query_documents(self, bank_id: str, query: Any, params: Any = None) -> QueryDocumentsResponse:
        return QueryDocumentsResponse(chunks=self._chunks, scores=[1.0] * len(self._chunks))


@pytest.fixture(scope="module")
def bench(smollm2_path: Path) -> Iterator[Workbench]:
    assert smollm2_path.is_dir()
    local = {
        "provider_id": "local",
        "provider_type": "inline::transformers",
        "config": {"models": ["smollm2-135m-instruct"]},
    }
    with Workbench({"image_name": "exact", "providers": {"inference": [local]}}) as opened:
        yield opened


def asked(bench: Workbench, question: str, *texts: str, max_tokens: int = 12) -> Any:
    bench.inference.memory = FixedMemory(*texts)
    run = bench.ask(question, "notes", sampling_params=wb.SamplingParams(max_tokens=max_tokens))
    run.result(PATIENCE_S)
    return run


@pytest.mark.timeout(600)
@pytest.mark.parametrize("index", [0, 7, 13, 19])
def test_attribution_equals_an_independent_forward_without_the_chunk(
    bench: Workbench, smollm2_path: Path, index: int
) -> None:
    texts = [FACTS[(index + offset) % len(FACTS)][0] for offset in range(3)]
    question = FACTS[index][1]
    run = asked(bench, question, *texts)
    attribution = run.attribution()
    answer_ids = [token.token_id for token in run.tokens]
    assert attribution.logprob == math.fsum(token.logprob for token in run.tokens)
    assert [chunk.content for chunk in attribution.chunks] == [chunk.content for chunk in run.chunks] == texts
    for left_out in range(3):
        message = UserMessage(content=question, context=context_of(run.chunks, {left_out}))
        prompt_ids = [token.token_id for token in bench.render([message]).tokens]
        with torch.inference_mode():
            logits = reference(smollm2_path)(torch.tensor([prompt_ids + answer_ids]), use_cache=False).logits[0]
        exact = logits.double().log_softmax(-1)[len(prompt_ids) - 1 : -1]
        expected = [float(exact[position, token_id]) for position, token_id in enumerate(answer_ids)]
        assert attribution.without[left_out] == pytest.approx(expected, abs=1e-4)


@pytest.fixture(scope="module")
def quick(smollm2_path: Path) -> Iterator[Workbench]:
    assert smollm2_path.is_dir()
    with Workbench(precision="int4") as opened:
        yield opened


def given(bench: Workbench, index: int) -> Any:
    """A run whose answer is that of a planted fact, given to the model, with the fact and two others in the prompt."""
    fact, question, words = FACTS[index]
    texts = [FACTS[(index + 7) % 20][0], FACTS[(index + 13) % 20][0]]
    texts.insert(place_of(index), fact)
    bench.inference.memory = FixedMemory(*texts)
    body = wb.ChatCompletionRequest(
        model="smollm2-135m-instruct",
        messages=[UserMessage(content=question)],
        retrieval=RetrievalConfig(bank_id="notes"),
    )
    request = bench._loop.wait(bench.inference.with_chunks(Request.from_body(body)))
    (answer,) = bench.score([UserMessage(content=question)], [f"It is {words}."])
    given_ids = tuple(token.token_id for token in answer.tokens)
    forced = Request(
        model=request.model,
        messages=request.messages,
        retrieved=request.retrieved,
        sampling_params=wb.SamplingParams(max_tokens=len(given_ids)),
        answer_prefix=AnswerPrefix(given_ids=given_ids),
        field="messages",
    )
    return bench.start(forced)


def place_of(index: int) -> int:
    """Which of the three chunks is the planted one."""
    return index % 3


@pytest.mark.timeout(900)
def test_leaving_out_a_planted_fact_costs_its_tokens_most(quick: Workbench) -> None:
    """The answer is the planted one in every case, given to the model where it would have said something else.

    All are measured at once.
    """
    runs = [given(quick, index) for index in range(len(FACTS))]
    for run in runs:
        run.result(PATIENCE_S)
    measured = [run.start_attribution() for run in runs]
    wrong = []
    for index, (run, measuring) in enumerate(zip(runs, measured, strict=True)):
        of_fact = range(2, len(run.tokens) - 1)  # without "It is" and the full stop
        changes = [sum(row[position] for position in of_fact) for row in measuring.result(PATIENCE_S).changes]
        if changes.index(max(changes)) != place_of(index):
            wrong.append((FACTS[index][1], place_of(index), changes))
    assert wrong == []


@pytest.mark.timeout(600)
def test_an_answer_with_chunks_has_the_same_tokens_in_every_way_to_ask(bench: Workbench) -> None:
    texts = [fact[0] for fact in FACTS[:3]]
    run = asked(bench, FACTS[1][1], *texts)
    config = RetrievalConfig(bank_id="notes", attribution=True)
    messages = [UserMessage(content=FACTS[1][1])]
    params = wb.SamplingParams(max_tokens=12)

    async def whole() -> Any:
        return await bench.inference.chat_completion("smollm2-135m-instruct", messages, params, retrieval=config)

    async def streamed() -> list[Any]:
        stream: Any = bench.inference.chat_completion(
            "smollm2-135m-instruct", messages, params, stream=True, retrieval=config
        )
        return [chunk.event async for chunk in stream]

    response, events = bench._loop.wait(whole()), bench._loop.wait(streamed())
    assert response.completion_message.content == run.text == "".join(event.delta for event in events)
    found = [event.retrieval for event in events if event.retrieval]
    assert [chunk.content for chunk in found[0].chunks] == texts
    assert found[0].attribution is None
    assert response.retrieval == found[-1]
    attribution = run.attribution()
    assert [entry.token_id for entry in found[-1].attribution] == [token.token_id for token in run.tokens]
    for position, entry in enumerate(found[-1].attribution):
        assert entry.without == pytest.approx([row[position] for row in attribution.without], abs=1e-5)
    replay = wb.replay(wb.Capsule.from_json(run.capsule.to_json()), bench)
    assert replay.same
    assert replay.run.chunks == run.chunks


def test_a_view_shows_the_attribution_of_the_run_and_leaves_the_model_free_when_it_is_given_up(
    bench: Workbench,
) -> None:
    run = asked(bench, FACTS[2][1], FACTS[0][0], FACTS[2][0], max_tokens=12)
    with recorded_page():
        stopped = bench.attribution(run)
        stopped.stop()
        view = bench.attribution(run)
        assert stopped.wait(PATIENCE_S)
        assert view.wait(PATIENCE_S)
        assert (stopped.closed, stopped.attribution) == (True, None)
        assert view.attribution == run.attribution()
        assert view.state == "done"
        assert "".join(piece(wire) for wire in view.tokens) == run.text
        assert "<strong>[2] note 2</strong> · score 1.00" in view.static_html()


def piece(wire: list[Any]) -> str:
    """The characters that a token adds to the text, as the page reads them."""
    return str(wire[6] if len(wire) > 6 else wire[1])
