"""Any causal model in a local folder: greedy ids and logprobs are those of transformers, whatever the family."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.fakes.listening import generate, submit
from tests.rounding import rounding
from tests.tiny_models import FAMILIES, UNICODE_CORPUS, save_model, sentencepiece_tokenizer
from workbench.engine.loading import LoadedModel, load
from workbench.engine.requests import GenerationRequest
from workbench.engine.scheduler import Engine

MakeEngine = Callable[..., Engine]


@cache
def reference(folder: Path) -> Any:
    """The folder's model as transformers itself loads it."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def generated(folder: Path, prompt: list[int], count: int) -> list[int]:
    """What ``transformers.generate`` says, greedy; the end token is kept out as the engine does."""
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        output = reference(folder).generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=0
        )
    answer: list[int] = output[0, len(prompt) :].tolist()
    return answer[:-1] if answer and answer[-1] == 0 else answer


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    rng = random.Random(7)
    return [[rng.randrange(3, 380) for _ in range(rng.choice([1, 2, 9, 30, 80]))] for _ in range(12)]


def test_greedy_ids_equal_transformers_generate(
    engine_of: MakeEngine, tiny_model: LoadedModel, prompts: list[list[int]]
) -> None:
    engine = engine_of(model=tiny_model)
    for prompt in prompts:
        heard = generate(engine, GenerationRequest(prompt_ids=tuple(prompt), max_tokens=24))
        assert heard.ids == generated(tiny_model.folder, prompt, 24)


def test_logprobs_equal_an_independent_full_forward(
    engine_of: MakeEngine, tiny_model: LoadedModel, prompts: list[list[int]]
) -> None:
    engine = engine_of(model=tiny_model)
    for prompt in prompts[:6]:
        request = GenerationRequest(
            prompt_ids=tuple(prompt), max_tokens=24, alternatives=5, stop_ids=frozenset(), prompt_logprobs=True
        )
        heard = generate(engine, request)
        ids = torch.tensor([[*prompt, *heard.ids]])
        with torch.inference_mode():
            exact = reference(tiny_model.folder)(ids, use_cache=False).logits[0].double().log_softmax(-1)
        stats = [*heard.started.prompt_stats, *(step.stats for step in heard.steps)]
        assert [one.token_id for one in stats] == ids[0, 1:].tolist()
        for position, one in enumerate(stats):
            assert one.logprob == pytest.approx(float(exact[position, one.token_id]), abs=1e-4)
            for candidate in one.alternatives:
                assert candidate.logprob == pytest.approx(float(exact[position, candidate.token_id]), abs=1e-4)


def test_rows_decoded_together_equal_rows_alone(
    engine_of: MakeEngine, tiny_model: LoadedModel, prompts: list[list[int]]
) -> None:
    """Prompts of very different lengths side by side, as in a padded batch; ours has no padding to get wrong."""
    engine = engine_of(model=tiny_model)
    requests = [GenerationRequest(prompt_ids=tuple(prompt), max_tokens=16, alternatives=3) for prompt in prompts[:8]]
    together = [submit(engine, request)[1] for request in requests]
    for request, heard in zip(requests, together, strict=True):
        alone = generate(engine, request)
        assert heard.wait().ids == alone.ids
        assert heard.logprobs == pytest.approx(alone.logprobs, abs=rounding(tiny_model))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_fast_step_and_the_general_one_agree(
    family_folder: Callable[[str], Path], engine_of: MakeEngine, prompts: list[list[int]], family: str
) -> None:
    fast = engine_of(model=load(family_folder(family), name="tiny-fast"))
    general = engine_of(model=load(family_folder(family), name="tiny-general", fast=False))
    for prompt in prompts:
        request = GenerationRequest(prompt_ids=tuple(prompt), max_tokens=16)
        a, b = generate(fast, request), generate(general, request)
        assert a.ids == b.ids
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_the_context_runs_to_its_last_position(engine_of: MakeEngine, tiny_model: LoadedModel) -> None:
    prompt = [(11 * index) % 370 + 3 for index in range(500)]
    heard = generate(engine_of(model=tiny_model), GenerationRequest(prompt_ids=tuple(prompt), stop_ids=frozenset()))
    assert len(heard.ids) == tiny_model.context_length - 500 == 12
    assert heard.ids[:8] == generated(tiny_model.folder, prompt, 12)[:8]


@pytest.mark.parametrize("end_ids", [0, [0, 7, 9]])
def test_end_tokens_come_from_the_generation_config(tmp_path: Path, end_ids: Any) -> None:
    model = load(save_model(tmp_path, "llama", end_ids=end_ids))
    assert model.eos_ids == frozenset([end_ids] if isinstance(end_ids, int) else end_ids)


def test_a_sentencepiece_model_speaks_in_whole_words(tmp_path: Path, engine_of: MakeEngine) -> None:
    tokenizer = sentencepiece_tokenizer()
    model = load(save_model(tmp_path, "llama", tokenizer, end_ids=2), name="tiny-sp")
    assert not model.vocabulary.is_byte_level
    engine = engine_of(model=model)
    for text in UNICODE_CORPUS:
        prompt = tuple(model.tokenizer.backend_tokenizer.encode(text).ids)
        heard = generate(engine, GenerationRequest(prompt_ids=prompt, max_tokens=40, stop_ids=frozenset()))
        assert heard.text == model.tokenizer.backend_tokenizer.decode(heard.ids)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_loading_and_running_leaves_the_global_random_state(
    family_folder: Callable[[str], Path], engine_of: MakeEngine, family: str
) -> None:
    folder = family_folder(family)
    state = torch.random.get_rng_state()
    generate(engine_of(model=load(folder, name="tiny")), GenerationRequest(prompt_ids=(5, 6), max_tokens=4))
    assert torch.equal(torch.random.get_rng_state(), state)
