from __future__ import annotations

import argparse

import pytest

from workbench.commands.sampling_options import add_sampling_options, sampling_params
from workbench.protocol import SamplingParams, SamplingStrategy, effective_strategy, sampling_conflict


def parse(*options: str) -> SamplingParams:
    parser = argparse.ArgumentParser()
    add_sampling_options(parser, max_tokens=256)
    return sampling_params(parser.parse_args(options))


def test_nothing_given_is_greedy_with_the_commands_max_tokens() -> None:
    assert parse() == SamplingParams(max_tokens=256)


@pytest.mark.parametrize(
    "options,strategy,temperature",
    [
        (["--temperature", "0.8"], SamplingStrategy.top_p, 0.8),
        (["--top-p", "0.9"], SamplingStrategy.top_p, 1.0),
        (["--top-k", "40"], SamplingStrategy.top_k, 1.0),
        (["--top-k", "40", "--temperature", "0.7"], SamplingStrategy.top_k, 0.7),
        (["--min-p", "0.1"], SamplingStrategy.top_p, 1.0),
        (["--min-p", "0.1", "--top-k", "40"], SamplingStrategy.top_k, 1.0),
        (["--strategy", "top_p"], SamplingStrategy.top_p, 1.0),
    ],
)
def test_a_sampling_option_implies_a_strategy_that_really_samples(
    options: list[str], strategy: SamplingStrategy, temperature: float
) -> None:
    params = parse(*options)
    assert (effective_strategy(params), params.temperature) == (strategy, temperature)


@pytest.mark.parametrize(
    "options", [["--temperature", "0"], ["--seed", "3"], ["--repetition-penalty", "1.2"], ["--presence-penalty", "1"]]
)
def test_options_that_leave_no_choice_stay_greedy(options: list[str]) -> None:
    params = parse(*options)
    assert effective_strategy(params) == SamplingStrategy.greedy
    assert sampling_conflict(params) is None


def test_a_strategy_that_is_given_is_kept() -> None:
    assert parse("--strategy", "greedy", "--temperature", "0.8").strategy == SamplingStrategy.greedy
