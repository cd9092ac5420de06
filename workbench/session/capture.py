"""Numbers that were read inside a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequestError
from workbench.insides import KINDS, Point, point_named
from workbench.protocol import Edit
from workbench.protocol.sampling import is_count

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


class Capture(Mapping[str, "NDArray[np.float32]"]):
    """Numbers at points of a model, by the points' names in any spelling; returned by `Run.capture`.

    Each array has the shape (positions, ...), with the axes that `axes` names.
    """

    def __init__(
        self,
        arrays: Mapping[Point, NDArray[np.float32]],
        positions: Sequence[int],
        texts: Sequence[str],
        *,
        layers: int,
        derived: frozenset[str],
    ) -> None:
        self._arrays = arrays
        self.positions = tuple(positions)
        """Positions in the text, counted from the first token of the prompt."""
        self.texts = tuple(texts)
        """The tokens at these positions."""
        self._layers = layers
        self._derived = derived

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        point = self._point(name)
        if point not in self._arrays:
            raise InvalidRequestError("point", name, f"one that was captured: {', '.join(self)}")
        return self._arrays[point]

    def __iter__(self) -> Iterator[str]:
        return map(str, self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __contains__(self, name: object) -> bool:
        try:
            return point_named(name, "point", self._layers) in self._arrays
        except InvalidRequestError:
            return False

    def __repr__(self) -> str:
        return f"<Capture of {len(self)} points at {len(self.positions)} positions, {self.nbytes / 2**20:.1f} MiB>"

    @property
    def nbytes(self) -> int:
        """Memory of all numbers in bytes."""
        return sum(array.nbytes for array in self._arrays.values())

    def axes(self, name: str) -> tuple[str, ...]:
        """Return the names of the axes of a point's numbers, the first of which is ``token``."""
        return "token", *KINDS[self._point(name).kind].axes

    def is_derived(self, name: str) -> bool:
        """Return whether the numbers were computed again from others, because the model's step does not keep them."""
        return self._point(name).kind in self._derived

    def frame(self, name: str, head: int | None = None) -> pd.DataFrame:
        """Return a point's numbers as a table with one row for each token.

        Args:
            head: the head to show; required where the numbers have heads.
        """
        import pandas as pd

        array, axes = self[name], self.axes(name)
        if "head" in axes:
            if not is_count(head) or not 0 <= (head or 0) < array.shape[1]:
                raise InvalidRequestError("head", head, f"a head from 0 to {array.shape[1] - 1}")
            array = array[:, head]
        elif head is not None:
            raise InvalidRequestError("head", head, f"None: {name} has no heads")
        index = pd.Index(self.positions, name="position")
        table = pd.DataFrame(array, index=index, columns=pd.RangeIndex(array.shape[1], name=axes[-1]))
        table.insert(0, "text", self.texts)
        return table

    def patch(self, name: str, position: int, *, to: int | None = None, head: int | None = None) -> Edit:
        """Return the edit that sets a point of another run at one position to the numbers that were captured here.

        Args:
            position: position of the numbers, one of `positions`.
            to: position in the other run; the same one by default.
            head: the only head to patch; None for all.

        Raises:
            InvalidRequestError: the point or the position was not captured.
        """
        array = self[name]
        if position not in self.positions:
            allowed = f"one that was captured, from {self.positions[0]} to {self.positions[-1]}"
            raise InvalidRequestError("position", position, allowed)
        value, start = array[self.positions.index(position)], position if to is None else to
        if head is not None:
            if "head" not in self.axes(name) or not 0 <= head < len(value):
                raise InvalidRequestError("head", head, f"a head of {name}, or None")
            value = value[head]
        point = str(self._point(name))
        return Edit(point=point, operation="set", value=value, start=start, stop=start + 1, head=head)

    def _point(self, name: object) -> Point:
        return point_named(name, "point", self._layers)
