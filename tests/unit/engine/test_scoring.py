"""A continuation's score is what the model says of each of its tokens, whatever else is asked or running."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.fakes.listening import generate, submit, told
from tests.fakes.models import VOCAB, FakeCache, FakeDecoder, Gate
from workbench.engine.loading import LoadedModel, load
from workbench.engine.logprobs import TokenStats
from workbench.engine.requests import GenerationRequest
from workbench.engine.sampling import Sampling
from workbench.engine.scheduler import Engine
from workbench.errors import ClosedError, ContextLengthError, InvalidRequestError, NumericalError

MakeEngine = Callable[..., Engine]


def some_ids(count: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(3, 250) for _ in range(count)]


PROMPT = some_ids(30, 0)
CONTINUATIONS = [some_ids(count, count) for count in (1, 5, 2, 90, 1, 64, 65, 66)]


def logprobs(stats: Sequence[TokenStats]) -> list[float]:
    return [one.logprob for one in stats]


def test_a_score_is_the_sum_of_an_independent_full_forward(engine_of: MakeEngine, tiny_model: LoadedModel) -> None:
    reference: Any = transformers.AutoModelForCausalLM.from_pretrained(tiny_model.folder, dtype=torch.float32).eval()
    scored = engine_of(model=tiny_model).score(PROMPT, CONTINUATIONS, alternatives=3)
    assert [[one.token_id for one in stats] for stats in scored] == CONTINUATIONS
    for token_ids, stats in zip(CONTINUATIONS, scored, strict=True):
        with torch.inference_mode():
            logits = reference(torch.tensor([[*PROMPT, *token_ids]]), use_cache=False).logits[0]
        exact = logits[len(PROMPT) - 1 : -1].double().log_softmax(-1)  # (tokens, vocab)
        chosen = exact.gather(1, torch.tensor(token_ids).unsqueeze(1))[:, 0]
        assert logprobs(stats) == pytest.approx(chosen.tolist(), abs=1e-4)
        assert math.fsum(logprobs(stats)) == pytest.approx(float(chosen.sum()), abs=1e-4 * len(token_ids))
        assert [one.rank for one in stats] == ((exact > chosen.unsqueeze(1)).sum(1) + 1).tolist()
        for row, one in enumerate(stats):
            assert [other.logprob for other in one.alternatives] == pytest.approx(
                [float(exact[row, other.token_id]) for other in one.alternatives], abs=1e-4
            )


def test_each_is_scored_as_if_it_were_the_only_one_and_in_the_order_asked(
    engine_of: MakeEngine, tiny_model: LoadedModel
) -> None:
    engine = engine_of(model=tiny_model)
    together = engine.score(PROMPT, CONTINUATIONS)
    backwards = engine.score(PROMPT, CONTINUATIONS[::-1])[::-1]
    for token_ids, a, b in zip(CONTINUATIONS, together, backwards, strict=True):
        assert a == b
        assert a == engine.score(PROMPT, [token_ids])[0]


def test_what_the_model_itself_said_scores_what_its_run_recorded(
    engine_of: MakeEngine, tiny_model: LoadedModel
) -> None:
    engine = engine_of(model=tiny_model)
    request = GenerationRequest(prompt_ids=tuple(PROMPT), max_tokens=20, stop_ids=frozenset())
    heard = generate(engine, request)
    (stats,) = engine.score(PROMPT, [heard.ids])
    assert logprobs(stats) == pytest.approx(heard.logprobs, abs=1e-5)
    assert [one.rank for one in stats] == [1] * 20


def test_a_warm_prefix_cache_changes_no_score(engine_of: MakeEngine, tiny_model: LoadedModel) -> None:
    engine = engine_of(model=tiny_model, prefix_cache_bytes=2**24)
    cold = engine.score(PROMPT, CONTINUATIONS)
    for continuation in CONTINUATIONS:
        generate(engine, GenerationRequest(prompt_ids=(*PROMPT, *continuation), max_tokens=3, stop_ids=frozenset()))
    assert engine.prefix_cache.nbytes > 0
    for a, b in zip(cold, engine.score(PROMPT, CONTINUATIONS), strict=True):
        assert logprobs(a) == pytest.approx(logprobs(b), abs=1e-5)


def test_scoring_leaves_the_prefix_cache_and_the_random_state_alone(engine_of: MakeEngine) -> None:
    engine = engine_of(FakeDecoder(), prefix_cache_bytes=2**20)
    request = GenerationRequest(
        prompt_ids=tuple(PROMPT), max_tokens=10, stop_ids=frozenset(), sampling=Sampling(temperature=1.0, seed=1)
    )
    first, state = generate(engine, request), torch.random.get_rng_state()
    # Asked on the engine's own thread: a sequence is kept a moment after its last event was heard.
    held = engine.call(lambda: engine.prefix_cache.nbytes).result()
    engine.score(PROMPT, CONTINUATIONS)
    assert engine.prefix_cache.nbytes == held
    assert torch.equal(torch.random.get_rng_state(), state)
    assert told(generate(engine, request)) == told(first)


def test_runs_in_flight_go_on_as_if_nobody_scored(engine_of: MakeEngine) -> None:
    requests = [
        GenerationRequest(
            prompt_ids=(seed, 7), max_tokens=12, stop_ids=frozenset(), sampling=Sampling(temperature=1.0, seed=seed)
        )
        for seed in range(4)
    ]
    decoder, gate = FakeDecoder(rows_per_step=4), Gate()
    decoder.before_decode = gate
    engine, alone = engine_of(decoder), engine_of()
    running = [submit(engine, request)[1] for request in requests]
    gate.wait()
    scoring = [engine.call(lambda: None) for _ in range(3)]
    gate.open()
    scored = engine.score(PROMPT, CONTINUATIONS)
    for request, heard in zip(requests, running, strict=True):
        assert told(heard.wait()) == told(generate(alone, request))
    assert scored == alone.score(PROMPT, CONTINUATIONS)
    assert all(one.done() for one in scoring)


class Uncopied(FakeCache):
    def fork(self, length: int) -> Self | None:
        return None


class WithoutCopies(FakeDecoder):
    def new_cache(self) -> FakeCache:
        return Uncopied()


def test_where_a_cache_cannot_be_copied_the_prompt_is_read_again(engine_of: MakeEngine) -> None:
    copied, uncopied = FakeDecoder(), WithoutCopies()
    assert engine_of(copied).score(PROMPT, CONTINUATIONS) == engine_of(uncopied).score(PROMPT, CONTINUATIONS)
    assert copied.prefills.count(len(PROMPT)) == 1
    assert uncopied.prefills.count(len(PROMPT)) == 1 + sum(len(one) > 1 for one in CONTINUATIONS)


def test_a_long_prompt_is_read_once_and_in_chunks(engine_of: MakeEngine) -> None:
    decoder = FakeDecoder()
    engine_of(decoder).score(some_ids(1300, 1), [[1], [2], [3]])
    assert decoder.prefills == [512, 512, 276]


def test_a_long_continuation_is_measured_in_chunks_that_memory_can_hold(engine_of: MakeEngine) -> None:
    decoder, token_ids = FakeDecoder(), some_ids(1000, 2)
    (stats,) = engine_of(decoder).score([5], [token_ids])
    assert max(decoder.prefills) == 64
    whole, cache = FakeDecoder(), FakeCache([5])
    exact = torch.cat([whole.speech(FakeCache([5])).unsqueeze(0), whole.prefill(token_ids, cache, every_position=True)])
    expected = exact[:-1].double().log_softmax(-1).gather(1, torch.tensor(token_ids).unsqueeze(1))[:, 0]
    assert logprobs(stats) == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("alternatives", [0, 1, 7, VOCAB + 5])
def test_alternatives_are_as_many_as_were_asked_for(engine_of: MakeEngine, alternatives: int) -> None:
    for stats in engine_of().score(PROMPT, CONTINUATIONS[:3], alternatives):
        assert [len(one.alternatives) for one in stats] == [min(alternatives, VOCAB - 1)] * len(stats)


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "prompt,continuations,error,words",
    [
        ([1, 2], [[3], []], InvalidRequestError, "continuations"),
        ([], [[3]], InvalidRequestError, "prompt"),
        ([1, VOCAB], [[3]], InvalidRequestError, f"token id {VOCAB}"),
        ([1], [[2], [-1]], InvalidRequestError, "token id -1"),
        ([1] * 4000, [[2], [3] * 96], ContextLengthError, "4096"),
    ],
)
def test_bad_input_is_refused_before_any_compute(
    engine_of: MakeEngine, prompt: Any, continuations: Any, error: type[Exception], words: str
) -> None:
    decoder = FakeDecoder()
    with pytest.raises(error, match=words):
        engine_of(decoder).score(prompt, continuations)
    assert decoder.prefills == []


def test_no_continuations_are_no_scores(engine_of: MakeEngine) -> None:
    assert engine_of().score(PROMPT, []) == []


def test_a_closed_engine_scores_no_more(engine_of: MakeEngine) -> None:
    engine = engine_of()
    engine.close()
    with pytest.raises(ClosedError):
        engine.score(PROMPT, CONTINUATIONS)


def test_a_fault_in_the_model_is_told_and_the_engine_serves_on(engine_of: MakeEngine) -> None:
    decoder = FakeDecoder()
    engine = engine_of(decoder)

    def fail(*_: object) -> None:
        raise ArithmeticError("in the model")

    decoder.before_prefill = fail
    with pytest.raises(ArithmeticError, match="in the model"):
        engine.score(PROMPT, CONTINUATIONS)
    decoder.before_prefill = lambda *_: None
    assert len(engine.score(PROMPT, CONTINUATIONS)) == len(CONTINUATIONS)


@pytest.mark.parametrize("continuation", [[5], [5, 6, 7]])
def test_a_damaged_model_has_no_scores(
    tmp_path: Path, tiny_llama: LoadedModel, engine_of: MakeEngine, continuation: list[int], device: str
) -> None:
    for path in tiny_llama.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][3, 3] = float("nan")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(NumericalError):
        engine_of(model=load(tmp_path, name="damaged", device=device)).score(PROMPT, [continuation])
