"""What is read inside a model about the tokens of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workbench.insides import ModelPoints, Point


@dataclass(frozen=True, slots=True)
class LensWord:
    """A probable token after a layer."""

    token_id: int
    text: str
    probability: float


@dataclass(frozen=True, slots=True)
class LensCell:
    """What a model would say if it stopped after one layer."""

    words: tuple[LensWord, ...]
    """The most probable tokens, best first."""
    probability: float
    """Probability of the token that the model said in the end."""
    rank: int
    """Its rank, 1 for the most probable token."""


@dataclass(frozen=True, slots=True)
class LensColumn:
    """A token of a text, as each layer foresaw it."""

    index: int
    """Index of the token among those of prompt and answer."""
    token_id: int
    text: str
    cells: tuple[LensCell, ...]
    """One for each layer, the first layer first."""


@dataclass(frozen=True, slots=True)
class LogitParts:
    """What each part of a model added to the logit of a token."""

    index: int
    """Index of the token among those of prompt and answer."""
    token_id: int
    text: str
    logit: float
    parts: Mapping[str, float]
    """By the point where the part writes to the residual stream; their sum is the logit."""


@dataclass(frozen=True, slots=True)
class LensFit:
    """How far the fit of a Jacobian lens is."""

    texts_done: int
    texts: int
    seconds: float
    """Time that it has taken, interruptions left out."""


class Insides(Protocol):
    """Access to the numbers inside the model of a run, which is computed again to read them.

    Positions count from the first token of the prompt. The numbers at a position foretell the token after it.
    """

    @property
    def points(self) -> ModelPoints:
        """Points of the model."""

    @property
    def token_ids(self) -> Sequence[int]:
        """Ids of the tokens of the prompt and of the answer so far."""

    @property
    def prompt_length(self) -> int:
        """Number of the prompt's tokens."""

    def text(self, token_id: int) -> str:
        """Return a token's text."""

    def capture_bytes(self, points: Collection[Point], positions: Sequence[int]) -> int:
        """Return the memory that `capture` takes at its peak."""

    def capture(self, points: Collection[Point], positions: Sequence[int]) -> Mapping[Point, NDArray[np.float32]]:
        """Return the numbers at points and positions, shape (positions, ...) as the kinds of the points have axes.

        Raises:
            InsufficientMemoryError: they do not fit in the free memory.
        """

    def lens(self, indices: Sequence[int], *, kind: str, words: int) -> list[LensColumn]:
        """Return what each layer foresaw of the tokens with these indices, 1 or above.

        Args:
            kind: ``logit`` or ``jacobian``.
            words: number of probable tokens in each cell.
        """

    def logit_parts(self, index: int, token_id: int | None = None) -> LogitParts:
        """Return what each part of the model added to the logit of the token with an index, or of another there."""
