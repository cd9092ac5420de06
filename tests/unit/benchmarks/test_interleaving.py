from __future__ import annotations

import pytest

from tests.fakes.contestants import FakeContestant, FakeEmbedder
from workbench.benchmarks.contestants import Entrant
from workbench.benchmarks.interleaving import Absence, Result, interleaved
from workbench.benchmarks.tasks import TASKS, TEXTS, TOGETHER, Sizes, Task

SIZES = Sizes(tokens=11, prompt=100, history=50)


def task(name: str) -> Task:
    return next(task for task in TASKS if task.name == name)


def encode(text: str) -> list[int]:
    return list(text.encode())


def figures(name: str, *entrants: Entrant, rounds: int = 3) -> dict[tuple[str, str], float]:
    found = interleaved(task(name), entrants, encode, SIZES, rounds, lambda said: None)
    return {(item.metric, item.contestant): item.median for item in found if isinstance(item, Result)}


def test_rounds_go_through_all_contestants_in_turn_and_the_first_is_not_counted() -> None:
    log: list[str] = []
    contestants = [FakeContestant(name, log=log) for name in "ABC"]
    found = list(interleaved(task("decode"), contestants, encode, SIZES, 2, lambda said: None))
    assert "".join(log) == "ABC" * 3
    assert all(isinstance(item, Result) and len(item.values) == 2 for item in found)


def test_all_read_the_same_prompt_in_a_round_and_a_new_one_in_the_next() -> None:
    contestants = [FakeContestant(name) for name in "AB"]
    list(interleaved(task("prefill"), contestants, encode, SIZES, 3, lambda said: None))
    first, second = ([prompt for prompt, _ in contestant.asked] for contestant in contestants)
    assert first == second
    assert len(set(first)) == len(first)
    assert {len(prompt) for prompt in first} == {SIZES.prompt}


def test_decode_is_the_speed_after_the_first_token() -> None:
    found = figures("decode", FakeContestant("A", first_s=99, step_s=0.25))
    assert found["decode", "A"] == pytest.approx(4)


def test_prefill_is_the_prompt_over_the_time_to_the_first_token() -> None:
    assert figures("prefill", FakeContestant("A", first_s=0.5)) == {("prefill", "A"): pytest.approx(200)}


def test_a_warm_turn_repeats_the_history_and_a_cold_one_shares_no_beginning_with_it() -> None:
    contestant = FakeContestant("A", first_s=0.2)
    found = figures("first-token", contestant, rounds=1)
    assert found["first token, cold", "A"] == found["first token, warm", "A"] == pytest.approx(200)
    assert found["first token, warm against cold", "A"] == 1
    (history, answered), (turn, _), (new, _) = contestant.asked[-3:]
    assert turn[: SIZES.history + answered] == (*history, *range(answered))
    assert len(turn) == len(new) > SIZES.history + answered
    assert new[0] != history[0]


def test_a_batch_counts_all_tokens_of_all_its_prompts() -> None:
    contestant = FakeContestant("A", first_s=1, step_s=0.1)  # 11 tokens take 2 s, alone or together
    found = figures("batch", contestant, rounds=1)
    assert found["one alone", "A"] == pytest.approx(5.5)
    assert found[f"{TOGETHER} together", "A"] == pytest.approx(5.5 * TOGETHER)
    assert found[f"{TOGETHER} together against one alone", "A"] == pytest.approx(TOGETHER)
    together = [prompt for prompt, _ in contestant.asked[-TOGETHER:]]
    assert len(set(together)) == TOGETHER


def test_embedders_get_the_same_texts_of_mixed_length() -> None:
    embedders = [FakeEmbedder("A"), FakeEmbedder("B")]
    assert figures("embeddings", *embedders, rounds=1)["embeddings", "A"] == TEXTS / 0.5
    assert embedders[0].texts == embedders[1].texts
    lengths = [len(text.split()) for text in embedders[0].texts[:TEXTS]]
    assert (min(lengths), len(set(lengths)), len(lengths)) == (1, TEXTS, TEXTS)
    assert max(lengths) > 150


def test_a_rival_that_fails_is_left_out_and_the_others_go_on() -> None:
    ours, rival = FakeContestant("A"), FakeContestant("B", is_rival=True, fails_at_call=2)
    found = list(interleaved(task("decode"), [rival, ours], encode, SIZES, 3, lambda said: None))
    assert found[0] == Absence("B", "decode", "RuntimeError: out of order")
    (result,) = found[1:]
    assert isinstance(result, Result)
    assert (result.contestant, len(result.values)) == ("A", 3)
    assert len(rival.asked) == 2


def test_what_our_own_side_raises_comes_through() -> None:
    with pytest.raises(RuntimeError, match="out of order"):
        figures("decode", FakeContestant("A", fails_at_call=2))


@pytest.mark.parametrize("better,expected", [("higher", 2.0), ("lower", 0.5)])
def test_times_better_knows_the_direction(better: str, expected: float) -> None:
    def result(*values: float) -> Result:
        return Result("task", "metric", "unit", better, "A", False, values)

    assert result(1, 4, 5).times_better(result(2)) == expected


@pytest.mark.parametrize("context_length", [256, 1024, 8192])
def test_sizes_fit_the_context(context_length: int) -> None:
    assert Sizes.fitting(1024, context_length).context <= context_length
