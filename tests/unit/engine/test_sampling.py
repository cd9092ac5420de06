"""Choosing a token: the same distribution as transformers' processors, one number a token, no global state touched."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.budget import budget
from workbench.engine.adjustments import ADJUSTMENTS, History, adjusted
from workbench.engine.kernels.row_reductions import LogitsSummary, masked, top_k_values
from workbench.engine.sampling import COLDEST, Sampler, Sampling, argmax, draw, nucleus
from workbench.errors import InvalidRequestError, NumericalError
from workbench.protocol import SamplingParams, effective_sampling


def implied(logits: Tensor, sampling: Sampling, resolution: float = 1e-9) -> dict[int, float]:
    """The distribution that `draw` realises, by bisecting for the numbers at which its choice changes."""
    mass: dict[int, float] = {}
    low, one = 0.0, 1 - 2**-53
    while low <= one:
        token_id = draw(logits, sampling, low)
        inside, outside = low, one
        if draw(logits, sampling, one) == token_id:
            inside = outside = 1.0
        while outside - inside > resolution:
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if draw(logits, sampling, middle) == token_id else (inside, middle)
        assert token_id not in mass, "each token owns one interval"
        mass[token_id] = outside - low
        low = outside
    return mass


def of_transformers(
    logits: Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> Tensor:
    """Probabilities after transformers' warpers, in float64."""
    warpers: list[Any] = [TemperatureLogitsWarper(temperature)]
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    if min_p > 0:
        warpers.append(MinPLogitsWarper(min_p))
    scores: Any = LogitsProcessorList(warpers)(torch.LongTensor([[0]]), logits.double().unsqueeze(0))
    probabilities: Tensor = scores[0].softmax(-1)
    return probabilities


def check_equal(found: dict[int, float], expected: Tensor, least: float = 1e-6) -> None:
    support = {index for index, probability in enumerate(expected.tolist()) if probability > least}
    assert support <= set(found)
    assert all(expected[index] > 0 for index in found), "nothing outside the support is ever drawn"
    for token_id, mass in found.items():
        assert mass == pytest.approx(float(expected[token_id]), abs=2e-6)
    assert sum(found.values()) == pytest.approx(1, abs=1e-6)


def distinct_logits(size: int, seed: int, spread: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(size, generator=generator).float() * (spread / size) + torch.randn(1, generator=generator)


@settings(max_examples=budget(60))
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(2, 40),
    spread=st.sampled_from([0.5, 3.0, 20.0]),
    temperature=st.floats(0.05, 5),
    top_k=st.integers(0, 50),
    top_p=st.floats(0.01, 1),
    min_p=st.sampled_from([0.0, 0.02, 0.3, 1.0]) | st.floats(0, 1),
)
def test_the_drawn_distribution_is_that_of_transformers(
    seed: int, size: int, spread: float, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = distinct_logits(size, seed, spread)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    expected = of_transformers(logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    # Where an end falls on a share to within rounding, float32 and float64 may keep one candidate more or less.
    kept = of_transformers(logits, temperature=temperature, top_k=top_k).sort(descending=True).values
    at_the_edge = min(float((kept.cumsum(0) - top_p).abs().min()), float((kept[1:] / kept[0] - min_p).abs().min()))
    if at_the_edge > 1e-5:
        check_equal(implied(logits, sampling), expected)


@pytest.mark.parametrize("top_k", [0, 300])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("min_p", [0.0, 0.77, 0.9, 0.99])
def test_many_candidates_are_looked_at_where_the_draw_needs_them(top_k: int, top_p: float, min_p: float) -> None:
    """A flat distribution, of which the first look at the best 128 covers only a part."""
    logits = distinct_logits(700, 3, spread=0.3)
    expected = of_transformers(logits, top_k=top_k, top_p=top_p, min_p=min_p).sort(descending=True)
    cumulative = expected.values.cumsum(0)
    sampling = Sampling(temperature=1.0, top_k=top_k, top_p=top_p, min_p=min_p)
    for number in np.linspace(0.0005, 0.9995, 200).tolist():
        place = int(torch.searchsorted(cumulative, number, right=True))
        if min(abs(float(cumulative[at]) - number) for at in (place, max(0, place - 1))) > 1e-5:
            assert draw(logits, sampling, number) == int(expected.indices[place])


@settings(max_examples=budget(60))
@given(values=st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=2, max_size=12), top_k=st.integers(0, 12))
def test_equal_logits_have_equal_shares(values: list[float], top_k: int) -> None:
    logits = torch.tensor(values)
    found = implied(logits, Sampling(temperature=0.7, top_k=top_k))
    count = min(top_k or len(values), len(values))
    assert len(found) == count, "exactly top_k candidates, also where the last of them has equals"
    assert sorted(values, reverse=True)[:count] == sorted((values[token_id] for token_id in found), reverse=True)
    for a in found:
        for b in found:
            if values[a] == values[b]:
                assert found[a] == pytest.approx(found[b], abs=2e-6)


def test_one_candidate_is_greedy_also_with_equals() -> None:
    logits = torch.tensor([1.0, 5.0, 5.0, 5.0])
    sampler, greedy = Sampler(Sampling(temperature=1.0, top_k=1), ()), Sampler(Sampling(), ())
    assert sampler.choose(logits) == greedy.choose(logits) == (int(logits.argmax()), None)


def test_more_candidates_than_tokens_are_all_of_them() -> None:
    logits = distinct_logits(20, 1)
    for number in np.linspace(0, 0.999, 50).tolist():
        chosen = {draw(logits, Sampling(temperature=1.0, top_k=top_k), number) for top_k in (0, 20, 10_000)}
        assert len(chosen) == 1


def test_a_min_p_of_one_keeps_the_best_token_and_its_equals() -> None:
    logits = torch.tensor([1.0, 5.0, 5.0, 4.999, 5.0])
    assert set(implied(logits, Sampling(temperature=3.0, min_p=1.0))) == {1, 2, 4}


def test_a_min_p_stops_the_look_at_candidates_early(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def look(row: Tensor, count: int) -> Any:
        looked.append(count)
        return top_k_values(row, count)

    monkeypatch.setattr("workbench.engine.sampling.top_k_values", look)
    logits = torch.linspace(0, -50, 5000)  # 70 tokens have half the best one's probability
    for number in np.linspace(0, 0.999, 20).tolist():
        assert draw(logits, Sampling(temperature=1.0, min_p=0.5), number) < 70
    assert set(looked) == {128}


def test_a_tiny_top_p_keeps_the_best_token() -> None:
    logits = distinct_logits(20, 2)
    assert implied(logits, Sampling(temperature=5.0, top_p=1e-12)) == {int(logits.argmax()): 1.0}


@pytest.mark.parametrize("temperature", [0.0, 1e-45, 1e-6])
def test_the_coldest_temperatures_are_greedy(temperature: float) -> None:
    logits = torch.tensor([3.0, 3.0001, -1e4])
    assert temperature < COLDEST
    assert Sampler(Sampling(temperature=temperature), ()).choose(logits) == (1, None)


@pytest.mark.parametrize("temperature", [COLDEST, 1e-4, 1e6])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4, 1e30])
def test_extreme_temperatures_and_logits_never_overflow(temperature: float, scale: float) -> None:
    logits = torch.tensor([3.0, 2.0, -3.0, 0.0]) * scale
    for number in (0.0, 0.5, 1 - 2**-53):
        assert 0 <= draw(logits, Sampling(temperature=temperature, top_p=0.95), number) < 4
    assert draw(logits, Sampling(temperature=temperature), 0.0) == 0


def test_a_temperature_of_a_billion_is_refused_before_it_comes_here() -> None:
    with pytest.raises(InvalidRequestError, match="temperature"):
        SamplingParams(temperature=1e9)


def test_masked_tokens_are_never_drawn() -> None:
    logits = torch.tensor([-math.inf, 1.0, -math.inf, 0.0, -math.inf])
    for sampling in (
        Sampling(temperature=1.0),
        Sampling(temperature=2.0, top_p=0.99),
        Sampling(temperature=1, top_k=4),
    ):
        assert set(implied(logits, sampling)) == {1, 3}


@pytest.mark.parametrize(
    "logits",
    [[math.nan, 1.0], [-math.inf, -math.inf], [math.inf, 1.0], [math.nan, math.nan]],
    ids=["one nan", "nothing left", "infinite", "all nan"],
)
@pytest.mark.parametrize("sampling", [{}, {"top_k": 2}, {"top_p": 0.5}])
def test_what_is_no_distribution_is_a_numerical_error(logits: list[float], sampling: dict[str, Any]) -> None:
    with pytest.raises(NumericalError):
        draw(torch.tensor(logits), Sampling(temperature=1.0, **sampling), 0.5)


@settings(max_examples=budget(100))
@given(
    values=st.lists(st.sampled_from([-3.5, -1.0, 0.0, 0.25, 4.0, -math.inf]), min_size=4, max_size=12),
    seen=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    penalty=st.floats(0.1, 10),
)
def test_the_penalty_is_that_of_transformers(values: list[float], seen: list[int], penalty: float) -> None:
    logits = torch.tensor(values)
    oracle: Any = RepetitionPenaltyLogitsProcessor(penalty)
    expected = oracle(torch.tensor([seen]), logits.clone().unsqueeze(0))[0]
    before = logits.clone()
    torch.testing.assert_close(adjusted(logits, [ADJUSTMENTS["penalty"](penalty)], History(seen)), expected)
    assert torch.equal(logits, before), "the raw logits stay as they are, for the logprobs are theirs"


def test_the_penalty_follows_prompt_and_answer() -> None:
    """Each chosen token is penalised from the next step on; 200 of them make the set grow past its first room."""
    sampler = Sampler(Sampling(repetition_penalty=1.5), [0, 1])
    logits = torch.linspace(1, 2, 300).flip(0)
    seen = [0, 1]
    for _ in range(200):
        oracle: Any = RepetitionPenaltyLogitsProcessor(1.5)
        expected = int(oracle(torch.tensor([seen]), logits.clone().unsqueeze(0))[0].argmax())
        token_id, _ = sampler.choose(logits)
        assert token_id == expected
        seen.append(token_id)


BIAS = st.dictionaries(st.integers(0, 3), st.floats(-100, 100, width=32), min_size=1)


@settings(max_examples=budget(150))
@given(
    values=st.lists(st.floats(-30, 30, width=32) | st.just(-math.inf), min_size=4, max_size=12),
    seen=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    bias=BIAS,
    penalty=st.sampled_from([1.0, 1.7]),
)
def test_the_bias_is_that_of_transformers_before_the_penalty(
    values: list[float], seen: list[int], bias: dict[int, float], penalty: float
) -> None:
    logits = torch.tensor(values)
    processors: Any = [
        SequenceBiasLogitsProcessor([[[token_id], value] for token_id, value in bias.items()]),
        RepetitionPenaltyLogitsProcessor(penalty),
    ]
    expected: Any = LogitsProcessorList(processors)(torch.LongTensor([seen]), logits.clone().unsqueeze(0))
    sampling = Sampling(logit_bias=bias, repetition_penalty=penalty)
    adjustments = [ADJUSTMENTS[stage.name](value) for stage, value in sampling.active(changes_argmax=True)]
    torch.testing.assert_close(adjusted(logits, adjustments, History(seen)), expected[0], rtol=0, atol=0)
    assert Sampler(sampling, seen).choose(logits) == (int(expected[0].argmax()), None)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_bias_bans_or_forces_a_token_and_a_mask_still_decides(temperature: float) -> None:
    logits, allowed = distinct_logits(40, 5), torch.zeros(40, dtype=torch.bool)
    best = int(logits.argmax())
    for bias, expected in (({best: -100.0}, None), ({7: 100.0}, 7)):
        sampler = Sampler(Sampling(temperature=temperature, logit_bias=bias, seed=2), ())
        chosen = {sampler.choose(logits)[0] for _ in range(50)}
        assert best not in chosen
        assert expected is None or chosen == {expected}
    allowed[[best, 8]] = True
    banned = Sampler(Sampling(temperature=temperature, logit_bias={best: -100.0, 8: -100.0}, seed=2), ())
    assert {banned.choose(logits, allowed)[0] for _ in range(20)} <= {best, 8}, "of banned tokens, one must be taken"
    forced = Sampler(Sampling(temperature=temperature, logit_bias={9: 100.0}, seed=2), ())
    assert {forced.choose(logits, allowed)[0] for _ in range(20)} <= {best, 8}


PENALTY = st.sampled_from([-2.0, -0.3, 0.0, 0.1, 0.7, 2.0])


@settings(max_examples=budget(150))
@given(
    values=st.lists(st.floats(-30, 30, width=32) | st.just(-math.inf), min_size=4, max_size=12),
    prompt=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    answer=st.lists(st.integers(0, 3), max_size=8),
    repetition=st.sampled_from([1.0, 1.3]),
    frequency=PENALTY,
    presence=PENALTY,
)
def test_the_penalties_are_openais_formula_after_the_repetition_penalty(
    values: list[float], prompt: list[int], answer: list[int], repetition: float, frequency: float, presence: float
) -> None:
    """mu[j] -> mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence, where c counts what was sampled."""
    logits = torch.tensor(values)
    sampling = Sampling(repetition_penalty=repetition, frequency_penalty=frequency, presence_penalty=presence)
    oracle: Any = RepetitionPenaltyLogitsProcessor(repetition)
    expected = oracle(torch.tensor([prompt + answer]), logits.clone().unsqueeze(0))[0].numpy()
    for token_id in range(len(values)):
        count = answer.count(token_id)
        expected[token_id] -= np.float32(frequency) * np.float32(count)
        expected[token_id] -= np.float32(presence) * np.float32(count > 0)
    history = History(prompt)
    for token_id in answer:
        history.add(token_id)
    adjustments = [ADJUSTMENTS[stage.name](value) for stage, value in sampling.active(changes_argmax=True)]
    for counted in (history, History({*prompt, *answer}, answer)):
        assert adjusted(logits, adjustments, counted).tolist() == expected.tolist()
    assert logits.tolist() == values, "the raw logits stay as they are, for the logprobs are theirs"


@pytest.mark.parametrize("frequency,presence", [(0.02, 0.0), (0.0, 0.5), (0.03, -0.1), (-0.5, 0.0)])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_penalties_follow_the_answer_and_not_the_prompt(
    frequency: float, presence: float, temperature: float
) -> None:
    """However the summary of the raw logits would have it; 200 tokens make the counts grow past their first room."""
    sampling = Sampling(temperature=temperature, frequency_penalty=frequency, presence_penalty=presence, seed=3)
    sampler, numbers = Sampler(sampling, [0, 1, 0]), random.Random(3)
    logits = torch.linspace(1, 2, 300).flip(0)
    counts = np.zeros(300, np.float32)
    for _ in range(200):
        expected = torch.from_numpy(
            (logits.numpy() - np.float32(frequency) * counts) - np.float32(presence) * (counts > 0).astype(np.float32)
        )
        summary = LogitsSummary(2.0, 5.0, 5.0, [2.0], [0])
        token_id, number = sampler.choose(logits, summary=summary)
        if temperature:
            assert number == numbers.random()
            assert token_id == draw(expected, sampling, number)
        else:
            assert token_id == int(expected.argmax())
        counts[token_id] += 1


def chosen_by(sampling: Sampling, steps: int = 40) -> list[int]:
    sampler = Sampler(sampling, [1, 2, 3])
    return [sampler.choose(distinct_logits(50, seed))[0] for seed in range(steps)]


def test_no_penalty_is_the_same_as_a_penalty_of_one() -> None:
    assert chosen_by(Sampling(temperature=1.0, seed=5)) == chosen_by(
        Sampling(temperature=1.0, seed=5, repetition_penalty=1.0)
    )


def test_one_seed_gives_one_sequence_and_others_differ() -> None:
    first = chosen_by(Sampling(temperature=2.0, seed=11))
    assert first == chosen_by(Sampling(temperature=2.0, seed=11))
    others = {tuple(chosen_by(Sampling(temperature=2.0, seed=seed))) for seed in range(20)}
    assert len(others) == 20


def test_without_a_seed_each_request_draws_its_own_and_tells_it() -> None:
    samplers = [Sampler(Sampling(temperature=1.0), ()) for _ in range(3)]
    assert len({sampler.seed for sampler in samplers}) == 3
    told = Sampler(Sampling(temperature=2.0), ())
    again = Sampler(Sampling(temperature=2.0, seed=told.seed), ())
    logits = [distinct_logits(50, seed) for seed in range(30)]
    assert [told.choose(row) for row in logits] == [again.choose(row) for row in logits]


def test_global_random_states_are_left_alone() -> None:
    states = torch.random.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    chosen_by(Sampling(temperature=1.0, top_p=0.9))
    chosen_by(Sampling(temperature=1.0, seed=1))
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert repr(np.random.get_state()) == states[2]  # noqa: NPY002


def test_the_best_candidate_comes_first_so_small_numbers_stay_with_it() -> None:
    logits = distinct_logits(30, 9)
    for temperature in (0.3, 1.0, 3.0):
        assert draw(logits, Sampling(temperature=temperature), 0.0) == int(logits.argmax())


@pytest.mark.parametrize(
    "params,expected",
    [
        ({"strategy": "greedy", "temperature": 1.0}, True),
        ({"strategy": "top_p", "temperature": 0.0}, True),
        ({"strategy": "top_p", "temperature": 1e-45}, True),
        ({"strategy": "top_k", "temperature": 1.0, "top_k": 1}, True),
        ({"strategy": "top_k", "temperature": 1.0, "top_k": 0}, False),
        ({"strategy": "top_p", "temperature": 1.0}, False),
    ],
)
def test_the_protocols_table_and_the_sampler_agree_on_what_is_greedy(params: dict[str, Any], expected: bool) -> None:
    effective = effective_sampling(SamplingParams(**params))
    sampling = Sampling(temperature=effective.temperature, top_k=effective.top_k, top_p=effective.top_p)
    assert sampling.greedy is expected


def frequencies(ids: Sequence[int], size: int) -> list[float]:
    return [ids.count(index) / len(ids) for index in range(size)]


def test_the_numbers_used_are_uniform() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    sampler = Sampler(Sampling(temperature=1.0, seed=0), ())
    ids = [sampler.choose(logits)[0] for _ in range(4000)]
    assert frequencies(ids, 3) == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


@settings(max_examples=budget(300))
@given(
    seed=st.integers(0, 10**6),
    vocab=st.integers(1, 600),
    share=st.floats(0, 1),
    temperature=st.sampled_from([0.3, 1.0, 3.0]),
    top_k=st.sampled_from([0, 1, 5, 1000]),
    top_p=st.sampled_from([1.0, 0.9, 0.3]),
    min_p=st.sampled_from([0.0, 0.0, 0.05, 0.4]),
    number=st.floats(0, 1, exclude_max=True),
)
def test_a_choice_among_the_allowed_is_the_choice_from_the_masked_row(
    seed: int, vocab: int, share: float, temperature: float, top_k: int, top_p: float, min_p: float, number: float
) -> None:
    """However few they are, though few are taken out of the row and many are left in it."""
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(vocab, generator=generator) * 3).round(decimals=1)  # with equals among them
    allowed = torch.rand(vocab, generator=generator) < share
    allowed[seed % vocab] = True
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    row = masked(logits, allowed)
    assert argmax(logits, allowed) == int(row.argmax())
    chosen, whole = draw(logits, sampling, number, allowed), draw(row, sampling, number)
    assert allowed[chosen]
    # The sums of a shorter row may differ in the last bit, and with them the token at the very edge of the number.
    assert chosen in {whole, *(draw(row, sampling, min(max(number + d, 0.0), 0.999999)) for d in (1e-6, -1e-6))}
    if top_p == 1.0:
        kept = [nucleus(logits, sampling, allowed), nucleus(row, sampling)]
        assert kept[0][allowed[kept[0]]].tolist() == kept[1][allowed[kept[1]]].tolist()


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0, seed=1)])
@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("vocab", [8, 200])
def test_where_nothing_allowed_is_possible_there_is_no_choice(sampling: Sampling, value: float, vocab: int) -> None:
    logits, allowed = torch.zeros(vocab), torch.zeros(vocab, dtype=torch.bool)
    allowed[[2, 3]] = True
    logits[allowed] = value
    with pytest.raises(NumericalError):
        Sampler(sampling, ()).choose(logits, allowed)
