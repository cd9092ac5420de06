"""Measured logprobs are the raw distribution's, complete and in order."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.budget import budget
from workbench.engine.logprobs import measure

FLOAT32 = 2.0**-22
"""A number of some hundreds is known no better in float32."""


def logits_of(seed: int, rows: int, vocab: int, spread: float = 4.0) -> Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * spread


@settings(max_examples=budget(100))
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 5), vocab=st.integers(1, 60), spread=st.floats(0.1, 30))
def test_values_are_those_of_a_float64_softmax(seed: int, rows: int, vocab: int, spread: float) -> None:
    logits = logits_of(seed, rows, vocab, spread)
    token_ids = [index % vocab for index in range(rows)]
    exact = logits.double().log_softmax(-1)
    for row, stats in enumerate(measure(logits, token_ids, [vocab] * rows)):
        assert stats.token_id == token_ids[row]
        assert stats.logprob == pytest.approx(float(exact[row, token_ids[row]]), rel=FLOAT32, abs=1e-5)
        assert stats.rank == 1 + int((logits[row] > logits[row, token_ids[row]]).sum())
        assert stats.entropy == pytest.approx(float(-(exact[row].exp() * exact[row]).sum()), abs=1e-4)
        everyone = [(stats.token_id, stats.logprob), *((one.token_id, one.logprob) for one in stats.alternatives)]
        assert sorted(token_id for token_id, _ in everyone) == list(range(vocab))
        assert sum(math.exp(logprob) for _, logprob in everyone) == pytest.approx(1, abs=1e-5)
        for candidate in stats.alternatives:
            assert candidate.logprob == pytest.approx(float(exact[row, candidate.token_id]), rel=FLOAT32, abs=1e-5)
            assert candidate.rank == 1 + int((logits[row] > logits[row, candidate.token_id]).sum())


@settings(max_examples=budget(100))
@given(seed=st.integers(0, 10**6), chosen=st.integers(0, 29), count=st.integers(1, 15))
def test_asking_for_more_alternatives_changes_none(seed: int, chosen: int, count: int) -> None:
    logits = logits_of(seed, 1, 30)
    (few,), (many,) = measure(logits, [chosen], [count]), measure(logits, [chosen], [2 * count])
    assert many.alternatives[:count] == few.alternatives
    assert (many.logprob, many.rank, many.entropy) == (few.logprob, few.rank, few.entropy)
    assert len(few.alternatives) == count
    assert len(many.alternatives) == min(2 * count, 29)


def test_the_chosen_token_is_no_alternative_to_itself() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    for chosen, others in ((0, [1, 2]), (1, [0, 2]), (3, [0, 1])):
        (stats,) = measure(logits, [chosen], [2])
        assert [one.token_id for one in stats.alternatives] == others


def test_the_greedy_token_has_rank_one() -> None:
    logits = logits_of(1, 8, 100)
    assert [stats.rank for stats in measure(logits, logits.argmax(-1).tolist(), [0] * 8)] == [1] * 8


def test_equals_share_the_better_rank() -> None:
    (stats,) = measure(torch.tensor([[1.0, 2.0, 1.0, 0.0]]), [2], [3])
    assert stats.rank == 2
    assert {one.token_id: one.rank for one in stats.alternatives} == {1: 1, 0: 2, 3: 4}


def test_rows_ask_for_different_numbers_of_alternatives() -> None:
    found = measure(logits_of(2, 3, 10), [1, 2, 3], [0, 4, 100])
    assert [len(stats.alternatives) for stats in found] == [0, 4, 9]


def test_a_row_is_measured_the_same_alone_and_among_others() -> None:
    logits = logits_of(3, 6, 200)
    together = measure(logits, list(range(6)), [5] * 6)
    alone = [measure(logits[row : row + 1], [row], [5])[0] for row in range(6)]
    assert together == alone


def test_masked_tokens_are_no_alternatives_and_add_no_entropy() -> None:
    logits = torch.tensor([[0.0, -math.inf, 0.0, -math.inf]])
    (stats,) = measure(logits, [0], [3])
    assert (stats.rank, [(one.token_id, one.rank) for one in stats.alternatives]) == (1, [(2, 1)])
    assert [stats.logprob, stats.alternatives[0].logprob, -stats.entropy] == pytest.approx([-math.log(2)] * 3)


def test_nan_logits_give_nan_and_no_invented_number() -> None:
    (stats,) = measure(torch.tensor([[math.nan, 1.0]]), [1], [1])
    assert math.isnan(stats.logprob)


def test_logits_are_left_as_they_are() -> None:
    logits = logits_of(4, 2, 20)
    before = logits.clone()
    measure(logits, [0, 1], [5, 5])
    assert torch.equal(logits, before)
