"""The protocol's sampling parameters as the engine takes them."""

from __future__ import annotations

from workbench.engine.sampling import Sampling
from workbench.protocol import SamplingParams, effective_sampling
from workbench.sampling_stages import SAMPLING_STAGES


def engine_sampling(params: SamplingParams) -> Sampling:
    """Return what the strategy leaves of the parameters; those that it does not use are neutral."""
    effective = effective_sampling(params)
    return Sampling(**{stage.field: getattr(effective, stage.field) for stage in SAMPLING_STAGES}, seed=params.seed)
