"""The embedded chat model behind shields: what passes is the beginning of what it says without them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.budget import budget
from tests.fakes.shields import word_shields
from workbench import SamplingParams, SamplingStrategy, UserMessage, Workbench
from workbench.errors import ShieldViolationError

PATIENCE_S = 300.0
STREAMS = 4
QUESTIONS = ("Tell me about cats.", "Why is the sea salty?", "Give me three tips for a garden.")


@pytest.fixture
def bench(smollm2_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    model = {"models": ["smollm2-135m-instruct"], "quantization": {"type": "int4"}}
    inference = {"provider_id": "local", "provider_type": "inline::transformers", "config": model}
    providers = {"inference": [inference], "safety": [word_shields(monkeypatch, "words")]}
    with Workbench({"image_name": "shields", "providers": providers}) as bench:
        yield bench


def asked(bench: Workbench, seed: int, shields: list[str] | None) -> Any:
    question = UserMessage(content=QUESTIONS[seed % len(QUESTIONS)])
    params = SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.9, top_p=0.95, seed=seed, max_tokens=32)
    run = bench.chat_completion([question], sampling_params=params, shields=shields)
    assert run.wait(PATIENCE_S)
    return run


def refuse(bench: Workbench, word: str) -> None:
    shield = bench._loop.wait(bench.shields.get_shield("words"))
    assert shield is not None
    provider = bench._stack.safety_providers["words"]
    changed = shield.model_copy(update={"params": {"refused": [word], "warned": [], "undecided": []}})
    bench._loop.wait(provider.register_shield(changed))


def test_what_passes_is_the_answer_before_the_refused_sentence(bench: Workbench) -> None:
    stopped = 0
    for seed in range(budget(STREAMS)):
        plain = asked(bench, seed, None)
        words = re.findall(r"[A-Za-z]{4,}", plain.text)
        word = words[(seed * 7) % len(words)]
        refuse(bench, word)
        run = asked(bench, seed, ["words"])
        assert isinstance(run.error, ShieldViolationError)
        assert plain.text.startswith(run.text)
        assert word not in run.text
        rest = plain.text[len(run.text) :]
        sentence = re.match(r"\s*\S.*?(?:[.!?…][\"')\]}»”’*_`]*(?=\s)|[\n]|$)", rest, re.DOTALL)
        assert sentence is not None
        assert word in sentence[0], "the text stops right before the sentence with the word"
        ids = [token.token_id for token in run.tokens]
        assert ids == [token.token_id for token in plain.tokens[: len(ids)]]
        stopped += bool(run.text)
    assert stopped, "no answer was stopped after its first sentence"


def test_an_answer_that_passes_is_the_plain_one(bench: Workbench) -> None:
    refuse(bench, "\0")
    for seed in range(budget(2)):
        plain, run = asked(bench, seed, None), asked(bench, seed, ["words"])
        assert run.result() == plain.result()
        assert run.tokens == plain.tokens or [one.token_id for one in run.tokens] == [
            one.token_id for one in plain.tokens
        ]
        assert [chunk.event.delta for chunk in run] == [chunk.event.delta for chunk in plain]
