"""Conversion of the protocol's sampling parameters to the engine's."""

from __future__ import annotations

from workbench.engine.sampling import Sampling
from workbench.errors import InvalidRequestError
from workbench.protocol import SamplingParams, effective_sampling
from workbench.sampling_stages import SAMPLING_STAGES


def engine_sampling(params: SamplingParams, vocab_size: int | None = None) -> Sampling:
    """Return the engine's parameters; those that the strategy does not use are neutral.

    Raises:
        InvalidRequestError: ``logit_bias`` has an id of ``vocab_size`` or above.
    """
    effective = effective_sampling(params)
    for token_id in effective.logit_bias or ():
        if vocab_size is not None and token_id >= vocab_size:
            allowed = f"a map of the model's token ids, from 0 to {vocab_size - 1}"
            raise InvalidRequestError("sampling_params.logit_bias", f"token id {token_id}", allowed)
    return Sampling(**{stage.field: getattr(effective, stage.field) for stage in SAMPLING_STAGES}, seed=params.seed)
