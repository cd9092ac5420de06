"""Ranges, the strategy's decision table, and what a caller is told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InvalidRequestError
from workbench.protocol import (
    MAX_SEED,
    MAX_STOP_LENGTH,
    MAX_STOP_STRINGS,
    MAX_TEMPERATURE,
    CompletionRequest,
    EffectiveSampling,
    LogProbConfig,
    SamplingParams,
    SamplingStrategy,
    effective_sampling,
    effective_strategy,
    sampling_conflict,
    validate_sampling,
)

REFUSED: list[tuple[str, Any]] = [
    *(("temperature", value) for value in (math.nan, math.inf, -math.inf, -1, -0.1, 1e9, "0.7", True, [1], 10**400)),
    *(("top_p", value) for value in (0, 1.5, -0.1, math.nan, "1", True)),
    *(("top_k", value) for value in (-1, 2.5, 2.0, "5", math.nan, True)),
    *(("max_tokens", value) for value in (-1, 1.5, "8", False)),
    *(("repetition_penalty", value) for value in (0, -1, math.nan, math.inf, "1", True)),
    *(("min_p", value) for value in (-0.1, 1.1, math.nan, math.inf, "0.1", True, [0.1])),
    *(("frequency_penalty", value) for value in (-2.1, 2.01, math.nan, -math.inf, "1", True)),
    *(("presence_penalty", value) for value in (-3, 2.01, math.nan, math.inf, "0", False)),
    *(
        ("logit_bias", value)
        for value in (
            *(
                [],
                "5: 1",
                [[5, 1]],
                5,
                {"x": 1},
                {"-5": 1},
                {"5.0": 1},
                {"٣": 1},
                {"": 1},
                {-1: 1},
                {1.5: 1},
                {True: 1},
            ),
            *({5: "1"}, {5: True}, {5: None}, {5: math.nan}, {5: math.inf}, {5: 100.5}, {5: -101}),
            dict.fromkeys(range(301), 1.0),
        )
    ),
    *(("seed", value) for value in (-1, 2**64, MAX_SEED + 1, 1.0, "1", True)),
    *(("stop", value) for value in ("end", [""], ["a", ""], [1], [None], {"a"}, b"a", ["\ud800"])),
    ("stop", ["a"] * (MAX_STOP_STRINGS + 1)),
    ("stop", ["a" * (MAX_STOP_LENGTH + 1)]),
    ("strategy", "beam"),
    ("strategy", None),
]
ALLOWED: list[tuple[str, Any]] = [
    *(("temperature", value) for value in (None, 0, 0.0, 1e-45, 1, MAX_TEMPERATURE, np.float32(0.5))),
    *(("top_p", value) for value in (None, 1, 1.0, 1e-9)),
    *(("top_k", value) for value in (None, 0, 1, 10_000, np.int64(5))),
    *(("max_tokens", value) for value in (None, 0, 1, 10**12)),
    *(("repetition_penalty", value) for value in (None, 1, 0.5, 2.0)),
    *(("min_p", value) for value in (None, 0, 1, 0.05, np.float32(0.5))),
    *(("frequency_penalty", value) for value in (None, 0, -2, 2, 0.5)),
    *(("presence_penalty", value) for value in (None, 0, -2, 2, -0.5)),
    *(("logit_bias", value) for value in (None, {5: 1}, {5: -100.0, 0: 100}, dict.fromkeys(range(300), 0.5))),
    ("logit_bias", {np.int64(5): np.float32(0.5)}),
    *(("seed", value) for value in (None, 0, MAX_SEED)),
    *(("stop", value) for value in (None, ["\n"], ("a", "b"), ["a" * MAX_STOP_LENGTH] * MAX_STOP_STRINGS)),
    ("strategy", "top_p"),
    ("strategy", SamplingStrategy.top_k),
]


@pytest.mark.parametrize("field, value", REFUSED)
def test_a_bad_value_is_refused_at_construction_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        SamplingParams(**{field: value})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field} must be ")


@pytest.mark.parametrize("field, value", REFUSED)
def test_a_bad_value_that_was_assigned_later_is_refused_before_compute(field: str, value: Any) -> None:
    params = SamplingParams()
    setattr(params, field, value)
    with pytest.raises(InvalidRequestError) as caught:
        validate_sampling(params)
    assert caught.value.field == f"sampling_params.{field}"


@pytest.mark.parametrize("field, value", REFUSED)
def test_a_bad_value_in_a_request_is_named_by_its_path(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        CompletionRequest.model_validate({"model": "m", "content": "x", "sampling_params": {field: value}})
    assert caught.value.field == f"sampling_params.{field}"


@pytest.mark.parametrize("field, value", ALLOWED)
def test_an_allowed_value_passes_both_checks(field: str, value: Any) -> None:
    params = SamplingParams(**{field: value})
    validate_sampling(params)
    assert SamplingParams.model_validate_json(params.model_dump_json()) == params


def test_no_stop_strings_are_none() -> None:
    assert SamplingParams(stop=[]) == SamplingParams(stop=None)


def test_the_ids_of_a_bias_may_be_text_as_in_json_and_no_ids_are_none() -> None:
    written: Any = {"50": -100, "007": 2}
    params = SamplingParams(logit_bias=written)
    assert params.logit_bias == {50: -100.0, 7: 2.0}
    params.logit_bias = written
    assert effective_sampling(params).logit_bias == {50: -100.0, 7: 2.0}
    assert SamplingParams(logit_bias={}) == SamplingParams(logit_bias=None)


def test_additions_that_change_nothing_are_not_written() -> None:
    neutral: dict[str, Any] = {"min_p": 0, "frequency_penalty": 0.0, "presence_penalty": None, "logit_bias": {}}
    assert SamplingParams(**neutral) == SamplingParams()
    assert SamplingParams(**neutral).model_dump_json() == SamplingParams().model_dump_json()
    assert not neutral.keys() & SamplingParams(**neutral).model_dump().keys()


def test_a_misspelt_field_is_refused_with_the_right_name() -> None:
    misspelt: dict[str, Any] = {"temprature": 0.7}
    with pytest.raises(InvalidRequestError, match="did you mean temperature"):
        SamplingParams(**misspelt)


def test_the_message_says_what_is_allowed_and_what_was_given() -> None:
    with pytest.raises(InvalidRequestError, match=r"^top_p must be a number above 0 and at most 1 .*; got 1\.5$"):
        SamplingParams(top_p=1.5)


@pytest.mark.parametrize("top_k", [-1, 2.5, "5", True])
def test_logprobs_for_a_bad_count_are_refused(top_k: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^top_k must be a whole number"):
        LogProbConfig(top_k=top_k)


SAMPLING = st.builds(
    SamplingParams,
    strategy=st.sampled_from(SamplingStrategy),
    temperature=st.none() | st.just(0.0) | st.floats(0, MAX_TEMPERATURE),
    top_p=st.none() | st.floats(0, 1, exclude_min=True),
    top_k=st.none() | st.integers(0, 5),
    min_p=st.none() | st.floats(0, 1),
)


@given(SAMPLING)
def test_fields_that_take_no_part_are_neutral(params: SamplingParams) -> None:
    effective = effective_sampling(params)
    assert (effective.strategy is SamplingStrategy.greedy) == (effective.temperature == 0)
    assert effective.top_p == 1 or effective.strategy is SamplingStrategy.top_p
    assert effective.top_k == 0 or effective.strategy is SamplingStrategy.top_k
    assert effective.min_p == (0 if effective.strategy is SamplingStrategy.greedy else params.min_p)
    assert effective_strategy(params) is effective.strategy
    assert effective.strategy in (params.strategy, SamplingStrategy.greedy)


@given(SAMPLING)
def test_greedy_ignores_the_rest(params: SamplingParams) -> None:
    params.strategy = SamplingStrategy.greedy
    assert effective_sampling(params) == EffectiveSampling(SamplingStrategy.greedy, 0.0, top_p=1.0, top_k=0)


@pytest.mark.parametrize("strategy", [SamplingStrategy.top_p, SamplingStrategy.top_k])
@pytest.mark.parametrize("temperature", [0, 0.0, 1e-45, 1e-6, None])
def test_sampling_without_temperature_is_greedy(strategy: SamplingStrategy, temperature: float | None) -> None:
    params = SamplingParams(strategy=strategy, temperature=temperature, top_k=5)
    assert effective_strategy(params) is SamplingStrategy.greedy


def test_one_candidate_is_greedy_and_none_is_no_limit() -> None:
    one = SamplingParams(strategy=SamplingStrategy.top_k, temperature=1, top_k=1)
    unlimited = SamplingParams(strategy=SamplingStrategy.top_k, temperature=1, top_k=0)
    assert effective_strategy(one) is SamplingStrategy.greedy
    assert effective_sampling(unlimited) == EffectiveSampling(SamplingStrategy.top_k, 1.0, top_p=1.0, top_k=0)


@given(SAMPLING)
def test_only_greedy_with_a_temperature_is_a_conflict(params: SamplingParams) -> None:
    contradicts = params.strategy is SamplingStrategy.greedy and bool(params.temperature)
    sentence = sampling_conflict(params)
    assert (sentence is not None) == contradicts
    assert sentence is None or "temperature" in sentence


@pytest.mark.parametrize("params", [{}, {"temperature": 1.0}, "greedy", 5])
def test_what_is_no_sampling_params_is_refused_by_name(params: Any) -> None:
    with pytest.raises(InvalidRequestError, match="sampling_params must be a SamplingParams"):
        validate_sampling(params)
