from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.fakes.contestants import FakeContestant, FakeReader, FakeReference
from workbench.benchmarks.contestants import Contestant
from workbench.benchmarks.exactness import Exactness, divergence, exactness
from workbench.benchmarks.interleaving import Absence

PROMPTS = [[1, 2], [3]]


def logprobs(*weights: float) -> Tensor:
    return torch.tensor(weights, dtype=torch.float32).log_softmax(-1)


def compare(reference: FakeReference, *contestants: Contestant, tokens: int = 12) -> list[Exactness | Absence]:
    return list(exactness(reference, contestants, PROMPTS, tokens, lambda said: None))


def test_the_same_distribution_has_no_divergence_and_always_agrees() -> None:
    reference = FakeReference(logprobs(3, 2, 1, 0))
    (found,) = compare(reference, FakeReader("A", logits=torch.tensor([3.0, 2, 1, 0])))
    assert isinstance(found, Exactness)
    assert found.mean_kl_nat == pytest.approx(0, abs=1e-7)
    assert (found.top1_agreement, found.tokens) == (1.0, 12)


def test_it_is_the_divergence_from_the_reference_in_nats() -> None:
    p, q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.5, 0.25])
    assert divergence(p.log(), q.log()) == pytest.approx(0.25 * math.log(2))
    (found,) = compare(FakeReference(p.log()), FakeReader("A", logits=q.log()))
    assert isinstance(found, Exactness)
    assert found.mean_kl_nat == pytest.approx(0.25 * math.log(2))
    assert found.top1_agreement == 0
    assert found.standard_error_nat == pytest.approx(0, abs=1e-9)


def test_a_distribution_that_does_not_add_up_to_one_is_compared_by_its_shares() -> None:
    p = logprobs(3, 2, 1, 0)
    assert divergence(p, p + 1e-3) == pytest.approx(0, abs=1e-9)


def test_texts_are_written_until_there_are_enough_tokens_each_with_a_seed_of_its_own() -> None:
    reference = FakeReference(logprobs(1.0, 0.0), text_tokens=5)
    (found,) = compare(reference, FakeReader("A", logits=torch.zeros(2)), tokens=12)
    assert isinstance(found, Exactness)
    assert found.tokens == 12
    assert reference.seeds == [0, 1, 2]


def test_who_gives_no_logprobs_is_said_to_be_left_out() -> None:
    found = compare(FakeReference(logprobs(1.0, 0.0)), FakeContestant("B"), FakeReader("A", logits=torch.zeros(2)))
    assert [type(item) for item in found] == [Absence, Exactness]


def test_a_rival_that_fails_is_left_out_and_ours_is_not_forgiven() -> None:
    fine = FakeReader("A", logits=torch.zeros(2))
    rival = FakeReader("B", logits=torch.zeros(2), is_rival=True, fails_at_call=3)
    absent, found = compare(FakeReference(logprobs(1.0, 0.0)), rival, fine)
    assert absent == Absence("B", "exactness", "RuntimeError: out of order")
    assert isinstance(found, Exactness)
    assert (found.contestant, found.tokens) == ("A", 12)
    rival.is_rival, rival.fails_at_call = False, len(rival.asked) + 1
    with pytest.raises(RuntimeError, match="out of order"):
        compare(FakeReference(logprobs(1.0, 0.0)), rival)
