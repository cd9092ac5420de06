"""Choosing the next token: the stages of `sampling_stages`, then a draw.

These are small pure functions over one row of float32 logits, in the order of transformers' processors, whose results
they equal. They cost less, because they read the most probable tokens first and sort the whole vocabulary only if the
draw needs it. Each token uses one uniform random number, and the candidates are in order of probability, so the
same number picks a comparable token when the parameters change.

Stages that can change the argmax are in `adjustments`. A stage that truncates keeps a prefix of the candidates in order
of probability: top-k limits their number, the others are in `TRUNCATIONS`. A stage with its neutral value is never
called.
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
"""Temperatures below this are greedy: dividing by them would overflow float32."""

Truncation: TypeAlias = "Callable[[NDArray[np.float64], NDArray[np.float64], Any], int]"

_FIRST_CANDIDATES = 128
"""Number of most probable tokens that a draw reads first."""

_FEW = 4
"""A grammar allows few tokens if it allows less than one in this many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling parameters of one request; the defaults are greedy without penalty."""

    temperature: float = 0.0
    """Divisor of the logits; 0 takes the most probable token."""
    top_k: int = 0
    """Number of most probable tokens to draw from; 0 is all."""
    top_p: float = 1.0
    """Probability that the most probable tokens to draw from reach together (Holtzman et al. 2020)."""
    min_p: float = 0.0
    """Least probability to draw from, relative to the most probable token's (Nguyen et al. 2024)."""
    repetition_penalty: float = 1.0
    """Divisor of the positive logits of tokens that occurred, in prompt or answer (Keskar et al. 2019)."""
    frequency_penalty: float = 0.0
    """Number subtracted from a token's logit for each of its occurrences in the answer."""
    presence_penalty: float = 0.0
    """Number subtracted once from the logits of tokens that occurred in the answer."""
    logit_bias: Mapping[int, float] | None = None
    """Numbers added to the logits of tokens, by id; ids are within the vocabulary."""
    seed: int | None = None
    """Seed of the random numbers; None draws one, see `Sampler.seed`."""
    truncations: list[tuple[Truncation, Any]] = field(init=False, repr=False, compare=False)
    """Active stages of `TRUNCATIONS`, each with its value."""

    def __post_init__(self) -> None:
        active = self.active(changes_argmax=False)
        kept = [(TRUNCATIONS[stage.name], value) for stage, value in active if stage.name in TRUNCATIONS]
        object.__setattr__(self, "truncations", kept)  # once a request rather than once a token

    @property
    def greedy(self) -> bool:
        return self.temperature < COLDEST or self.top_k == 1

    def active(self, *, changes_argmax: bool) -> list[tuple[StageSpec, Any]]:
        """Return the stages of one kind that are not neutral, in order, each with its value."""
        chosen = (stage for stage in SAMPLING_STAGES if stage.changes_argmax == changes_argmax)
        values = ((stage, getattr(self, stage.field)) for stage in chosen)
        return [(stage, value) for stage, value in values if value != stage.neutral]


@dataclass(frozen=True, slots=True)
class Mask:
    """The tokens that a grammar allows at one position."""

    allowed: Tensor
    """Bool, shape (vocab,)."""
    forced: bool = False
    """Whether the grammar's text forces the only token left; no random number was drawn for it."""

    @classmethod
    def forcing(cls, token_id: int, vocab_size: int) -> Mask:
        allowed = torch.zeros(vocab_size, dtype=torch.bool)
        allowed[token_id] = True
        return cls(allowed, forced=True)


class Sampler:
    """Sampler of one request, with its own random numbers and the tokens that penalties count."""

    def __init__(self, sampling: Sampling, prompt_ids: Iterable[int]) -> None:
        self.sampling = sampling
        self.seed = sampling.seed if sampling.seed is not None else random.SystemRandom().getrandbits(63)
        # Not torch's generator: the numbers must be the same on every device and cost nothing per token.
        self._random = random.Random(self.seed)  # noqa: S311 - reproducibility is the point
        self._adjustments = [ADJUSTMENTS[stage.name](value) for stage, value in sampling.active(changes_argmax=True)]
        self._history = History(prompt_ids) if self._adjustments else None

    @property
    def reads_logits(self) -> bool:
        """Whether `pick` reads the logits of a row with a summary and without a grammar."""
        return self._history is not None or not self.sampling.greedy

    def choose(
        self, logits: Tensor, allowed: Tensor | None = None, summary: LogitsSummary | None = None
    ) -> tuple[int, float | None]:
        """Return the next token id, and count it as part of the answer; arguments and result are those of `pick`."""
        token_id, uniform = self.pick(logits, allowed, summary)
        self.take(token_id)
        return token_id, uniform

    def pick(
        self, logits: Tensor, allowed: Tensor | None = None, summary: LogitsSummary | None = None
    ) -> tuple[int, float | None]:
        """Return the next token id and the random number that chose it (None if greedy), without counting the token.

        Args:
            logits: raw float32 logits, shape (vocab,); not modified.
            allowed: tokens to choose from, bool, shape (vocab,); None is all.
            summary: summary of the logits, if the step computed one.

        Raises:
            NumericalError: the logits have NaN, or no token has a probability above 0.
        """
        if self._history is not None:
            logits, summary = adjusted(logits, self._adjustments, self._history), None
        if self.sampling.greedy and summary is not None and allowed is None:
            token_id, uniform = summary.token_ids[0], None
        elif self.sampling.greedy:
            token_id, uniform = argmax(logits, allowed), None
        else:
            uniform = self._random.random()
            token_id = draw(logits, self.sampling, uniform, allowed)
        return token_id, uniform

    def skip(self) -> float | None:
        """Draw and return the random number of a token that is chosen elsewhere (None if greedy)."""
        return None if self.sampling.greedy else self._random.random()

    def take(self, token_id: int) -> None:
        """Count a token as part of the answer, without drawing a random number."""
        if self._history is not None:
            self._history.add(token_id)


def argmax(logits: Tensor, allowed: Tensor | None = None) -> int:
    """Return the most probable allowed token; among equals the one with the lowest id."""
    left, token_ids = _left(logits, allowed)
    value, index = (found[0] for found in top_k_values(left, 1))
    if allowed is not None and not value > -math.inf:
        raise NumericalError("every token that the grammar allows has probability 0")
    return int(token_ids[index] if token_ids is not None else index)


def draw(logits: Tensor, sampling: Sampling, uniform: float, allowed: Tensor | None = None) -> int:
    """Return the token that a random number in [0, 1) picks from the masked, tempered, truncated distribution."""
    token_ids, index, _ = _drawn(logits, sampling, uniform, allowed)
    return int(token_ids[index])


def nucleus(logits: Tensor, sampling: Sampling, allowed: Tensor | None = None) -> Tensor:
    """Return the ids of the tokens that `draw` chooses from, most probable first, with ties resolved as it does."""
    token_ids, _, last = _drawn(logits, sampling, 0.0, allowed)
    return torch.from_numpy(token_ids[: last + 1])


def _left(logits: Tensor, allowed: Tensor | None) -> tuple[Tensor, NDArray[np.int64] | None]:
    """Return the logits to choose from, and their token ids; None if these are their indices.

    If few tokens are allowed, only their logits are returned: finding the largest among many equal to minus infinity
    would sort them all.
    """
    if allowed is None:
        return logits, None
    if np.count_nonzero(allowed.numpy()) * _FEW > len(logits):
        return masked(logits, allowed), None
    token_ids = allowed.numpy().nonzero()[0]
    return torch.from_numpy(logits.numpy()[token_ids]), token_ids


def _drawn(
    logits: Tensor, sampling: Sampling, uniform: float, allowed: Tensor | None
) -> tuple[NDArray[np.int64], int, int]:
    """Return the candidates, most probable first, and the indices of the drawn and of the last candidate kept."""
    left, left_ids = _left(logits, allowed)
    indices, drawn, last = _drawn_index(left, sampling, uniform)
    return (indices if left_ids is None else left_ids[indices]), drawn, last


def _drawn_index(logits: Tensor, sampling: Sampling, uniform: float) -> tuple[NDArray[np.int64], int, int]:
    vocab = len(logits)
    whole = softmax_stats(logits, sampling.temperature)
    if not math.isfinite(whole.log_total):
        raise NumericalError("the logits contain NaN or leave no token to sample; the model's weights are damaged")
    limit = min(sampling.top_k, vocab) if sampling.top_k else vocab
    count = limit if sampling.top_k else min(limit, _FIRST_CANDIDATES)
    while True:
        values, token_ids = top_k_values(logits, count)
        tempered = (values.astype(np.float64) - whole.top) / sampling.temperature  # the largest is 0
        log_total = whole.log_total if limit == vocab else float(np.logaddexp.reduce(tempered))
        found = _drawn_and_last(np.exp(tempered - log_total), sampling, uniform, complete=count == limit)
        if found is not None:
            return token_ids, *found
        count = min(limit, count * 8)


def _drawn_and_last(
    shares: NDArray[np.float64], sampling: Sampling, uniform: float, *, complete: bool
) -> tuple[int, int] | None:
    """Return the indices of the drawn and of the last candidate kept; None if more candidates are needed."""
    count, cumulative = len(shares), shares.cumsum()
    kept = [keeps(shares, cumulative, value) for keeps, value in sampling.truncations]
    if complete or min(kept, default=count + 1) <= count:
        last = min([*kept, count]) - 1
        covered = float(cumulative[last])
    elif kept or cumulative[-1] <= uniform:
        return None
    else:
        last, covered = count - 1, 1.0
    return min(int(cumulative.searchsorted(uniform * covered, side="right")), last), last


def _kept_by_top_p(_: NDArray[np.float64], cumulative: NDArray[np.float64], top_p: float) -> int:
    return int(cumulative.searchsorted(top_p)) + 1


def _kept_by_min_p(shares: NDArray[np.float64], _: NDArray[np.float64], min_p: float) -> int:
    kept = int(np.count_nonzero(shares >= min_p * shares[0]))
    return kept if kept < len(shares) else kept + 1


TRUNCATIONS: dict[str, Truncation] = {"top_p": _kept_by_top_p, "min_p": _kept_by_min_p}
"""Functions that return how many candidates a stage keeps, from their descending probabilities and the cumulative sums
of these; more than there are if the stage keeps them all and perhaps others."""
