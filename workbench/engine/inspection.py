"""Looking back at how a token was chosen, from the logits that were kept, without another forward.

Looking changes nothing: no random number is drawn, no cache is touched, and the same question has the same answer.
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
    """What a position's token was chosen from."""

    logits: Tensor
    """Raw, float32, shape (vocab,)."""
    number: float | None
    """The random number that chose it; None where none was drawn."""
    mask: Mask | None = None
    """What a grammar left to choose from."""

    @property
    def nbytes(self) -> int:
        return self.logits.nbytes + (self.mask.allowed.nbytes if self.mask else 0)


@dataclass(frozen=True, slots=True)
class Stage:
    """The distribution after one step of the sampling chain."""

    name: str
    """``raw``, ``grammar``, or that of one of `SAMPLING_STAGES`."""
    probabilities: Tensor
    """float64, shape (vocab,), adding up to 1; 0 for tokens that were cut."""
    kept: int
    """Tokens that are still possible."""
    removed_mass: float
    """Probability, of the stage before, of the tokens that this one cut."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The way from the raw distribution to one token."""

    stages: tuple[Stage, ...]
    number: float | None
    token_id: int


class KeptLogits:
    """The logits of recent positions of all runs, oldest first to go.

    One position takes 4 bytes times the vocabulary: of SmolLM2's 49,152 tokens, 32 MiB hold 170 positions.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.nbytes = 0
        self._kept: OrderedDict[tuple[int, int], Kept] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, run: int, position: int, logits: Tensor, number: float | None, mask: Mask | None = None) -> None:
        """Keep one row of logits, which nobody may change any more."""
        if logits.nbytes > self.budget_bytes:
            return
        alone = logits.untyped_storage().nbytes() < 2 * logits.nbytes  # else it would keep the rows of others alive
        # numpy copies on this thread; torch would wake others for it.
        copy = Kept(logits if alone else torch.from_numpy(logits.numpy().copy()), number, mask)
        with self._lock:
            self._kept[run, position] = copy
            self.nbytes += copy.nbytes
            while self.nbytes > self.budget_bytes:
                self.nbytes -= self._kept.popitem(last=False)[1].nbytes

    def get(self, run: int, position: int) -> Kept | None:
        with self._lock:
            return self._kept.get((run, position))

    def positions(self, run: int) -> list[int]:
        """Positions of a run that are still kept."""
        with self._lock:
            return [position for owner, position in self._kept if owner == run]

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self.nbytes = 0


def trace(
    logits: Tensor,
    sampling: Sampling,
    seen_ids: set[int],
    number: float | None,
    mask: Mask | None = None,
    answer_ids: Sequence[int] = (),
) -> Trace:
    """Every stage of the chain for one row of logits, and the token that ``number`` picks at its end.

    Args:
        logits: raw, float32, shape (vocab,).
        seen_ids: tokens of the prompt and the text before, to which the repetition penalty applies.
        number: from 0 to below 1; needed unless the sampling is greedy or the token forced.
        mask: what a grammar left at this position.
        answer_ids: tokens of the answer before, which the other penalties count.
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
    if number is None:
        raise ValueError("number must be given unless the strategy is greedy")
    tempered = (left - left.max()) / sampling.temperature
    stages.append(Stage("temperature", _softmax(tempered), _possible(tempered), 0.0))
    cuts = [stage for stage, _ in sampling.active(changes_argmax=False) if stage.cuts]
    for index, stage in enumerate(cuts):
        without_later = replace(sampling, **{later.field: later.neutral for later in cuts[index + 1 :]})
        stages.append(_cut(stage.name, stages[-1].probabilities, nucleus(logits, without_later, allowed)))
    return Trace(tuple(stages), number, draw(logits, sampling, number, allowed))


def trace_again(
    kept: Kept, sampling: Sampling, seen_ids: set[int], number: float | None = None, answer_ids: Sequence[int] = ()
) -> Trace:
    """`trace` of a position that was kept, with the random number that was drawn there unless another one is given."""
    drawn = kept.number if number is None else number
    if drawn is None:  # a greedy run drew none; one half is as good as any
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
