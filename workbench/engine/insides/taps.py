"""What is read and changed in the forward passes of one sequence."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.insides import ATTENTION_KINDS, Point, PointEdit


class Captured:
    """Copies of the numbers at some points and positions.

    Args:
        positions: the positions to read, ascending.
    """

    def __init__(self, points: Iterable[Point], positions: Sequence[int]) -> None:
        self.positions = tuple(positions)
        self._found: dict[Point, dict[int, Tensor]] = {point: {} for point in points}
        self._wanted = frozenset(self.positions)

    @property
    def points(self) -> Collection[Point]:
        return self._found.keys()

    def wants(self, start: int, stop: int) -> bool:
        """Return whether any position from ``start`` to before ``stop`` is to be read."""
        first = bisect_left(self.positions, start)
        return first < len(self.positions) and self.positions[first] < stop

    def add(self, point: Point, start: int, values: Tensor) -> None:
        """Keep those rows that are to be read, the first of which is at the position ``start``."""
        for index, row in enumerate(values):
            if start + index in self._wanted:
                self._found[point][start + index] = row.clone()

    def array(self, point: Point) -> NDArray[np.float32]:
        """Return the numbers of a point, shape (positions, ...); keys that a position does not attend to are 0.

        Scores before the softmax are ``-inf`` there.
        """
        return self.found(point, self.positions)

    def found(self, point: Point, positions: Sequence[int]) -> NDArray[np.float32]:
        """Return the numbers of a point at some of the positions, as `array` does."""
        rows = [self._found[point][position] for position in positions]
        if point.kind in ATTENTION_KINDS:
            longest = max(row.shape[-1] for row in rows)
            rest = point.unattended
            rows = [torch.nn.functional.pad(row, (0, longest - row.shape[-1]), value=rest) for row in rows]
        return torch.stack(rows).numpy()


class Taps:
    """The points of one sequence that are changed and, after that, read.

    A decoder calls `visit` for each of ``points`` in forward order, with the numbers of consecutive tokens.
    """

    def __init__(self, edits: Sequence[PointEdit] = (), captured: Captured | None = None) -> None:
        self._edits = tuple(edits)
        self._captured = captured
        self.points = frozenset([edit.point for edit in edits]) | frozenset(captured.points if captured else ())

    def without_captures(self) -> Taps:
        """Return taps with the same changes that read nothing."""
        return Taps(self._edits)

    def active(self, start: int, stop: int) -> frozenset[Point]:
        """Return the points to visit for the positions from ``start`` to before ``stop``."""
        points = {edit.point for edit in self._edits if edit.touches(start, stop)}
        if self._captured is not None and self._captured.wants(start, stop):
            points.update(self._captured.points)
        return frozenset(points)

    def visit(self, point: Point, start: int, values: Tensor) -> Tensor | None:
        """Change and read the numbers of consecutive tokens.

        Args:
            start: position of the first token.
            values: float32, shape (tokens, ...) as `KINDS` has the axes; not modified. The last axis of attention
                scores and weights has the positions of all keys, with zeros or ``-inf`` where a token does not attend.

        Returns:
            The changed numbers, or None if they are the same.
        """
        changed = values
        for edit in self._edits:
            if edit.point == point and edit.touches(start, start + len(values)):
                changed = changed.clone() if changed is values else changed
                apply(edit, start, changed)
        if self._captured is not None and point in self._captured.points:
            self._captured.add(point, start, changed)
        return None if changed is values else changed


def apply(edit: PointEdit, start: int, values: Tensor) -> None:
    """Change the numbers of consecutive tokens, of which the first is at the position ``start``, in place."""
    first = max(edit.start - start, 0)
    end = len(values) if edit.stop is None else min(edit.stop - start, len(values))
    for index in range(first, end):
        target = values[index] if edit.head is None else values[index, edit.head]
        given = torch.as_tensor(edit.value, device=target.device)
        if edit.value.ndim > target.dim():
            given = given[start + index - edit.start]
        if edit.value.ndim and edit.point.kind in ATTENTION_KINDS:
            width = min(given.shape[-1], target.shape[-1])
            given, target = given[..., :width], target[..., :width]
        if edit.operation == "set":
            target.copy_(given)
        elif edit.operation == "add":
            target.add_(given)
        else:
            target.mul_(given)
