"""Ours and transformers' sides of a measurement, on a small random model: they must do the same work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny_models import save_model
from workbench.benchmarks.exactness import divergence
from workbench.benchmarks.transformers_generate import TransformersContestant
from workbench.benchmarks.workbench_contestant import WorkbenchContestant

PROMPT = [5, 9, 2, 14, 7]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("tiny") / "llama", "llama")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Iterator[WorkbenchContestant]:
    contestant = WorkbenchContestant(folder, "float32", "tiny")
    yield contestant
    contestant.close()


@pytest.fixture(scope="module")
def rival(folder: Path) -> Iterator[TransformersContestant]:
    contestant = TransformersContestant(folder, "float32")
    yield contestant
    contestant.close()


def test_both_stream_the_same_tokens_and_go_on_past_end_tokens(
    ours: WorkbenchContestant, rival: TransformersContestant
) -> None:
    mine, theirs = ours.generate(PROMPT, 40), rival.generate(PROMPT, 40)
    assert len(mine.token_ids) == 40
    assert mine.token_ids == theirs.token_ids
    for stream in (mine, theirs):
        assert 0 < stream.first_s <= stream.last_s


def test_many_prompts_of_different_length_run_together(
    ours: WorkbenchContestant, rival: TransformersContestant
) -> None:
    prompts = [PROMPT[:length] for length in (1, 3, 5)]
    assert ours.generate_together(prompts, 4) > 0
    assert rival.generate_together(prompts, 4) > 0


def test_both_find_the_same_distributions_at_given_tokens(
    ours: WorkbenchContestant, rival: TransformersContestant
) -> None:
    token_ids, logprobs = rival.sample(PROMPT, 12, seed=3)
    assert rival.sample(PROMPT, 12, seed=3)[0] == token_ids
    for contestant in (ours, rival):
        found = list(contestant.forced(PROMPT, token_ids))
        assert len(found) == len(token_ids)
        for expected, other in zip(logprobs, found, strict=True):
            assert divergence(expected, other) == pytest.approx(0, abs=1e-6)


def test_a_rival_that_raises_leaves_no_reader_waiting(rival: TransformersContestant) -> None:
    with pytest.raises(IndexError):
        rival.generate([10**6], 2)
