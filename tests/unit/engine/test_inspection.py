"""Looking back at a choice: every stage is what it was, other numbers and parameters may be tried, nothing changes."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.budget import budget
from tests.fakes.listening import Heard, generate, submit, told
from tests.fakes.models import VOCAB, FakeDecoder
from workbench.engine.adjustments import ADJUSTMENTS, History, adjusted
from workbench.engine.inspection import KeptLogits, Trace, trace
from workbench.engine.loading import LoadedModel
from workbench.engine.requests import GenerationRequest, Handle
from workbench.engine.sampling import Sampler, Sampling, draw
from workbench.engine.scheduler import Engine
from workbench.errors import InvalidRequestError

MakeEngine = Callable[..., Engine]

samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 2, 7, 50, 1000]),
    top_p=st.sampled_from([1.0, 0.999, 0.9, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.0, 0.01, 0.2, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.7, 5.0]),
    frequency_penalty=st.sampled_from([0.0, 0.0, 0.6, -0.2]),
    presence_penalty=st.sampled_from([0.0, 0.0, 1.5, -2.0]),
    logit_bias=st.none() | st.dictionaries(st.integers(0, 59), st.sampled_from([-20.0, -1.5, 4.0]), min_size=1),
    seed=st.integers(0, 2**40),
)

numbers = st.floats(0, 1, exclude_max=True)


def row(seed: int, vocab: int = 60, spread: float = 3.0) -> Tensor:
    return torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * spread


# ------------------------------------------------------------------------------------------------------ one position


def of_transformers(logits: Tensor, sampling: Sampling, seen: set[int], answer: Sequence[int]) -> dict[str, Tensor]:
    """The distribution after each of transformers' processors, in float64, and after two that it has not."""
    ids: Any = torch.tensor([sorted(seen)])
    scores: Any = logits.double().unsqueeze(0)
    stages = {"raw": scores}
    if sampling.logit_bias:
        bias: Any = SequenceBiasLogitsProcessor([[[one], value] for one, value in sampling.logit_bias.items()])
        stages["logit_bias"] = scores = bias(ids, scores)
    if sampling.repetition_penalty != 1.0:
        penalty: Any = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)
        stages["penalty"] = scores = penalty(ids, scores.clone())
    counts = torch.tensor([answer.count(token_id) for token_id in range(len(logits))]).double()
    if sampling.frequency_penalty:
        stages["frequency_penalty"] = scores = scores - sampling.frequency_penalty * counts
    if sampling.presence_penalty:
        stages["presence_penalty"] = scores = scores - sampling.presence_penalty * (counts > 0)
    if not sampling.greedy:
        temper: Any = TemperatureLogitsWarper(sampling.temperature)
        stages["temperature"] = scores = temper(ids, scores)
        if sampling.top_k:
            top_k: Any = TopKLogitsWarper(sampling.top_k)
            stages["top_k"] = scores = top_k(ids, scores)
        if sampling.top_p < 1:
            top_p: Any = TopPLogitsWarper(sampling.top_p)
            stages["top_p"] = scores = top_p(ids, scores)
        if sampling.min_p > 0:
            min_p: Any = MinPLogitsWarper(sampling.min_p)
            stages["min_p"] = scores = min_p(ids, scores)
    return {name: stage[0].softmax(-1) for name, stage in stages.items()}


@settings(max_examples=budget(200))
@given(
    seed=st.integers(0, 10**6),
    sampling=samplings,
    number=numbers,
    seen=st.sets(st.integers(0, 59), min_size=1),
    data=st.data(),
)
def test_every_stage_is_that_of_transformers_and_says_what_it_cut(
    seed: int, sampling: Sampling, number: float, seen: set[int], data: st.DataObject
) -> None:
    logits, answer = row(seed), data.draw(st.lists(st.sampled_from(sorted(seen)), max_size=9))
    found = trace(logits, sampling, seen, number, answer_ids=answer)
    expected = of_transformers(logits, sampling, seen, answer)
    stages = {stage.name: stage for stage in found.stages}
    names = [*expected, "temperature"] if sampling.greedy else list(expected)
    assert [stage.name for stage in found.stages] == names
    for name, probabilities in expected.items():
        torch.testing.assert_close(stages[name].probabilities, probabilities, atol=1e-6, rtol=1e-5)
    before = found.stages[0].probabilities
    for stage in found.stages:
        assert float(stage.probabilities.sum()) == pytest.approx(1, abs=1e-9)
        assert stage.kept == int((stage.probabilities > 0).sum())
        if stage.name in {"top_k", "top_p", "min_p"}:
            assert stage.removed_mass == pytest.approx(float(before[stage.probabilities == 0].sum()), abs=1e-9)
        before = stage.probabilities
    assert float(found.stages[-1].probabilities[found.token_id]) > 0, "what was drawn was possible"


@settings(max_examples=budget(200))
@given(seed=st.integers(0, 10**6), sampling=samplings, number=numbers, seen=st.sets(st.integers(0, 59), min_size=1))
def test_the_token_at_the_end_of_the_chain_is_the_one_that_is_drawn(
    seed: int, sampling: Sampling, number: float, seen: set[int]
) -> None:
    logits = row(seed)
    found = trace(logits, sampling, seen, number)
    adjustments = [ADJUSTMENTS[stage.name](value) for stage, value in sampling.active(changes_argmax=True)]
    after = adjusted(logits, adjustments, History(seen))
    if sampling.greedy:
        assert (found.token_id, found.uniform) == (int(after.argmax()), None)
    else:
        assert (found.token_id, found.uniform) == (draw(after, sampling, number), number)


@settings(max_examples=budget(150))
@given(
    values=st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=2, max_size=300),
    top_k=st.integers(0, 12),
    top_p=st.sampled_from([1.0, 0.9, 0.5, 0.1]),
    min_p=st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    number=numbers,
)
def test_where_logits_are_equal_the_token_that_was_drawn_is_among_those_that_were_kept(
    values: list[float], top_k: int, top_p: float, min_p: float, number: float
) -> None:
    """The draw and the table must break ties in one way, or the table would show the choice of an impossible token."""
    found = trace(torch.tensor(values), Sampling(temperature=1.0, top_k=top_k, top_p=top_p, min_p=min_p), {0}, number)
    assert float(found.stages[-1].probabilities[found.token_id]) > 0
    assert float(found.stages[-1].probabilities.sum()) == pytest.approx(1)


def test_masked_tokens_stay_impossible_in_every_stage() -> None:
    logits = row(1)
    logits[10:] = -math.inf
    for stage in trace(logits, Sampling(temperature=2.0, top_k=20, top_p=0.99), {1}, 0.7).stages:
        assert stage.kept <= 10
        assert float(stage.probabilities[10:].sum()) == 0


def test_the_logits_are_left_as_they_are() -> None:
    logits = row(2)
    before = logits.clone()
    trace(logits, Sampling(temperature=0.5, top_k=5, top_p=0.5, repetition_penalty=2.0), {1, 2}, 0.5)
    assert torch.equal(logits, before)


# ------------------------------------------------------------------------------------------------------ what is kept


def test_the_oldest_positions_go_first_and_memory_stays_within_its_budget() -> None:
    kept = KeptLogits(10 * 60 * 4 + 7)
    for run, position in ((1, 0), (2, 0), *((1, at) for at in range(1, 12))):
        kept.add(run, position, row(position), None)
        assert kept.nbytes <= kept.budget_bytes
    assert kept.positions(1) == list(range(2, 12))
    assert kept.positions(2) == []
    assert kept.nbytes == 10 * 60 * 4
    kept.clear()
    assert (kept.nbytes, kept.positions(1)) == (0, [])


@settings(max_examples=budget(100), deadline=None)
@given(st.lists(st.integers(1, 40), max_size=40), st.integers(0, 40_000))
def test_the_rows_of_steps_hold_at_most_an_eighth_more_memory_than_the_budget(
    steps: list[int], budget_bytes: int
) -> None:
    kept, added = KeptLogits(budget_bytes), 0
    for rows in steps:
        batch = torch.randn(rows, 60, generator=torch.Generator().manual_seed(added))
        for logits in batch:
            kept.add(1, added, logits, 0.5)
            added += 1
        found = [one for at in kept.positions(1) if (one := kept.get(1, at)) is not None]
        held = {one.logits.untyped_storage().data_ptr(): one.logits.untyped_storage().nbytes() for one in found}
        assert sum(held.values()) <= budget_bytes + max(budget_bytes // 8, 2 * 60 * 4)
        last = kept.get(1, added - 1)
        assert budget_bytes < 60 * 4 or (last is not None and torch.equal(last.logits, batch[-1]))


def test_a_row_of_a_large_step_is_copied_and_does_not_hold_the_others() -> None:
    batch = torch.zeros(16, 60)
    kept = KeptLogits(8 * (16 * 60 * 4) - 1)
    kept.add(1, 0, batch[3], 0.5)
    found = kept.get(1, 0)
    assert found is not None
    assert torch.equal(found.logits, batch[3])
    assert found.logits.untyped_storage().nbytes() == 60 * 4


def test_no_budget_keeps_nothing(engine_of: MakeEngine) -> None:
    kept = KeptLogits(0)
    kept.add(1, 0, row(0), None)
    assert (kept.get(1, 0), kept.nbytes) == (None, 0)


# ------------------------------------------------------------------------------------------------ through an engine


def run(engine: Engine, sampling: Sampling, seed: int = 0, max_tokens: int = 10) -> tuple[Handle, Heard]:
    rng = random.Random(seed)
    prompt = tuple(rng.randrange(3, 250) for _ in range(20))
    handle, heard = submit(
        engine,
        GenerationRequest(
            prompt_ids=prompt, sampling=sampling, max_tokens=max_tokens, stop_ids=frozenset(), alternatives=4
        ),
    )
    return handle, heard.wait()


@pytest.fixture(scope="module")
def shared_engine(tiny_llama: LoadedModel) -> Any:
    engine = Engine(tiny_llama, prefix_cache_bytes=2**24)
    yield engine
    engine.close()


@settings(max_examples=budget(40))
@given(sampling=samplings, seed=st.integers(0, 100))
def test_the_trace_ends_in_the_token_of_the_run_at_every_position(
    shared_engine: Engine, sampling: Sampling, seed: int
) -> None:
    handle, heard = run(shared_engine, sampling, seed)
    for position, token_id in enumerate(heard.ids):
        found = shared_engine.inspect(handle, position)
        assert found.token_id == token_id
        assert (found.uniform is None) is sampling.greedy
        again = shared_engine.inspect(handle, position, sampling, found.uniform)
        assert (again.token_id, again.uniform) == (token_id, found.uniform)


@settings(max_examples=budget(20))
@given(sampling=samplings, seed=st.integers(0, 100))
def test_the_kept_distribution_is_the_one_that_was_recorded(
    shared_engine: Engine, sampling: Sampling, seed: int
) -> None:
    handle, heard = run(shared_engine, sampling, seed)
    for position, step in enumerate(heard.steps):
        logprobs = shared_engine.kept(handle, position).logits.double().log_softmax(-1)
        assert float(logprobs.exp().sum()) == pytest.approx(1, abs=1e-9)
        stats = step.stats
        assert float(logprobs[stats.token_id]) == pytest.approx(stats.logprob, abs=1e-5)
        assert 1 + int((logprobs > logprobs[stats.token_id]).sum()) == stats.rank
        for other in stats.alternatives:
            assert float(logprobs[other.token_id]) == pytest.approx(other.logprob, abs=1e-5)
        raw = shared_engine.inspect(handle, position).stages[0].probabilities
        torch.testing.assert_close(raw, logprobs.exp())


def test_the_recorded_numbers_are_those_of_the_seed(engine_of: MakeEngine) -> None:
    engine = engine_of(FakeDecoder())
    handle, heard = run(engine, Sampling(temperature=1.0, seed=42))
    stream = random.Random(42)
    assert [engine.inspect(handle, at).uniform for at in range(len(heard.ids))] == [stream.random() for _ in heard.ids]


def test_other_parameters_are_tried_with_the_same_number(engine_of: MakeEngine) -> None:
    engine = engine_of(FakeDecoder())
    handle, heard = run(engine, Sampling(temperature=1.5, seed=1))
    for position in range(len(heard.ids)):
        number = engine.inspect(handle, position).uniform
        assert number is not None
        logits = engine.kept(handle, position).logits
        for other in (
            Sampling(temperature=0.5),
            Sampling(temperature=1.5, top_k=3),
            Sampling(temperature=1, top_p=0.3),
        ):
            found = engine.inspect(handle, position, other)
            assert (found.uniform, found.token_id) == (number, draw(logits, other, number))
        assert engine.inspect(handle, position, Sampling()).token_id == int(logits.argmax())
        assert engine.inspect(handle, position, uniform=0.0).token_id == int(logits.argmax())


def test_a_greedy_run_can_be_asked_what_sampling_would_have_done(engine_of: MakeEngine) -> None:
    engine = engine_of(FakeDecoder())
    handle, heard = run(engine, Sampling())
    assert engine.inspect(handle, 0).uniform is None
    found = engine.inspect(handle, 0, Sampling(temperature=3.0), 0.99)
    assert found.uniform == 0.99
    assert found.token_id != heard.ids[0]
    assert engine.inspect(handle, 0, Sampling(temperature=3.0)).uniform == 0.5


def same(a: Trace, b: Trace) -> bool:
    stages = zip(a.stages, b.stages, strict=True)
    return (a.token_id, a.uniform) == (b.token_id, b.uniform) and all(
        torch.equal(x.probabilities, y.probabilities) for x, y in stages
    )


def test_looking_changes_nothing_of_what_comes_after() -> None:
    """Two engines do the same work; at one of them, every position is looked at in every way between the runs."""
    engines = [Engine(_fake(), prefix_cache_bytes=2**20) for _ in range(2)]
    state = torch.random.get_rng_state()
    answers: list[list[Any]] = [[], []]
    for seed in range(3):
        for index, engine in enumerate(engines):
            handle, heard = run(engine, Sampling(temperature=1.0, top_p=0.9, repetition_penalty=1.2, seed=seed), 5)
            answers[index].append((told(heard), heard.started, list(handle.token_ids)))
            if index == 0:
                for position in range(len(heard.ids)):
                    first = engine.inspect(handle, position)
                    engine.inspect(handle, position, Sampling(temperature=2.0, top_k=3), 0.1)
                    engine.kept(handle, position)
                    assert same(first, engine.inspect(handle, position))
    assert answers[0] == answers[1]
    assert torch.equal(torch.random.get_rng_state(), state)
    for engine in engines:
        engine.close()


def _fake() -> LoadedModel:
    from tests.fakes.models import fake_model

    return fake_model(FakeDecoder())


def test_a_run_can_be_looked_at_while_it_and_others_go_on(engine_of: MakeEngine) -> None:
    decoder = FakeDecoder(rows_per_step=4)
    decoder.before_decode = lambda _: time.sleep(0.005)
    engine = engine_of(decoder)
    requests = [
        GenerationRequest(
            prompt_ids=(seed, 2), sampling=Sampling(temperature=1.0, seed=seed), max_tokens=40, stop_ids=frozenset()
        )
        for seed in (1, 2)
    ]
    running = [submit(engine, request) for request in requests]
    deadline = time.monotonic() + 30
    while not running[0][1].steps and time.monotonic() < deadline:
        time.sleep(0.001)
    early = engine.inspect(running[0][0], 0)
    assert not running[0][1].ended.is_set(), "the look did not wait for the end"
    for handle, heard in running:
        heard.wait()
        assert [engine.inspect(handle, at).token_id for at in range(40)] == heard.ids
    assert same(early, engine.inspect(running[0][0], 0))


def test_old_positions_are_dropped_with_an_error_that_says_what_is_left(engine_of: MakeEngine) -> None:
    model = _fake()
    engine = Engine(model, prefix_cache_bytes=0, kept_logits_bytes=8 * VOCAB * 4)
    try:
        handle, heard = run(engine, Sampling(), max_tokens=20)
        assert len(heard.ids) == 20
        for position in range(12):
            with pytest.raises(InvalidRequestError, match=f"got {position}$") as caught:
                engine.inspect(handle, position)
            assert "from 12 to 19" in str(caught.value)
            assert caught.value.field == "position"
        assert [engine.inspect(handle, at).token_id for at in range(12, 20)] == heard.ids[12:]
        run(engine, Sampling(), seed=1, max_tokens=8)
        with pytest.raises(InvalidRequestError, match="this one has none left"):
            engine.inspect(handle, 19)
    finally:
        engine.close()


@pytest.mark.parametrize("position", [-1, 10, 10**9, "0", None, 0.5, math.nan])
def test_a_position_that_was_not_generated_is_refused(engine_of: MakeEngine, position: Any) -> None:
    engine = engine_of(FakeDecoder())
    handle, _ = run(engine, Sampling())
    for look in (engine.inspect, engine.kept):
        with pytest.raises(InvalidRequestError, match=r"position.*from 0 to 9"):
            look(handle, position)


def test_penalties_count_what_stood_before_the_position_and_not_what_came_after(engine_of: MakeEngine) -> None:
    engine = engine_of(FakeDecoder())
    sampling = Sampling(temperature=1.0, repetition_penalty=1.8, frequency_penalty=0.4, presence_penalty=-0.2, seed=3)
    handle, heard = run(engine, sampling, max_tokens=15)
    sampler = Sampler(sampling, handle.request.prompt_ids)
    for position, token_id in enumerate(heard.ids):
        logits = engine.kept(handle, position).logits
        assert sampler.choose(logits) == (token_id, engine.inspect(handle, position).uniform)


def test_a_run_that_ended_at_a_stop_string_can_still_be_looked_at(engine_of: MakeEngine) -> None:
    engine = engine_of(FakeDecoder())
    handle, heard = submit(
        engine, GenerationRequest(prompt_ids=(5,), max_tokens=200, stop_strings=("e",), stop_ids=frozenset())
    )
    heard.wait()
    for position, token_id in enumerate(heard.ids):
        assert engine.inspect(handle, position).token_id == token_id


def test_every_family_keeps_what_its_tokens_were_chosen_from(engine_of: MakeEngine, tiny_model: LoadedModel) -> None:
    engine = engine_of(model=tiny_model)
    handle, heard = run(engine, Sampling(temperature=1.0, top_p=0.8, seed=9))
    assert [engine.inspect(handle, at).token_id for at in range(len(heard.ids))] == heard.ids
    again = generate(engine, handle.request)
    assert again.ids == heard.ids
