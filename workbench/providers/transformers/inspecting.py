"""Inspection of a run of the engine: implementations of ``records.Inspector``."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from workbench.engine.inspection import Kept, Trace, trace_again
from workbench.engine.requests import Handle
from workbench.engine.sampling import Mask, Sampling
from workbench.engine.scheduler import Engine
from workbench.errors import ClosedError, InvalidRequestError
from workbench.protocol import SamplingParams, validate_sampling
from workbench.providers.inspectors import ForwardingInspector
from workbench.providers.transformers.insides import EngineInsides
from workbench.providers.transformers.sampling import engine_sampling
from workbench.records import Insides, Inspector, KeptPosition, SamplingStage, SamplingTrace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EngineInspector:
    """Inspector that reads the logits which the engine kept for one run."""

    def __init__(self, engine: Engine, handle: Handle, *, has_images: bool = False) -> None:
        # A finished run lives as long as its notebook; it must not keep a closed model in memory.
        self._weak_engine = weakref.ref(engine)
        self._vocabulary = engine.model.vocabulary
        self._handle = handle
        self.insides = EngineInsides(engine, handle, has_images=has_images)

    def logprobs(self, position: int) -> NDArray[np.float32]:
        logprobs: NDArray[np.float32] = self._engine.kept_logprobs(self._handle, position).numpy()
        return logprobs

    def trace(
        self, position: int, sampling_params: SamplingParams | None = None, number: float | None = None
    ) -> SamplingTrace:
        vocab_size = self._engine.model.decoder.vocab_size
        sampling = None if sampling_params is None else _sampling(sampling_params, vocab_size)
        return _record(self._engine.inspect(self._handle, position, sampling, number), self.text)

    def text(self, token_id: int) -> str:
        return self._vocabulary.text(token_id)

    def kept(self, position: int) -> KeptPosition:
        kept = self._engine.kept(self._handle, position)
        seen_ids = tuple(sorted(self._engine.seen_ids(self._handle, position)))
        allowed = None if kept.mask is None else kept.mask.allowed.numpy()
        is_forced = kept.mask is not None and kept.mask.forced
        answer_ids = tuple(self._engine.answer_ids(self._handle, position))
        return KeptPosition(kept.logits.numpy(force=True), kept.uniform, seen_ids, allowed, is_forced, answer_ids)

    @property
    def _engine(self) -> Engine:
        engine = self._weak_engine()
        if engine is None:
            raise ClosedError("the model of this run was closed, so its logits are gone")
        return engine


class BranchInspector(ForwardingInspector):
    """Inspector of a run that continues another: that one's inspector answers for the tokens it kept.

    Args:
        own: inspector of the run's own tokens.
        before: inspector of the kept tokens.
        first: position of the first own token.
    """

    def __init__(self, own: Inspector, before: Inspector, first: int) -> None:
        self.own = own
        self.before = before
        self.first = first

    def inspector_at(self, position: int) -> Inspector:
        found: Inspector = self
        while isinstance(found, BranchInspector):  # a loop: a run may continue thousands of others
            found = found.before if position < found.first else found.own
        return found

    def text(self, token_id: int) -> str:
        return self.own.text(token_id)

    @property
    def insides(self) -> Insides | None:
        return self.own.insides


def logprobs_of(kept: KeptPosition) -> NDArray[np.float32]:
    """Return `EngineInspector.logprobs` of a kept position, bit by bit the same, without an engine."""
    logprobs: NDArray[np.float32] = torch.log_softmax(torch.from_numpy(kept.logits), -1).numpy()
    return logprobs


def trace_of(
    kept: KeptPosition, sampling_params: SamplingParams, number: float | None, text: Callable[[int], str]
) -> SamplingTrace:
    """Return `EngineInspector.trace` of a kept position, without an engine.

    Raises:
        InvalidRequestError: the parameters count tokens that the recording, made by an older version, lacks.
    """
    for field in ("frequency_penalty", "presence_penalty"):
        if kept.answer_ids is None and (value := getattr(sampling_params, field)):
            allowed = "0: this recording lacks the tokens that the penalty counts"
            raise InvalidRequestError(f"sampling_params.{field}", value, allowed)
    mask = None if kept.allowed is None else Mask(torch.from_numpy(kept.allowed), kept.is_forced)
    origin = Kept(torch.from_numpy(kept.logits), kept.number, mask)
    sampling, answer_ids = _sampling(sampling_params, len(kept.logits)), kept.answer_ids or ()
    return _record(trace_again(origin, sampling, set(kept.seen_ids), number, answer_ids), text)


def _sampling(params: SamplingParams, vocab_size: int) -> Sampling:
    validate_sampling(params)
    return engine_sampling(params, vocab_size)


def _record(found: Trace, text: Callable[[int], str]) -> SamplingTrace:
    stages = tuple(
        SamplingStage(stage.name, stage.probabilities.numpy(), stage.kept, stage.removed_mass) for stage in found.stages
    )
    return SamplingTrace(stages, found.uniform, found.token_id, text)
