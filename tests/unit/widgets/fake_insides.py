"""The insides of a fake run: numbers reckoned from layer, head and position, which no model computes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import ClosedError, InvalidRequestError
from workbench.insides import ModelPoints, Point
from workbench.records import LensColumn, LogitParts

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAYERS, HEADS, SIZE = 6, 4, 8


class FakeInsides:
    """Head 0 looks at the first token, head 1 at the previous one, head 2 at itself, head 3 everywhere."""

    def __init__(self, run: Any, prompt: Sequence[str]) -> None:
        self._run = run
        self._prompt = list(prompt)
        self.points = ModelPoints(
            LAYERS,
            {
                "resid_pre": (SIZE,),
                "attn_probs": (HEADS,),
                "z": (HEADS, SIZE // HEADS),
                "attn_out": (SIZE,),
                "resid_mid": (SIZE,),
                "mlp_out": (SIZE,),
                "resid_post": (SIZE,),
            },
            derived=frozenset({"attn_probs"}),
        )
        self.is_closed = False
        self.captured: list[tuple[list[str], list[int]]] = []
        """Points and positions of each capture."""

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
        raise InvalidRequestError("kind", kind, "one that a test needs")

    def logit_parts(self, index: int, token_id: int | None = None) -> LogitParts:
        raise InvalidRequestError("index", index, "one that a test needs")

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
