"""The protocol's sampling parameters as the engine takes them."""

from __future__ import annotations

from workbench.engine.sampling import Sampling
from workbench.protocol import SamplingParams, effective_sampling


def engine_sampling(params: SamplingParams) -> Sampling:
    """What the strategy leaves of the parameters; those that take no part are neutral."""
    effective = effective_sampling(params)
    return Sampling(
        temperature=effective.temperature,
        top_k=effective.top_k,
        top_p=effective.top_p,
        repetition_penalty=1.0 if params.repetition_penalty is None else params.repetition_penalty,
        seed=params.seed,
    )
