"""The insides of a fake run: numbers reckoned from the records of its tokens, and what was asked for."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import UnsupportedFieldError
from workbench.insides import ModelPoints, Point
from workbench.records import LensCell, LensColumn, LensWord, LogitParts, TokenRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.unit.widgets.fake_session import FakeRun

LAYERS = 8
HEADS = 3
_HIDDEN = 4
_FARTHEST = 4000
"""Rank before the first layer of a token that the model says."""


class FakeInsides:
    """What `records.Insides` has, for one fake run."""

    def __init__(self, run: FakeRun) -> None:
        self._run = run
        self.layers = LAYERS
        self.asked: list[tuple[str, list[int]]] = []
        """Kind and indices of each question for a lens."""
        self.jacobian: str | None = "logit: no Jacobian lens of tiny has been fitted"
        """Why there is no Jacobian lens; None if there is one."""
        self.problem: Exception | None = None
        self.may_answer = threading.Event()
        """Cleared by a test that looks while numbers are computed."""
        self.may_answer.set()
        self.computing = 0
        """Number of questions that are being answered."""
        self.most_computing = 0
        self._lock = threading.Lock()

    @property
    def points(self) -> ModelPoints:
        sizes: dict[str, tuple[int, ...]] = {"resid_pre": (_HIDDEN,), "resid_post": (_HIDDEN,), "attn_probs": (HEADS,)}
        return ModelPoints(self.layers, sizes, derived=frozenset({"attn_probs"}))

    @property
    def token_ids(self) -> Sequence[int]:
        said = [record.token_id for record in self._run.tokens]
        return said if self._run.reads else [*self._prompt_ids, *said]

    @property
    def prompt_length(self) -> int:
        return len(self._run.tokens) if self._run.reads else len(self._prompt_ids)

    def text(self, token_id: int) -> str:
        return next((one.text for one in self._run.tokens if one.token_id == token_id), f" w{token_id}")

    def capture_bytes(self, points: Collection[Point], positions: Sequence[int]) -> int:
        return sum(4 * self.points.numbers(point, position + 1) for point in points for position in positions)

    def capture(self, points: Collection[Point], positions: Sequence[int]) -> Mapping[Point, NDArray[np.float32]]:
        self._answer()
        return {point: self._captured(point, positions) for point in points}

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
        chosen = self.token_ids[index] if token_id is None else token_id
        parts = {"embeddings": 1.0, **{f"attn_out.{layer}": (index + layer) % 5 - 2.0 for layer in range(self.layers)}}
        return LogitParts(index, chosen, self.text(chosen), sum(parts.values()), parts)

    @property
    def _prompt_ids(self) -> list[int]:
        return [token.token_id for token in self._run.render().tokens]

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

    def _captured(self, point: Point, positions: Sequence[int]) -> NDArray[np.float32]:
        if point.kind != "attn_probs":
            found = np.array([[position + point.layer + k for k in range(_HIDDEN)] for position in positions])
            return found.astype(np.float32)
        keys = max(positions) + 1
        return np.stack([[_attention(point.layer, head, at, keys) for head in range(HEADS)] for at in positions])


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


def _attention(layer: int, head: int, position: int, keys: int) -> NDArray[np.float32]:
    """Weights of a head that looks at the first token, at the one before, or about evenly."""
    weights = np.zeros(keys, dtype=np.float32)
    weights[: position + 1] = 1.0
    weights[0 if head == 0 else max(0, position - 1) if head == 1 else position // 2] += 3.0 * (layer + 1)
    weights /= weights.sum()
    return weights
