"""The embedded chat model in few bits: how far from float32, and what it still knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from tests.fakes.listening import generate
from workbench.engine.loading import load
from workbench.engine.precision import Precision
from workbench.engine.prefill import FORCED_CHUNK
from workbench.engine.requests import GenerationRequest
from workbench.engine.sampling import Sampling
from workbench.engine.scheduler import Engine
from workbench.prompts.encoding import PromptEncoder
from workbench.protocol import UserMessage

PATIENCE_S = 300.0
TOKENS = 200

EngineIn = Callable[[Precision], Engine]


@pytest.fixture(scope="module")
def engine_in(smollm2_path: Path, smollm2_engine: Engine) -> Iterator[EngineIn]:
    """An engine of the model in a precision, made once."""
    made: list[Engine] = []

    @cache
    def make(precision: Precision) -> Engine:
        if precision == "float32":
            return smollm2_engine
        made.append(Engine(load(smollm2_path, precision=precision), prefix_cache_bytes=0))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture(scope="module")
def own_text(smollm2_engine: Engine) -> list[int]:
    """A prompt and 200 tokens that float32 itself drew after it, at temperature 1."""
    prompt = smollm2_engine.model.tokenizer.backend_tokenizer.encode("The history of the lighthouse begins").ids
    sampling = Sampling(temperature=1.0, top_p=0.95, seed=7)
    request = GenerationRequest(prompt_ids=tuple(prompt), sampling=sampling, max_tokens=TOKENS, stop_ids=frozenset())
    return [*prompt, *generate(smollm2_engine, request, PATIENCE_S).ids]


@pytest.fixture(scope="module")
def exact(smollm2_engine: Engine, own_text: list[int]) -> Tensor:
    """What float32 makes of its own text."""
    return forced(smollm2_engine, own_text)


def forced(engine: Engine, token_ids: list[int]) -> Tensor:
    """Logprobs of every position, computed as in decoding, float64, shape (tokens, vocab)."""
    decoder = engine.model.decoder

    def read() -> Tensor:
        past = decoder.new_cache()
        parts = [token_ids[start : start + FORCED_CHUNK] for start in range(0, len(token_ids), FORCED_CHUNK)]
        return torch.cat([decoder.prefill(part, past, every_position=True) for part in parts])

    return engine.call(read).result(PATIENCE_S).double().log_softmax(-1)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "precision,divergence,agreement", [("bf16", 3e-4, 0.98), ("int8", 3e-3, 0.96), ("int4", 2e-4, 0.99)]
)
def test_few_bits_stay_near_float32_over_the_models_own_text(
    engine_in: EngineIn, own_text: list[int], exact: Tensor, precision: Precision, divergence: float, agreement: float
) -> None:
    """The file's weights have 4 bits in groups, so int4 holds the very same; int8, one scale a row, rounds anew."""
    found = forced(engine_in(precision), own_text)
    assert len(own_text) > TOKENS
    kl = float((exact.exp() * (exact - found)).sum(-1).mean())
    same = float((exact.argmax(-1) == found.argmax(-1)).double().mean())
    print(f"\n{precision}: mean KL {kl:.6f} nat, top-1 {same:.1%} over {len(own_text)} tokens")
    assert kl < divergence
    assert same >= agreement


@pytest.mark.timeout(600)
@pytest.mark.parametrize("precision", ["float32", "bf16", "int8", "int4"])
def test_it_knows_the_capital_of_france_in_every_precision(engine_in: EngineIn, precision: Precision) -> None:
    engine = engine_in(precision)
    encoder = PromptEncoder(engine.model.tokenizer, "smollm2")
    prompt = encoder.encode_chat([UserMessage(content="What is the capital of France?")])
    heard = generate(engine, GenerationRequest(prompt_ids=prompt, max_tokens=24), PATIENCE_S)
    print(f"\n{precision}: {heard.text!r}")
    assert "Paris" in heard.text


@pytest.mark.parametrize("precision", ["float32", "bf16", "int8", "int4"])
def test_what_is_held_is_what_was_predicted(engine_in: EngineIn, precision: Precision) -> None:
    model = engine_in(precision).model
    assert model.memory_bytes == pytest.approx(model.predicted_memory_bytes, rel=0.02)


@pytest.mark.timeout(300)
def test_scores_are_those_of_an_independent_full_forward(smollm2_engine: Engine, smollm2_path: Path) -> None:
    tokenizer: Any = smollm2_engine.model.tokenizer
    prompt = tokenizer("The capital of France is").input_ids
    continuations = [tokenizer(text).input_ids for text in (" Paris", " London", " a city called Paris.", "\n")]
    scored = smollm2_engine.score(prompt, continuations)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(smollm2_path, dtype=torch.float32).eval()
    sums = []
    for token_ids, stats in zip(continuations, scored, strict=True):
        ids = torch.tensor([[*prompt, *token_ids]])
        with torch.inference_mode():
            exact = model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
        expected = exact.gather(1, torch.tensor(token_ids).unsqueeze(1))[:, 0]
        assert [one.logprob for one in stats] == pytest.approx(expected.tolist(), abs=1e-4)
        sums.append(float(expected.sum()))
    assert sums[0] == max(sums), "it knows which city"
