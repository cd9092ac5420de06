"""Looking back at a run of the engine: satisfies ``records.Inspector``."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from workbench.engine.generation import Handle
from workbench.engine.scheduler import Engine
from workbench.errors import ClosedError
from workbench.protocol import SamplingParams, validate_sampling
from workbench.providers.transformers.sampling import engine_sampling
from workbench.records import SamplingStage, SamplingTrace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EngineInspector:
    """Answers from the logits that the engine kept for one run."""

    def __init__(self, engine: Engine, handle: Handle) -> None:
        # A finished run lives as long as its notebook; it must not keep a closed model in memory with it.
        self._weak_engine = weakref.ref(engine)
        self._vocabulary = engine.model.vocabulary
        self._handle = handle

    def logprobs(self, position: int) -> NDArray[np.float32]:
        logprobs: NDArray[np.float32] = self._engine.kept_logprobs(self._handle, position).numpy()
        return logprobs

    def trace(
        self, position: int, sampling_params: SamplingParams | None = None, number: float | None = None
    ) -> SamplingTrace:
        if sampling_params is not None:
            validate_sampling(sampling_params)
        sampling = None if sampling_params is None else engine_sampling(sampling_params)
        found = self._engine.inspect(self._handle, position, sampling, number)
        stages = tuple(
            SamplingStage(stage.name, stage.probabilities.numpy(), stage.kept, stage.removed_mass)
            for stage in found.stages
        )
        return SamplingTrace(stages, found.number, found.token_id, self.text)

    def text(self, token_id: int) -> str:
        return self._vocabulary.text(token_id)

    @property
    def _engine(self) -> Engine:
        engine = self._weak_engine()
        if engine is None:
            raise ClosedError("the model of this run was closed, and its logits went with it")
        return engine
