"""Expectations hold or fail with the distribution in words, and refuse what could not be checked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.models import FakeDecoder, random_speech, scripted_speech
from tests.fakes.serving import FakeModels
from workbench import Run, Workbench, expect
from workbench.errors import GenerationError, InvalidRequestError
from workbench.protocol import LogProbConfig, SamplingParams
from workbench.records import Alternative, Score, TokenRecord

ALTERNATIVE = Alternative(2, " no", b" no", math.log(0.25), 2)
TOKENS = (
    TokenRecord(0, 1, " yes", b" yes", math.log(0.5), 1, 1.0, (ALTERNATIVE,)),
    TokenRecord(1, 3, "!", b"!", math.log(0.125), 4, 1.0),
)
SCORE = Score(" yes!", TOKENS)
"""Stands for an answer of which only the alternatives are known."""


@pytest.fixture
def bench(fake_models: FakeModels) -> Iterator[Workbench]:
    fake_models.add("random", FakeDecoder(random_speech()))
    fake_models.add("hello", FakeDecoder(scripted_speech("hello")))
    fake_models.add("help", FakeDecoder(scripted_speech("help")))
    with Workbench(fake_models.config) as bench:
        yield bench


@pytest.fixture
def run(bench: Workbench) -> Run[Any, Any]:
    return bench.completion("\0", sampling_params=SamplingParams(max_tokens=6))


def test_a_probability_within_its_bounds_is_returned() -> None:
    assert expect.prob(SCORE, " yes", at_least=0.4) == pytest.approx(0.5)
    assert expect.prob(SCORE, " no", at_least=0.25, at_most=0.25) == pytest.approx(0.25)
    assert expect.prob(SCORE, 3, position=1, at_most=0.2) == pytest.approx(0.125)


def test_a_probability_outside_fails_and_shows_the_distribution() -> None:
    with pytest.raises(AssertionError) as failed:
        expect.prob(SCORE, " no", at_least=0.9)
    lines = str(failed.value).splitlines()
    assert lines[0] == "expected the probability of ' no' to be at least 0.9; it is 0.25"
    assert "position 0, after the prompt:" in lines[1]
    assert lines[2].split() == ["1", "0.5000", "█" * 12, "'", "yes'", "<-", "sampled"]
    assert lines[3].split() == ["2", "0.2500", "█" * 6, "'", "no'"]
    assert lines[4] == "  2 tokens cover 0.7500"
    with pytest.raises(AssertionError, match=r"to be at most 0\.1; it is 0\.125"):
        expect.prob(SCORE, "!", position=1, at_most=0.1)


def test_a_rank_within_its_bounds_is_returned_and_another_fails() -> None:
    assert expect.rank(SCORE, " yes", at_most=1) == 1
    assert expect.rank(SCORE, "!", position=1, at_least=4, at_most=4) == 4
    with pytest.raises(AssertionError, match="expected the rank of ' no' to be at most 1; it is 2"):
        expect.rank(SCORE, " no", at_most=1)
    with pytest.raises(AssertionError, match="expected the rank of ' yes' to be 2; it is 1"):
        expect.rank(SCORE, " yes", at_least=2, at_most=2)


def test_a_logprob_within_the_tolerance_is_returned_and_another_fails() -> None:
    assert expect.logprob(SCORE, " yes", -0.69, tolerance=0.01) == pytest.approx(math.log(0.5))
    with pytest.raises(AssertionError, match=r"to be within 0\.01 of -0\.6; it is -0\.693147, 0\.093 off"):
        expect.logprob(SCORE, " yes", -0.6, tolerance=0.01)


def test_an_expectation_waits_for_the_run_and_sees_its_whole_distribution(run: Run[Any, Any]) -> None:
    whole = run.result(30) and run.distribution(2)
    least = whole.iloc[-1]
    assert expect.rank(run, int(least.token_id), position=2, at_least=100) == least["rank"]
    with pytest.raises(AssertionError) as failed:
        expect.prob(run, int(least.token_id), position=2, at_least=0.5)
    shown = str(failed.value).splitlines()
    assert len(shown) == 1 + 1 + 8 + 1 + 1
    assert repr(least.text) in shown[-2]


def test_the_error_of_a_failed_run_comes_before_any_expectation(fake_models: FakeModels) -> None:
    def broken(_: object) -> None:
        raise GenerationError("it broke")

    fake_models.add("broken").before_decode = broken
    with Workbench(fake_models.config) as bench, pytest.raises(GenerationError, match="it broke"):
        expect.prob(bench.completion("\0"), "x", at_least=0.1)


def test_the_same_tokens_are_returned_whatever_they_are_compared_with(bench: Workbench, run: Run[Any, Any]) -> None:
    again = bench.completion("\0", sampling_params=SamplingParams(max_tokens=6))
    ids = expect.same_tokens(run, again)
    assert ids == [token.token_id for token in run.tokens]
    assert expect.same_tokens(run, run.capsule) == expect.same_tokens(ids, run) == ids
    assert expect.divergence(run, again, position=None) is None


def test_other_tokens_fail_with_both_distributions_at_the_first_difference(bench: Workbench) -> None:
    one, other = bench.completion("\0", model="hello"), bench.completion("\0", model="help")
    with pytest.raises(AssertionError) as failed:
        expect.same_tokens(one, other)
    said = str(failed.value)
    assert said.startswith("expected the same tokens; they differ from position 3")
    assert "run: 'l' (token 108)" in said
    assert "other: 'p' (token 112)" in said
    assert said.count("position 3, after 'hel':") == 2
    assert expect.divergence(one, other, position=3) == 3


def test_a_divergence_elsewhere_fails(bench: Workbench) -> None:
    one, other = bench.completion("\0", model="hello"), bench.completion("\0", model="help")
    with pytest.raises(
        AssertionError, match="expected the tokens to differ from position 1; they differ from position 3"
    ):
        expect.divergence(one, other, position=1)
    with pytest.raises(AssertionError, match="expected the same tokens; they differ from position 3"):
        expect.divergence(one, other, position=None)
    with pytest.raises(AssertionError, match="expected the tokens to differ from position 2; they are the same"):
        expect.divergence(one, one, position=2)


def test_an_answer_that_ends_first_is_said_to_have_ended() -> None:
    with pytest.raises(AssertionError, match="other: ended after 1 tokens"):
        expect.same_tokens(SCORE, [1])
    assert expect.divergence(SCORE, [1], position=1) == 1


def test_tokens_whose_ids_nobody_tells_are_compared_by_their_texts() -> None:
    def told(text: str) -> Score:
        return Score(text, (TokenRecord(0, -1, text, text.encode(), math.nan, 0, math.nan),))

    assert expect.same_tokens(told("a"), told("a")) == ["a"]
    assert expect.same_tokens(["a"], told("a")) == ["a"]
    with pytest.raises(AssertionError, match="differ from position 0"):
        expect.same_tokens(told("a"), ["b"])
    with pytest.raises(InvalidRequestError, match="token"):
        expect.prob(told("a"), "a", at_least=0.1)


@pytest.mark.parametrize(
    "check, message",
    [
        (lambda: expect.prob(SCORE, " yes"), "at_least must be given, or at_most"),
        (lambda: expect.prob(SCORE, " yes", at_least=2), "at_least must be a probability"),
        (lambda: expect.prob(SCORE, " yes", at_most=math.nan), "at_most must be a probability"),
        (lambda: expect.prob(SCORE, " yes", at_least=0.5, at_most=0.1), "at_least must be no larger than at_most"),
        (lambda: expect.prob(SCORE, " yes", position=2, at_least=0), "position must be the index of one of 2"),
        (lambda: expect.prob(SCORE, " yes", position=-1, at_least=0), "position"),
        (lambda: expect.prob(SCORE, " maybe", at_least=0), r"token must be one of the 2 tokens.*LogProbConfig"),
        (lambda: expect.prob(SCORE, 2.5, at_least=0), "token must be the text or the id"),  # type: ignore[arg-type]
        (lambda: expect.prob("text", " yes", at_least=0), "run must be a Run or a Score"),  # type: ignore[arg-type]
        (lambda: expect.rank(SCORE, " yes"), "at_least must be given"),
        (lambda: expect.rank(SCORE, " yes", at_most=0), "at_most must be a rank"),
        (lambda: expect.logprob(SCORE, " yes", 0.5, tolerance=1), "expected must be a finite log probability"),
        (lambda: expect.logprob(SCORE, " yes", -1, tolerance=-1), "tolerance must be a number of nats"),
        (lambda: expect.same_tokens(SCORE, "text"), "other must be a Run, a Score"),
        (lambda: expect.same_tokens([1, 2.5], SCORE), "run must be a list of token ids"),  # type: ignore[list-item]
        (lambda: expect.divergence(SCORE, SCORE, position=-1), "position"),
    ],
)
def test_what_cannot_be_checked_is_refused_by_name(check: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        check()


def test_a_text_that_is_no_token_of_the_model_is_refused(run: Run[Any, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="a token of the model; none of its 260"):
        expect.prob(run, "no such token", at_most=0.1)


def test_an_alternative_of_a_run_is_found_by_text_and_by_id(bench: Workbench) -> None:
    run = bench.completion("\0", model="hello", logprobs=LogProbConfig(top_k=1))
    assert expect.prob(run, "h", at_least=0.9) == expect.prob(run, ord("h"), at_least=0.9)
