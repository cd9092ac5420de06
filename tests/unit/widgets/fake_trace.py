"""The draw of a fake run: logits reckoned from a token's record, and the engine's own chain over them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from workbench.protocol import SamplingParams
from workbench.records import SamplingStage, SamplingTrace, TokenRecord

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from workbench.engine.inspection import Trace

VOCAB = 2100  # the fake tokens' ids are below
_SEEN = {1001, 1002}  # " a" and " blue" have occurred


def fake_trace(
    token: TokenRecord, own: SamplingParams, params: SamplingParams | None, number: float | None
) -> SamplingTrace:
    """As the facade's ``sampling_trace``; the run drew the number in the middle of what its token could be hit by."""
    import torch

    logits = torch.from_numpy(fake_logprobs(token))
    drawn = _drawn_number(logits, token.token_id, own)
    found = _chain(logits, params or own, (0.5 if drawn is None else drawn) if number is None else number)
    stages = tuple(SamplingStage(s.name, s.probabilities.numpy(), s.kept, s.removed_mass) for s in found.stages)
    known = {item.token_id: item.text for item in token.alternatives} | {token.token_id: token.text}
    return SamplingTrace(stages, found.uniform, found.token_id, lambda token_id: known.get(token_id, f" w{token_id}"))


def fake_logprobs(token: TokenRecord) -> NDArray[np.float32]:
    """As the facade's ``logprobs``: what the token's record tells, and a tail of small shares."""
    logprobs = {item.token_id: item.logprob for item in token.alternatives} | {token.token_id: token.logprob}
    known = {token_id: math.exp(logprob) for token_id, logprob in logprobs.items()}
    tail = np.arange(1, VOCAB + 1, dtype=np.float64) ** -1.2
    tail[list(known)] = 0.0
    shares = tail / tail.sum() * max(1e-6, 1.0 - sum(known.values()))
    shares[list(known)] = list(known.values())
    logits: NDArray[np.float32] = np.log(shares).astype(np.float32)
    return logits


def _drawn_number(logits: torch.Tensor, token_id: int, own: SamplingParams) -> float | None:
    found = _chain(logits, own, 0.5)
    shares = found.stages[-1].probabilities
    if found.uniform is None or shares[token_id] == 0:
        return found.uniform
    before = float(shares[shares > shares[token_id]].sum())
    return before + 0.5 * float(shares[token_id])


def _chain(logits: torch.Tensor, params: SamplingParams, number: float) -> Trace:
    # Here, because torch takes seconds to load and most tests of widgets need none.
    from workbench.engine.inspection import trace
    from workbench.providers.transformers.sampling import engine_sampling

    return trace(logits, engine_sampling(params), _SEEN, number)
