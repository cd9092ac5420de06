"""Choosing the next token: the stages of `sampling_stages`, then a draw.

Small pure functions over one row of float32 logits, in the order of transformers' processors, whose results they
equal; they differ in cost, because they look at the most probable tokens first and sort the whole vocabulary only
where the draw asks for it. One uniform random number is used per token and the candidates stand in order of
probability, so the same number picks a comparable token when the parameters change.

Stages that can change the argmax are in `adjustments`. Those that cut are prefixes of the candidates in order of
probability: top-k limits how many are looked at, the others are in `TRUNCATIONS`. A stage with its neutral value is
never called.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from workbench.engine.adjustments import ADJUSTMENTS, History, adjusted
from workbench.engine.kernels.row_reductions import masked, softmax_stats, top_k_values
from workbench.errors import NumericalError
from workbench.sampling_stages import SAMPLING_STAGES, StageSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from workbench.engine.kernels.row_reductions import LogitsSummary

COLDEST = 1e-5
"""Temperatures below this are greedy: in float32 they could only overflow."""

Truncation: TypeAlias = "Callable[[NDArray[np.float64], NDArray[np.float64], Any], int]"

_FIRST_CANDIDATES = 128

_FEW = 4
"""Less than one token of so many is few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How one request chooses its tokens; the defaults are greedy without penalty."""

    temperature: float = 0.0
    """0 takes the most probable token."""
    top_k: int = 0
    """Draw among this many most probable tokens; 0 is all."""
    top_p: float = 1.0
    """Draw among the fewest most probable tokens that together reach this share."""
    min_p: float = 0.0
    """Of these, draw among those at least this many times as probable as the best (Nguyen et al. 2024)."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens of the prompt and the answer less probable (Keskar et al. 2019)."""
    frequency_penalty: float = 0.0
    """Above 0 makes tokens of the answer less probable, by as much for each time that they occurred."""
    presence_penalty: float = 0.0
    """The same, once for each token of the answer."""
    logit_bias: Mapping[int, float] | None = None
    """Added to the logits of tokens, by id; ids are within the vocabulary."""
    seed: int | None = None
    """None draws a fresh one, readable as `Sampler.seed`."""
    truncations: list[tuple[Truncation, Any]] = field(init=False, repr=False, compare=False)
    """Those of `TRUNCATIONS` that do something, each with its value."""

    def __post_init__(self) -> None:
        active = self.active(changes_argmax=False)
        kept = [(TRUNCATIONS[stage.name], value) for stage, value in active if stage.name in TRUNCATIONS]
        object.__setattr__(self, "truncations", kept)  # once a request rather than once a token

    @property
    def greedy(self) -> bool:
        return self.temperature < COLDEST or self.top_k == 1

    def active(self, *, changes_argmax: bool) -> list[tuple[StageSpec, Any]]:
        """Return the stages of one kind, in order, that do something, each with its value."""
        chosen = (stage for stage in SAMPLING_STAGES if stage.changes_argmax == changes_argmax)
        values = ((stage, getattr(self, stage.field)) for stage in chosen)
        return [(stage, value) for stage, value in values if value != stage.neutral]


@dataclass(frozen=True, slots=True)
class Mask:
    """What a grammar left of a position's tokens."""

    allowed: Tensor
    """Bool, shape (vocab,)."""
    forced: bool = False
    """One token is left, by the text that must follow, and nothing was drawn."""

    @classmethod
    def forcing(cls, token_id: int, vocab_size: int) -> Mask:
        allowed = torch.zeros(vocab_size, dtype=torch.bool)
        allowed[token_id] = True
        return cls(allowed, forced=True)


class Sampler:
    """The choices of one request: its own random numbers and the tokens that penalties apply to."""

    def __init__(self, sampling: Sampling, prompt_ids: Iterable[int]) -> None:
        self.sampling = sampling
        self.seed = sampling.seed if sampling.seed is not None else random.SystemRandom().getrandbits(63)
        # Not torch's generator: the numbers must be the same on every device and cost nothing per token.
        self._random = random.Random(self.seed)  # noqa: S311 - reproducibility is the point
        self._adjustments = [ADJUSTMENTS[stage.name](value) for stage, value in sampling.active(changes_argmax=True)]
        self._history = History(prompt_ids) if self._adjustments else None

    def choose(
        self, logits: Tensor, allowed: Tensor | None = None, summary: LogitsSummary | None = None
    ) -> tuple[int, float | None]:
        """The next token id, counted as part of the answer, and the random number that chose it (None when greedy)."""
        token_id, number = self.pick(logits, allowed, summary)
        self.take(token_id)
        return token_id, number

    def pick(
        self, logits: Tensor, allowed: Tensor | None = None, summary: LogitsSummary | None = None
    ) -> tuple[int, float | None]:
        """The token that would be next and the random number that chose it; it is not counted yet.

        Args:
            logits: raw float32 logits, shape (vocab,); left as they are.
            allowed: the tokens to choose among, bool, shape (vocab,); None is all.
            summary: what is known of the logits.

        Raises:
            NumericalError: the logits hold NaN, or no token has a probability above 0.
        """
        if self._history is not None:
            logits, summary = adjusted(logits, self._adjustments, self._history), None
        if self.sampling.greedy and summary is not None and allowed is None:
            token_id, number = summary.places[0], None
        elif self.sampling.greedy:
            token_id, number = argmax(logits, allowed), None
        else:
            number = self._random.random()
            token_id = draw(logits, self.sampling, number, allowed)
        return token_id, number

    def skip(self) -> float | None:
        """Use up the random number of a token that is not chosen here (None when greedy)."""
        return None if self.sampling.greedy else self._random.random()

    def take(self, token_id: int) -> None:
        """Count a token as part of the answer; one that was not chosen here costs no random number."""
        if self._history is not None:
            self._history.add(token_id)


def argmax(logits: Tensor, allowed: Tensor | None = None) -> int:
    """The most probable token of those that are allowed, the first among equals."""
    left, token_ids = _left(logits, allowed)
    value, place = (found[0] for found in top_k_values(left, 1))
    if allowed is not None and not value > -math.inf:
        raise NumericalError("every token that the grammar allows has probability 0")
    return int(token_ids[place] if token_ids is not None else place)


def draw(logits: Tensor, sampling: Sampling, number: float, allowed: Tensor | None = None) -> int:
    """The token that the random ``number`` in [0, 1) picks from the masked, tempered, truncated distribution."""
    token_ids, index, _ = _drawn(logits, sampling, number, allowed)
    return int(token_ids[index])


def nucleus(logits: Tensor, sampling: Sampling, allowed: Tensor | None = None) -> Tensor:
    """Ids of the tokens that top-k and top-p leave to `draw`, best first: the very same ones, also among equals."""
    token_ids, _, last = _drawn(logits, sampling, 0.0, allowed)
    return torch.from_numpy(token_ids[: last + 1])


def _left(logits: Tensor, allowed: Tensor | None) -> tuple[Tensor, NDArray[np.int64] | None]:
    """The logits to choose among, and whose they are; None where their places say so.

    Where few are left they stand alone: to look for the largest ones among so many equal to minus infinity would mean
    to sort them all.
    """
    if allowed is None:
        return logits, None
    if np.count_nonzero(allowed.numpy()) * _FEW > len(logits):
        return masked(logits, allowed), None
    token_ids = allowed.numpy().nonzero()[0]
    return torch.from_numpy(logits.numpy()[token_ids]), token_ids


def _drawn(
    logits: Tensor, sampling: Sampling, number: float, allowed: Tensor | None
) -> tuple[NDArray[np.int64], int, int]:
    """Candidates, best first; the place of the drawn one; the last place that top-p keeps, as far as was looked."""
    left, left_ids = _left(logits, allowed)
    places, index, last = _drawn_places(left, sampling, number)
    return (places if left_ids is None else left_ids[places]), index, last


def _drawn_places(logits: Tensor, sampling: Sampling, number: float) -> tuple[NDArray[np.int64], int, int]:
    vocab = len(logits)
    whole = softmax_stats(logits, sampling.temperature)
    if not math.isfinite(whole.log_total):
        raise NumericalError("the logits contain NaN or leave no token to sample; the model's weights are damaged")
    limit = min(sampling.top_k, vocab) if sampling.top_k else vocab
    count = limit if sampling.top_k else min(limit, _FIRST_CANDIDATES)
    while True:
        values, token_ids = top_k_values(logits, count)
        tempered = (values.astype(np.float64) - whole.top) / sampling.temperature  # the best is 0
        log_total = whole.log_total if limit == vocab else float(np.logaddexp.reduce(tempered))
        found = _places(np.exp(tempered - log_total), sampling, number, complete=count == limit)
        if found is not None:
            return token_ids, *found
        count = min(limit, count * 8)


def _places(
    shares: NDArray[np.float64], sampling: Sampling, number: float, *, complete: bool
) -> tuple[int, int] | None:
    """Places of the drawn and of the last kept candidate; None where more candidates are needed to know them."""
    count, cumulative = len(shares), shares.cumsum()
    kept = [keeps(shares, cumulative, value) for keeps, value in sampling.truncations]
    if complete or min(kept, default=count + 1) <= count:
        last = min([*kept, count]) - 1
        covered = float(cumulative[last])
    elif kept or cumulative[-1] <= number:
        return None
    else:
        last, covered = count - 1, 1.0
    return min(int(cumulative.searchsorted(number * covered, side="right")), last), last


def _kept_by_top_p(_: NDArray[np.float64], cumulative: NDArray[np.float64], top_p: float) -> int:
    return int(cumulative.searchsorted(top_p)) + 1


def _kept_by_min_p(shares: NDArray[np.float64], _: NDArray[np.float64], min_p: float) -> int:
    kept = int(np.count_nonzero(shares >= min_p * shares[0]))
    return kept if kept < len(shares) else kept + 1


TRUNCATIONS: dict[str, Truncation] = {
    "top_p": _kept_by_top_p,
    "min_p": _kept_by_min_p,
}
"""How many candidates a stage keeps, of their shares in order of probability and the sums of these from the first on;
more than there are where its end lies beyond them."""
