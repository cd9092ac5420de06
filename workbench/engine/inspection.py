"""Inspection of how a token was chosen, from the logits that were kept, without another forward pass.

An inspection has no side effects: it draws no random number and touches no cache, so it can be repeated.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.engine.adjustments import ADJUSTMENTS, History, adjusted
from workbench.engine.kernels.row_reductions import masked
from workbench.engine.sampling import Mask, Sampling, argmax, draw, nucleus


@dataclass(frozen=True, slots=True)
class Kept:
    """The logits that a position's token was chosen from."""

    logits: Tensor
    """Raw logits, float32, shape (vocab,); on the decoder's device while they are kept."""
    uniform: float | None
    """Random number in [0, 1) that chose the token; None if none was drawn."""
    mask: Mask | None = None
    """Tokens that a grammar allowed."""

    @property
    def nbytes(self) -> int:
        return self.logits.nbytes + (self.mask.allowed.nbytes if self.mask else 0)


@dataclass(frozen=True, slots=True)
class Stage:
    """Distribution after one stage of sampling."""

    name: str
    """``raw``, ``grammar``, or the name of one of `SAMPLING_STAGES`."""
    probabilities: Tensor
    """Probabilities, float64, shape (vocab,), that add up to 1; 0 for tokens that were cut."""
    kept: int
    """Number of tokens that are still possible."""
    removed_mass: float
    """Probability of the tokens that this stage cut, under the stage before."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Distributions from the raw one to the choice of one token."""

    stages: tuple[Stage, ...]
    uniform: float | None
    token_id: int


class KeptLogits:
    """Logits of the most recent positions of all runs, within a budget of memory.

    A position takes 4 bytes per token of the vocabulary: with SmolLM2's 49,152, 32 MiB are enough for 170 positions.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.nbytes = 0
        self._kept: OrderedDict[tuple[int, int], Kept] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, run: int, position: int, logits: Tensor, uniform: float | None, mask: Mask | None = None) -> None:
        """Add one row of logits, which must not be modified afterwards, and drop the oldest beyond the budget."""
        if logits.nbytes > self.budget_bytes:
            return
        # A row keeps the other rows of its step in memory. They are added and dropped beside it, so rows are copied
        # only from large steps. numpy copies on this thread; torch would wake others.
        is_small = logits.untyped_storage().nbytes() < max(self.budget_bytes // 8, 2 * logits.nbytes)
        kept = Kept(logits if is_small else _copy(logits), uniform, mask)
        with self._lock:
            self._kept[run, position] = kept
            self.nbytes += kept.nbytes
            while self.nbytes > self.budget_bytes:
                self.nbytes -= self._kept.popitem(last=False)[1].nbytes

    def get(self, run: int, position: int) -> Kept | None:
        """Return what was kept of a position, with the logits on the CPU."""
        with self._lock:
            kept = self._kept.get((run, position))
        return None if kept is None else replace(kept, logits=kept.logits.cpu())

    def positions(self, run: int) -> list[int]:
        """Return the positions of a run whose logits are still kept."""
        with self._lock:
            return [position for owner, position in self._kept if owner == run]

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self.nbytes = 0


def _copy(logits: Tensor) -> Tensor:
    """Return a copy that shares no memory; on the CPU by numpy, because torch would wake other threads."""
    return torch.from_numpy(logits.numpy().copy()) if logits.device.type == "cpu" else logits.clone()


def trace(
    logits: Tensor,
    sampling: Sampling,
    seen_ids: set[int],
    uniform: float | None,
    mask: Mask | None = None,
    answer_ids: Sequence[int] = (),
) -> Trace:
    """Return every stage of sampling for one row of logits, and the token that a random number picks after the last.

    Args:
        logits: raw logits, float32, shape (vocab,).
        seen_ids: earlier tokens of prompt and answer, which the repetition penalty applies to.
        uniform: random number in [0, 1); required unless the sampling is greedy or the token is forced.
        mask: tokens that a grammar allows at this position.
        answer_ids: earlier tokens of the answer, which the other penalties count.
    """
    stages = [Stage("raw", _softmax(logits), _possible(logits), 0.0)]
    history = History(seen_ids, answer_ids)
    for stage, value in sampling.active(changes_argmax=True):
        logits = adjusted(logits, [ADJUSTMENTS[stage.name](value)], history)
        stages.append(Stage(stage.name, _softmax(logits), _possible(logits), 0.0))
    allowed = None if mask is None else mask.allowed
    left = logits
    if allowed is not None:
        removed = float(stages[-1].probabilities[~allowed].sum())
        left = masked(logits, allowed)
        stages.append(Stage("grammar", _softmax(left), _possible(left), min(removed, 1.0)))
    if mask is not None and mask.forced:
        return Trace(tuple(stages), None, argmax(logits, allowed))
    if sampling.greedy:
        token_id = argmax(logits, allowed)
        only = torch.zeros_like(stages[-1].probabilities)
        only[token_id] = 1.0
        removed = max(0.0, 1.0 - float(stages[-1].probabilities[token_id]))
        return Trace((*stages, Stage("temperature", only, 1, removed)), None, token_id)
    if uniform is None:
        raise ValueError("uniform must be given unless the strategy is greedy")
    tempered = (left - left.max()) / sampling.temperature
    stages.append(Stage("temperature", _softmax(tempered), _possible(tempered), 0.0))
    cuts = [stage for stage, _ in sampling.active(changes_argmax=False) if stage.cuts]
    for index, stage in enumerate(cuts):
        without_later = replace(sampling, **{later.field: later.neutral for later in cuts[index + 1 :]})
        stages.append(_cut(stage.name, stages[-1].probabilities, nucleus(logits, without_later, allowed)))
    return Trace(tuple(stages), uniform, draw(logits, sampling, uniform, allowed))


def trace_again(
    kept: Kept, sampling: Sampling, seen_ids: set[int], uniform: float | None = None, answer_ids: Sequence[int] = ()
) -> Trace:
    """Return the `trace` of a kept position; ``uniform=None`` uses the random number that was drawn there."""
    drawn = kept.uniform if uniform is None else uniform
    if drawn is None:  # a greedy run drew none; any number will do
        drawn = 0.5
    return trace(kept.logits, sampling, seen_ids, drawn, kept.mask, answer_ids)


def _softmax(logits: Tensor) -> Tensor:
    return logits.double().softmax(-1)


def _possible(logits: Tensor) -> int:
    return int((logits > -torch.inf).sum())


def _cut(name: str, probabilities: Tensor, kept_ids: Tensor) -> Stage:
    kept = torch.zeros_like(probabilities)
    kept[kept_ids] = probabilities[kept_ids]
    mass = float(kept.sum())
    return Stage(name, kept / mass, int((kept > 0).sum()), max(0.0, 1.0 - mass))  # rounding may leave a sum above 1
