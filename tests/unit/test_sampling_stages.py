"""One table of sampling stages: the engine, the protocol and the providers have what it lists, and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from workbench import sampling_stages
from workbench.engine.adjustments import ADJUSTMENTS
from workbench.engine.inspection import trace
from workbench.engine.sampling import TRUNCATIONS, Sampling
from workbench.protocol import ADDITIONS, EffectiveSampling, SamplingParams, SamplingStrategy, effective_sampling
from workbench.providers.capabilities import Capabilities
from workbench.providers.transformers.sampling import engine_sampling
from workbench.sampling_stages import MAX_TOKENS, PARAMETERS, SAMPLING_STAGES, StageSpec

FIELDS = [stage.field for stage in SAMPLING_STAGES]
EXAMPLES: dict[str, Any] = {
    "logit_bias": {3: 1.5},
    "repetition_penalty": 1.2,
    "frequency_penalty": -0.5,
    "presence_penalty": 0.5,
    "temperature": 0.5,
    "top_k": 7,
    "top_p": 0.9,
    "min_p": 0.2,
}
STAGES = pytest.mark.parametrize("stage", SAMPLING_STAGES, ids=FIELDS)


def test_the_engine_applies_each_stage_and_no_other() -> None:
    assert list(ADJUSTMENTS) == [stage.name for stage in SAMPLING_STAGES if stage.changes_argmax]
    after_the_mask = [stage.name for stage in SAMPLING_STAGES if not stage.changes_argmax]
    assert ["temperature", "top_k", *TRUNCATIONS] == after_the_mask
    assert {one.name for one in fields(Sampling) if one.init} == {*FIELDS, "seed"}
    assert {one.name for one in fields(EffectiveSampling)} == {*FIELDS, "strategy"}


def test_a_stage_that_can_change_the_argmax_stands_before_those_that_cannot() -> None:
    kinds = [stage.changes_argmax for stage in SAMPLING_STAGES]
    assert kinds == sorted(kinds, reverse=True), "the mask stands between the two"


def test_forms_list_every_number_once() -> None:
    assert sorted(one.field for one in PARAMETERS) == sorted([*FIELDS, MAX_TOKENS.field])


@STAGES
def test_the_protocol_has_its_field_and_its_default_is_in_range(stage: StageSpec) -> None:
    for value in (SamplingParams.model_fields[stage.field].default, stage.neutral):
        assert value in stage.range or value is None is stage.neutral
    assert bool(stage.addition) == (f"SamplingParams.{stage.field}" in {one.path for one in ADDITIONS})


@STAGES
def test_its_neutral_value_does_nothing_in_the_engine(stage: StageSpec) -> None:
    sampling = Sampling(temperature=0.7)
    assert stage.field == "temperature" or getattr(Sampling(), stage.field) == stage.neutral
    neutral = replace(sampling, **{stage.field: stage.neutral})
    names = [one.name for one in trace(torch.arange(9.0), neutral, {1}, 0.5).stages]
    assert set(names) <= {"raw", "temperature"}


@STAGES
def test_a_provider_declares_it_by_itself_or_with_its_strategy(stage: StageSpec) -> None:
    declared = {one.name for one in fields(Capabilities)}
    assert stage.is_ability == (stage.field in declared)


@pytest.mark.parametrize("strategy", SamplingStrategy)
def test_a_strategy_uses_what_the_table_says(strategy: SamplingStrategy) -> None:
    params = SamplingParams(strategy=strategy, **{field: EXAMPLES[field] for field in FIELDS})
    effective = effective_sampling(params)
    engine = engine_sampling(params)
    for stage in SAMPLING_STAGES:
        used = getattr(effective, stage.field)
        assert used == getattr(engine, stage.field)
        if stage.field != "temperature":
            assert (used != stage.neutral) == (strategy in stage.used_by), stage.field


def test_the_strategies_are_the_protocols() -> None:
    assert tuple(SamplingStrategy) == sampling_stages.STRATEGIES
