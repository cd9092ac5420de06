"""The embedded chat model in float32 against transformers itself."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.fakes.listening import generate, submit
from workbench.engine.detokenizer import Detokenizer
from workbench.engine.requests import GenerationRequest
from workbench.engine.scheduler import Engine

SUBJECTS = (
    "The capital of France is", "Once upon a time", "def fibonacci(n):", "Water boils at", "My favourite colour",
    "The quick brown fox", "In 1969, humans", "import numpy as np", "Dear Sir or Madam,", "To make bread, first",
    "SELECT name FROM", "The theory of relativity", "1, 1, 2, 3, 5,", "Il était une fois", "こんにちは",
    "Roses are red,", "A list of fruits:\n-", "The meaning of life", "HTTP status 404 means", "😀 is an emoji that",
)  # fmt: skip
ENDINGS = ("", " and so", "\n", " - in short:")

FULL = bool(os.environ.get("WORKBENCH_FULL_LAWS"))
"""Set it to compare 50 prompts x 64 tokens instead of 20 x 32."""
PROMPTS, TOKENS = (50, 64) if FULL else (20, 32)


PATIENCE_S = 300.0
"""A real model on a busy machine is slow, and no hang."""


def prompts() -> list[str]:
    return [subject + ending for ending in ENDINGS for subject in SUBJECTS][:PROMPTS]


@cache
def reference(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def ids_of(engine: Engine, text: str) -> tuple[int, ...]:
    return tuple(engine.model.tokenizer.backend_tokenizer.encode(text).ids)


def generated(model: Any, prompts: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """What transformers itself generates after prompts, which are padded on the left; end tokens are included."""
    width, pad = max(map(len, prompts)), model.generation_config.eos_token_id
    ids = torch.tensor([[pad] * (width - len(prompt)) + [*prompt] for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        output = model.generate(ids, attention_mask=mask, max_new_tokens=TOKENS, do_sample=False, pad_token_id=pad)
    answers: list[list[int]] = output[:, width:].tolist()
    return answers


def most_probable(model: Any, ids: list[int]) -> list[int]:
    """What one forward pass of transformers, without a cache, finds most probable after each of the ids."""
    with torch.inference_mode():
        chosen: list[int] = model(torch.tensor([ids]), use_cache=False).logits[0].argmax(-1).tolist()
    return chosen


@pytest.mark.timeout(1800 if FULL else 600)
def test_greedy_ids_equal_transformers_generate(smollm2_engine: Engine, smollm2_path: Path) -> None:
    """Every fourth prompt alone, the others all at once.

    An answer is greedy if each of its tokens is the most probable one after those before it, which one forward pass
    tells of all tokens. Every fourth prompt is given to `generate` as well.
    """
    engine, model = smollm2_engine, reference(smollm2_path)
    requests = [GenerationRequest(prompt_ids=ids_of(engine, text), max_tokens=TOKENS) for text in prompts()]
    together = [submit(engine, request)[1] for index, request in enumerate(requests) if index % 4]
    heard = [one.wait(PATIENCE_S) for one in together]
    for index in range(0, PROMPTS, 4):
        heard.insert(index, generate(engine, requests[index], PATIENCE_S))
    for request, one in zip(requests, heard, strict=True):
        chosen = most_probable(model, [*request.prompt_ids, *one.ids])[len(request.prompt_ids) - 1 :]
        assert one.ids == chosen[: len(one.ids)], request.prompt_ids
        assert len(one.ids) == TOKENS or chosen[-1] in engine.model.eos_ids
    answers = generated(model, [request.prompt_ids for request in requests[::4]])
    for one, answer in zip(heard[::4], answers, strict=True):
        assert one.ids == [token_id for token_id in answer if token_id not in engine.model.eos_ids]
    print(f"\n{PROMPTS} prompts x {TOKENS} tokens: greedy ids equal")


def test_logprobs_equal_an_independent_full_forward(smollm2_engine: Engine, smollm2_path: Path) -> None:
    for text in SUBJECTS[:4]:
        prompt = ids_of(smollm2_engine, text)
        request = GenerationRequest(
            prompt_ids=prompt, max_tokens=24, alternatives=20, stop_ids=frozenset(), prompt_logprobs=True
        )
        heard = generate(smollm2_engine, request, PATIENCE_S)
        ids = torch.tensor([[*prompt, *heard.ids]])
        with torch.inference_mode():
            exact = reference(smollm2_path)(ids, use_cache=False).logits[0].double().log_softmax(-1)
        stats = [*heard.started.prompt_stats, *(step.stats for step in heard.steps)]
        assert [one.token_id for one in stats] == ids[0, 1:].tolist()
        for position, one in enumerate(stats):
            assert one.logprob == pytest.approx(float(exact[position, one.token_id]), abs=1e-4)
            assert one.entropy == pytest.approx(float(-(exact[position].exp() * exact[position]).sum()), abs=1e-3)
            assert len(one.alternatives) == 20
            for candidate in one.alternatives:
                assert candidate.logprob == pytest.approx(float(exact[position, candidate.token_id]), abs=1e-4)


def test_the_end_token_is_measured_as_an_independent_full_forward_does(
    smollm2_engine: Engine, smollm2_path: Path
) -> None:
    question = "<|im_start|>user\nIs water wet? Say yes or no.<|im_end|>\n<|im_start|>assistant\n"
    prompt = tuple(smollm2_engine.model.tokenizer.backend_tokenizer.encode(question).ids)
    heard = generate(smollm2_engine, GenerationRequest(prompt_ids=prompt, max_tokens=64, alternatives=3), PATIENCE_S)
    end = heard.finished.end
    assert end is not None
    ids = torch.tensor([[*prompt, *heard.ids]])
    with torch.inference_mode():
        exact = reference(smollm2_path)(ids, use_cache=False).logits[0, -1].double().log_softmax(-1)
    assert end.stats.token_id in smollm2_engine.model.eos_ids
    assert end.stats.token_id not in heard.ids
    assert end.stats.logprob == pytest.approx(float(exact[end.stats.token_id]), abs=1e-4)
    for candidate in end.stats.alternatives:
        assert candidate.logprob == pytest.approx(float(exact[candidate.token_id]), abs=1e-4)


def test_requests_together_equal_requests_alone(smollm2_engine: Engine, device: str) -> None:
    tolerance = 1e-5 if device == "cpu" else 1e-4  # torch has other kernels for other numbers of rows
    requests = [
        GenerationRequest(prompt_ids=ids_of(smollm2_engine, text), max_tokens=12, alternatives=3)
        for text in SUBJECTS[:8]
    ]
    together = [submit(smollm2_engine, request)[1] for request in requests]
    for request, heard in zip(requests, together, strict=True):
        alone = generate(smollm2_engine, request, PATIENCE_S)
        assert heard.wait(PATIENCE_S).ids == alone.ids
        assert heard.logprobs == pytest.approx(alone.logprobs, abs=tolerance)


def test_it_knows_the_capital_of_france(smollm2_engine: Engine) -> None:
    prompt = ids_of(smollm2_engine, "The capital of France is")
    assert "Paris" in generate(smollm2_engine, GenerationRequest(prompt_ids=prompt, max_tokens=8)).text


def test_every_id_of_the_vocabulary_streams_in_random_groups_to_the_whole_decode(smollm2_engine: Engine) -> None:
    vocabulary, rng = smollm2_engine.model.vocabulary, random.Random(0)
    ids = list(range(smollm2_engine.model.decoder.vocab_size))
    rng.shuffle(ids)
    while ids:
        group = [ids.pop() for _ in range(min(len(ids), rng.randrange(1, 40)))]
        detokenizer = Detokenizer(vocabulary)
        pieces = [detokenizer.decode(token_id) for token_id in group] + [detokenizer.flush()]
        whole = vocabulary.decode(group)
        assert "".join(pieces) == whole
        text_bytes = b"".join(vocabulary.bytes(one) for one in group if one not in vocabulary.special_ids)
        assert text_bytes.decode("utf-8", "replace") == whole


def test_every_token_alone_has_its_own_text_and_bytes(smollm2_engine: Engine) -> None:
    vocabulary = smollm2_engine.model.vocabulary
    for token_id in range(smollm2_engine.model.decoder.vocab_size):
        assert vocabulary.text(token_id) == vocabulary.decode([token_id], skip_special_tokens=False)
