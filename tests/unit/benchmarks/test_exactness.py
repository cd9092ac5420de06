from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.fakes.contestants import FakeContestant, FakeReader, FakeReference
from workbench.benchmarks.contestants import Contestant
from workbench.benchmarks.exactness import Exactness, divergence, exactness, same_ids
from workbench.benchmarks.interleaving import Absence, Result

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


def answers(answer: tuple[int, ...] | None, *contestants: Contestant, prompts: int = 2) -> list[Result]:
    reference = FakeReference(logprobs(1.0, 0.0), answer=answer)
    return list(same_ids(reference, contestants, PROMPTS[:1] * prompts, "ids", lambda said: None))


def test_ids_are_compared_one_by_one_with_those_of_the_reference() -> None:
    ours = FakeContestant("workbench float32")
    assert [one.values for one in answers(None, ours)] == [(1.0,)]
    half = (*range(16), *[0] * 16)
    (found,) = answers(half, ours)
    assert (found.contestant, found.metric, found.median) == ("workbench float32", "ids", 0.5)


def test_an_answer_that_ends_early_differs_in_the_ids_that_it_lacks() -> None:
    (found,) = answers(tuple(range(8)), FakeContestant("workbench float32"))
    assert found.median == 0.25


def test_only_our_own_float32_promises_equal_ids() -> None:
    others = [FakeContestant("workbench int4"), FakeContestant("transformers float32", is_rival=True)]
    assert answers(None, *others) == []
    assert all(not other.asked for other in others)
