"""The insides of a fake run: numbers reckoned from layer, head and position, which no model computes."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import ClosedError, InvalidRequestError, UnsupportedFieldError
from workbench.insides import ModelPoints, Point
from workbench.records import LensCell, LensColumn, LensWord, LogitParts, TokenRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAYERS, HEADS, SIZE = 6, 4, 8
_FARTHEST = 4000
"""Rank before the first layer of a token that the model says."""


class FakeInsides:
    """Head 0 looks at the first token, head 1 at the previous one, head 2 at itself, head 3 everywhere."""

    def __init__(self, run: Any, prompt: Sequence[str]) -> None:
        self._run = run
        self._prompt = list(prompt)
        self.layers = LAYERS
        self.is_closed = False
        self.captured: list[tuple[list[str], list[int]]] = []
        """Points and positions of each capture."""
        self.asked: list[tuple[str, list[int]]] = []
        """Kind and indices of each question for a lens."""
        self.jacobian: str | None = "logit: no Jacobian lens of tiny has been fitted"
        """Why there is no Jacobian lens; None if there is one."""
        self.problem: Exception | None = None
        """What a lens fails with."""
        self.may_answer = threading.Event()
        """Cleared by a test that looks while a lens is computed."""
        self.may_answer.set()
        self.computing = self.most_computing = 0
        """Number of lenses that are computed, and the most at once."""
        self._lock = threading.Lock()

    @property
    def points(self) -> ModelPoints:
        sizes: dict[str, tuple[int, ...]] = {
            "resid_pre": (SIZE,),
            "attn_probs": (HEADS,),
            "z": (HEADS, SIZE // HEADS),
            "attn_out": (SIZE,),
            "resid_mid": (SIZE,),
            "mlp_out": (SIZE,),
            "resid_post": (SIZE,),
        }
        return ModelPoints(self.layers, sizes, derived=frozenset({"attn_probs"}))

    @property
    def token_ids(self) -> Sequence[int]:
        return range(len(self._texts))

    @property
    def prompt_length(self) -> int:
        return len(self._texts) if self._run.reads else len(self._prompt)

    def text(self, token_id: int) -> str:
        return self._texts[token_id]

    def capture_bytes(self, points: Collection[Point], positions: Sequence[int]) -> int:
        return sum(8 * self.points.numbers(point, position + 1) for point in points for position in positions)

    def capture(self, points: Collection[Point], positions: Sequence[int]) -> Mapping[Point, NDArray[np.float32]]:
        if self.is_closed:
            raise ClosedError("the model of this run was closed, so it cannot be looked into")
        self.captured.append(([str(point) for point in points], list(positions)))
        return {point: self._numbers(point, positions) for point in points}

    def lens(self, indices: Sequence[int], *, kind: str, words: int) -> list[LensColumn]:
        self.asked.append((kind, list(indices)))
        if kind == "jacobian" and self.jacobian is not None:
            raise UnsupportedFieldError(
                "kind", kind, self.jacobian, in_form="No Jacobian lens of tiny has been fitted."
            )
        self._answer()
        first = 0 if self._run.reads else self.prompt_length
        tokens = self._run.tokens
        return [fake_column(index, tokens[index - first], kind, words, self.layers) for index in indices]

    def logit_parts(self, index: int, token_id: int | None = None) -> LogitParts:
        raise InvalidRequestError("index", index, "one that a test needs")

    def _answer(self) -> None:
        with self._lock:
            self.computing += 1
            self.most_computing = max(self.most_computing, self.computing)
        try:
            assert self.may_answer.wait(60)
            if self.problem is not None:
                raise self.problem
        finally:
            with self._lock:
                self.computing -= 1

    @property
    def _texts(self) -> list[str]:
        tokens = [token.text for token in self._run.tokens]
        return tokens if self._run.reads else [*self._prompt, *tokens]

    def _numbers(self, point: Point, positions: Sequence[int]) -> NDArray[np.float32]:
        if point.kind == "attn_probs":
            return np.stack([_weights(point.layer, position, max(positions)) for position in positions])
        shape = (len(positions), *self.points.sizes[point.kind])
        start = np.asarray(positions, np.float32).reshape(-1, *[1] * (len(shape) - 1))
        return np.broadcast_to(start + point.layer, shape).astype(np.float32)


def _weights(layer: int, position: int, longest: int) -> NDArray[np.float32]:
    """The weights of one token by head, shape (heads, keys); a part of each head is spread evenly."""
    weights = np.zeros((HEADS, longest + 1))
    weights[:, : position + 1] = (1 + layer) / (2 * LAYERS) / (position + 1)
    left = 1 - (1 + layer) / (2 * LAYERS)
    for head, key in enumerate((0, max(0, position - 1), position)):
        weights[head, key] += left
    weights[3, : position + 1] = 1 / (position + 1)
    return weights.astype(np.float32)


def fake_column(index: int, record: TokenRecord, kind: str, words: int, layers: int = LAYERS) -> LensColumn:
    """A token whose rank falls and whose probability rises from layer to layer to those of its record."""
    cells = tuple(_cell(record, 1 - (layer + 1) / layers, layer, kind, words) for layer in range(layers))
    return LensColumn(index, record.token_id, record.text, cells)


def _cell(record: TokenRecord, left: float, layer: int, kind: str, words: int) -> LensCell:
    """Return a cell after which a share of the layers is left."""
    left = left / 2 if kind == "jacobian" else left
    seen = max(record.rank, 1) + round(_FARTHEST * left**3) + (record.position % 3 if left else 0)
    known = math.exp(record.logprob) if math.isfinite(record.logprob) else 0.5
    probability = known * (1 - left) ** 4
    others = [LensWord(other.token_id, other.text, 0.0) for other in record.alternatives] or [LensWord(7, " x", 0.0)]
    turned = [*others[layer % len(others) :], *others[: layer % len(others)]]
    shown = []
    for place in range(1, words + 1):
        is_own = place == seen
        above = probability + (1 - probability) * 0.5 * (1 - left) * 0.5**place
        share = above if place < seen else probability / (1 + place - seen)
        word = turned[place % len(turned)]
        shown.append(
            LensWord(record.token_id, record.text, probability) if is_own else LensWord(word.token_id, word.text, share)
        )
    return LensCell(tuple(shown), probability, seen)
