"""Edits: changes of the numbers at a point while a model computes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from workbench.errors import InvalidRequestError
from workbench.insides.points import KINDS, ModelPoints, Point

Operation: TypeAlias = Literal["set", "add", "scale"]
"""Set numbers to a value, add it to them, or multiply them with it."""


@dataclass(frozen=True, slots=True, eq=False)
class PointEdit:
    """A change of the numbers of some tokens at one point, in every forward pass of a sequence."""

    point: Point
    operation: Operation
    value: NDArray[np.float32]
    """One number, a token's numbers, or one row of a token's numbers for each position from ``start`` on. Of attention
    scores and weights, keys beyond a token's own position are not looked at."""
    start: int = 0
    """First position, counted from the beginning of the prompt."""
    stop: int | None = None
    """Position to stop before; None for the end of the text, whatever follows."""
    head: int | None = None
    """The only head to change; None changes all."""

    @property
    def key(self) -> bytes:
        """Bytes that differ between any two edits that differ."""
        place = repr((*self.point, self.operation, self.start, self.stop, self.head, self.value.shape))
        return hashlib.blake2b(place.encode() + self.value.tobytes(), digest_size=16).digest()

    def touches(self, start: int, stop: int) -> bool:
        """Return whether any position from ``start`` to before ``stop`` changes."""
        return self.start < stop and (self.stop is None or start < self.stop)

    def check(self, points: ModelPoints, field: str) -> None:
        """Raise an error that names the field unless a model has the point, the head, and numbers of that shape."""
        points.check(self.point, f"{field}.point")
        size, kind = points.sizes[self.point.kind], KINDS[self.point.kind]
        if self.head is not None:
            if kind.axes[0] != "head":
                raise InvalidRequestError(f"{field}.head", self.head, f"absent: {self.point} has no heads")
            if not 0 <= self.head < size[0]:
                raise InvalidRequestError(f"{field}.head", self.head, f"a head from 0 to {size[0] - 1}")
            size = size[1:]
        if not _fits(self.value.shape, size, has_keys="key" in kind.axes, rows=self._rows):
            shown = str((*size, "keys") if "key" in kind.axes else size).replace("'", "")
            allowed = f"one number, or numbers of the shape {shown}, or one such row for each position"
            raise InvalidRequestError(f"{field}.value", f"the shape {self.value.shape}", allowed)

    @property
    def _rows(self) -> int | None:
        return None if self.stop is None else self.stop - self.start


def _fits(shape: tuple[int, ...], size: tuple[int, ...], *, has_keys: bool, rows: int | None) -> bool:
    """Return whether a value has one number, a token's numbers, or as many rows of them as there are positions."""
    if not shape:
        return True
    own = len(size) + has_keys
    numbers, leading = shape[len(shape) - own :], shape[: len(shape) - own]
    if len(shape) < own or numbers[: len(size)] != size:
        return False
    return not leading or (len(leading) == 1 and rows is not None and leading[0] == rows)
