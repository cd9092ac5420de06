"""Descriptions of sampling settings, the same as in static/sampling_fields.js."""

from __future__ import annotations

import json
from collections.abc import Iterator

from workbench.protocol import EffectiveSampling, SamplingParams, SamplingStrategy, effective_sampling
from workbench.sampling_stages import PARAMETERS, StageSpec


def sampling_phrases(params: SamplingParams) -> list[str]:
    """Return a phrase for each setting that ``effective_sampling`` reports as used."""
    effective = effective_sampling(params)
    strategy = {
        SamplingStrategy.greedy: "greedy",
        SamplingStrategy.top_p: f"top-p {effective.top_p:g}",
        SamplingStrategy.top_k: f"top-k {effective.top_k}",
    }[effective.strategy]
    draws = effective.strategy != SamplingStrategy.greedy
    stops = ", ".join(json.dumps(text, ensure_ascii=False) for text in params.stop or ())
    phrases = [
        strategy,
        f"temperature {effective.temperature:g}" if draws else "",
        f"up to {params.max_tokens} tokens" if params.max_tokens else "any length",
        *_stages(effective),
        f"seed {params.seed}" if params.seed is not None else "",
        f"stops at {stops}" if stops else "",
    ]
    return [phrase for phrase in phrases if phrase]


def _stages(effective: EffectiveSampling) -> Iterator[str]:
    for stage in PARAMETERS:
        if isinstance(stage, StageSpec) and stage.is_ability:
            value = getattr(effective, stage.field)
            if value != stage.neutral:
                yield f"{stage.label.lower()} {stage.words(value)}"
