"""The insides of recorded runs: what was read inside the model during the recording can be read again without it.

Answers of `records.Insides` are stored as they were given: arrays of numbers, columns of a lens, and parts of a logit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from workbench.errors import NotRecordedError
from workbench.insides import ATTENTION_KINDS, ModelPoints, Point
from workbench.providers.trace.packed import pack_array, unpack_array
from workbench.providers.wire import Json, from_wire, to_wire
from workbench.records import Insides, LensColumn, LogitParts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Key = TypeVar("Key")
Value = TypeVar("Value")


class InsidesWriter(Protocol):
    """Destination of what is read inside a model; a `Recorder` is one."""

    def inside(self, number: int, answer: Json) -> None:
        """Write an answer about the call of that number."""

    def points(self, model: str, points: ModelPoints) -> None:
        """Write the points of a model, once."""

    def vocabulary(self, model: str, texts: Callable[[], Sequence[str]]) -> None:
        """Write the texts of a model's tokens by id; ``texts`` is called once for each model only."""


class RecordingInsides:
    """Insides that write down each answer; an implementation of `records.Insides`."""

    def __init__(self, inner: Insides, writer: InsidesWriter, model: str, call_number: int) -> None:
        self._inner = inner
        self._writer = writer
        self._model = model
        self._call_number = call_number
        self._written_length = 0

    def write_text(self) -> None:
        """Write the token ids if there are more than before, and what is written once for each model."""
        token_ids = list(map(int, self._inner.token_ids))
        if len(token_ids) > self._written_length:
            self._written_length = len(token_ids)
            size = self.points.sizes["lm_head"][0]
            self._writer.points(self._model, self.points)
            self._writer.vocabulary(self._model, lambda: list(map(self._inner.text, range(size))))
            self._write({"token_ids": token_ids, "prompt_length": self._inner.prompt_length})

    @property
    def points(self) -> ModelPoints:
        return self._inner.points

    @property
    def token_ids(self) -> Sequence[int]:
        return self._inner.token_ids

    @property
    def prompt_length(self) -> int:
        return self._inner.prompt_length

    def text(self, token_id: int) -> str:
        return self._inner.text(token_id)

    def capture_bytes(self, points: Collection[Point], positions: Sequence[int]) -> int:
        return self._inner.capture_bytes(points, positions)

    def capture(self, points: Collection[Point], positions: Sequence[int]) -> Mapping[Point, NDArray[np.float32]]:
        arrays = self._inner.capture(points, positions)
        wire = [[*point, list(array.shape), pack_array(array)] for point, array in arrays.items()]
        self._write({"positions": list(map(int, positions)), "arrays": wire})
        return arrays

    def lens(self, indices: Sequence[int], *, kind: str, words: int) -> list[LensColumn]:
        columns = self._inner.lens(indices, kind=kind, words=words)
        self._write({"lens": kind, "words": words, "columns": to_wire(columns)})
        return columns

    def logit_parts(self, index: int, token_id: int | None = None) -> LogitParts:
        parts = self._inner.logit_parts(index, token_id)
        self._write({"parts": to_wire(parts), "was_said": token_id is None})
        return parts

    def _write(self, answer: Json) -> None:
        self._writer.inside(self._call_number, answer)


class PlayedInsides:
    """Insides of a recorded call: its answers, each of which can be given in parts.

    Args:
        answers: what `RecordingInsides` wrote.
        text: returns a token's text.
    """

    def __init__(self, answers: Sequence[Json], points: ModelPoints, text: Callable[[int], str]) -> None:
        self.points = points
        self.text = text
        self.token_ids: Sequence[int] = ()
        self.prompt_length = 0
        self._packed: list[Json] = []
        self._rows: dict[Point, dict[int, NDArray[np.float32]]] = {}
        self._columns: dict[tuple[str, int, int], LensColumn] = {}
        self._parts: dict[tuple[int, int | None], LogitParts] = {}
        for answer in answers:
            self._add(answer)

    def capture_bytes(self, points: Collection[Point], positions: Sequence[int]) -> int:
        return sum(4 * self.points.numbers(point, position + 1) for point in points for position in positions)

    def capture(self, points: Collection[Point], positions: Sequence[int]) -> Mapping[Point, NDArray[np.float32]]:
        while self._packed:
            self._unpack(self._packed.pop(0))
        return {point: self._array(point, positions) for point in points}

    def lens(self, indices: Sequence[int], *, kind: str, words: int) -> list[LensColumn]:
        return [_found(self._columns, (kind, words, index), "position", index) for index in indices]

    def logit_parts(self, index: int, token_id: int | None = None) -> LogitParts:
        return _found(self._parts, (index, token_id), "position", index)

    def _add(self, answer: Json) -> None:
        if "token_ids" in answer:
            self.token_ids, self.prompt_length = answer["token_ids"], answer["prompt_length"]
        elif "arrays" in answer:
            self._packed.append(answer)
        elif "columns" in answer:
            for column in (from_wire(LensColumn, wire) for wire in answer["columns"]):
                self._columns[answer["lens"], answer["words"], column.index] = column
        else:
            parts = from_wire(LogitParts, answer["parts"])
            self._parts[parts.index, None if answer["was_said"] else parts.token_id] = parts

    def _unpack(self, answer: Json) -> None:
        for kind, layer, shape, packed in answer["arrays"]:
            rows = self._rows.setdefault(Point(kind, layer), {})
            rows.update(zip(answer["positions"], unpack_array(packed).reshape(shape), strict=True))

    def _array(self, point: Point, positions: Sequence[int]) -> NDArray[np.float32]:
        import numpy as np

        recorded = self._rows.get(point, {})
        rows = [_found(recorded, position, "points", f"{point} at position {position}") for position in positions]
        if point.kind in ATTENTION_KINDS:  # rows that were read together have the keys of the longest
            keys, rest = max(positions) + 1, point.unattended
            rows = [np.pad(row, ((0, 0), (0, max(0, keys - row.shape[1]))), constant_values=rest) for row in rows]
            rows = [row[:, :keys] for row in rows]
        return np.stack(rows)


def points_to_wire(points: ModelPoints) -> Json:
    sizes = {kind: list(size) for kind, size in points.sizes.items()}
    return {"layers": points.layers, "sizes": sizes, "missing": dict(points.missing), "derived": sorted(points.derived)}


def points_from_wire(wire: Json) -> ModelPoints:
    sizes = {kind: tuple(size) for kind, size in wire["sizes"].items()}
    return ModelPoints(wire["layers"], sizes, wire["missing"], frozenset(wire["derived"]))


def _found(recorded: Mapping[Key, Value], key: Key, field: str, value: object) -> Value:
    if key not in recorded:
        raise NotRecordedError(field, value, "what was read inside the model while this run was recorded")
    return recorded[key]
