"""The insides of a run of the engine: an implementation of ``records.Insides``."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import exp
from typing import TYPE_CHECKING, TypeVar

import torch

from workbench.engine.insides.contributions import contributions
from workbench.engine.insides.lens import LensReader
from workbench.engine.insides.replay import Replay
from workbench.engine.insides.taps import Captured
from workbench.engine.logprobs import TokenStats
from workbench.engine.weight_sizes import RESERVE_BYTES
from workbench.errors import ClosedError, InsufficientMemoryError, UnsupportedFieldError
from workbench.insides import ModelPoints, Point
from workbench.interrupts import result_of
from workbench.machine import memory_available_bytes
from workbench.providers.transformers.lenses import find_lens
from workbench.records import LensCell, LensColumn, LensWord, LogitParts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workbench.engine.insides.jacobian_lens import JacobianLens
    from workbench.engine.requests import Handle
    from workbench.engine.scheduler import Engine

T = TypeVar("T")


@dataclass(slots=True)
class _Lens:
    """The columns of a lens that have been read, by the indices of their tokens."""

    columns: dict[int, LensColumn] = field(default_factory=dict)
    reader: LensReader | None = None


_COPIES = 2
"""Copies of captured numbers that exist at once: the rows, and the array that is made of them."""


class EngineInsides:
    """Reads the numbers inside the model of one run by computing its tokens again.

    Args:
        has_images: whether the prompt has images, which are not kept.
    """

    def __init__(self, engine: Engine, handle: Handle, *, has_images: bool = False) -> None:
        self._weak_engine = weakref.ref(engine)
        self._vocabulary = engine.model.vocabulary
        self._handle = handle
        self._has_images = has_images
        self._lenses: dict[tuple[str, int], _Lens] = {}
        self._lock = threading.Lock()

    @property
    def points(self) -> ModelPoints:
        return self._engine.model.decoder.points

    @property
    def token_ids(self) -> Sequence[int]:
        return self._handle.token_ids

    @property
    def prompt_length(self) -> int:
        return len(self._handle.request.prompt_ids)

    def text(self, token_id: int) -> str:
        return self._vocabulary.text(token_id)

    def capture_bytes(self, points: Collection[Point], positions: Sequence[int]) -> int:
        numbers = self.points.numbers
        return sum(4 * _COPIES * numbers(point, position + 1) for point in points for position in positions)

    def capture(self, points: Collection[Point], positions: Sequence[int]) -> Mapping[Point, NDArray[np.float32]]:
        self._check_memory(points, positions)
        captured = Captured(points, sorted(set(positions)))
        token_ids = self._handle.token_ids[: captured.positions[-1] + 1]
        replay = self._call(self._replay)
        while not self._call(partial(replay.advance, token_ids, captured)):
            pass
        return {point: captured.found(point, positions) for point in points}

    def lens(self, indices: Sequence[int], *, kind: str, words: int) -> list[LensColumn]:
        with self._lock:
            lens = self._lenses.setdefault((kind, words), _Lens())
            missing = sorted(set(indices) - lens.columns.keys())
            if missing:
                self._extend(lens, missing[0], missing[-1], kind, words)
            return [lens.columns[index] for index in indices]

    def logit_parts(self, index: int, token_id: int | None = None) -> LogitParts:
        chosen = self._handle.token_ids[index] if token_id is None else token_id
        points = self._stream_points()
        arrays = self.capture(points, [index - 1])
        stream = torch.stack([torch.from_numpy(arrays[point][0]).double() for point in points])
        parts = torch.cat([stream[:1], stream.diff(dim=0)])
        unembedding = self._engine.model.decoder.unembedding
        found = self._call(partial(contributions, unembedding, parts, chosen))
        names = _part_names(points)
        values = dict(zip(names, found.values, strict=True)) | {"bias": found.bias, "cap": found.cap}
        named = {name: value for name, value in values.items() if value or name not in ("bias", "cap")}
        return LogitParts(index, chosen, self.text(chosen), found.logit, named)

    def _extend(self, lens: _Lens, first: int, last: int, kind: str, words: int) -> None:
        """Read the columns from one token to another; those between them and what was read before are skipped."""
        # A reader only goes forward: the number that foretells a token is that of the position before it.
        if lens.reader is None or lens.reader.length >= first:
            lens.reader = self._call(partial(self._reader, kind, words))
        token_ids = self._handle.token_ids[: last + 1]
        while lens.reader.length < last:
            for index, stats in self._call(partial(lens.reader.advance, token_ids, first)).items():
                lens.columns[index] = self._column(index, stats, words)

    def _stream_points(self) -> list[Point]:
        """Return the points of the residual stream, in forward order; between two of them, one part is added."""
        points = self.points
        points.check(Point("resid_pre"), "points")
        kinds = ("resid_mid", "resid_post") if "resid_mid" in points.sizes else ("resid_post",)
        return [Point("resid_pre", 0), *(Point(kind, layer) for layer in range(points.layers) for kind in kinds)]

    def _column(self, index: int, stats: Sequence[TokenStats], words: int) -> LensColumn:
        token_id = self._handle.token_ids[index]
        cells = tuple(self._cell(one, words) for one in stats)
        return LensColumn(index, token_id, self.text(token_id), cells)

    def _cell(self, stats: TokenStats, words: int) -> LensCell:
        own = (stats.rank, stats.token_id, stats.logprob)
        ranked = sorted([own, *((one.rank, one.token_id, one.logprob) for one in stats.alternatives)])
        shown = tuple(LensWord(token_id, self.text(token_id), exp(logprob)) for _, token_id, logprob in ranked[:words])
        return LensCell(shown, exp(stats.logprob), stats.rank)

    def _reader(self, kind: str, words: int) -> LensReader:
        request, engine = self._handle.request, self._engine
        self.points.check(Point("resid_post"), "points")
        return LensReader(
            engine.model.decoder,
            request.prompt_ids,
            request.edits,
            alternatives=words,
            lens=self._jacobian_lens() if kind == "jacobian" else None,
        )

    def _jacobian_lens(self) -> JacobianLens:
        engine = self._engine
        engine.lens = engine.lens or find_lens(engine.model)
        if engine.lens is None:
            why = f"Jacobian lens of {engine.model.name} has been fitted"
            raise UnsupportedFieldError(
                "kind", "jacobian", f"logit: no {why}, see Workbench.fit_lens", in_form=f"No {why}."
            )
        return engine.lens

    def _replay(self) -> Replay:
        request = self._handle.request
        return Replay(self._engine.model.decoder, request.prompt_ids, (), request.edits)

    def _check_memory(self, points: Collection[Point], positions: Sequence[int]) -> None:
        needed, free = self.capture_bytes(points, positions), memory_available_bytes() - RESERVE_BYTES
        if needed > free:
            raise InsufficientMemoryError(
                f"a capture of {len(points):,} points at {len(positions):,} positions takes "
                f"{needed / 2**20:,.0f} MiB, and {max(free, 0) / 2**20:,.0f} MiB are free; name fewer of them"
            )

    def _call(self, function: Callable[[], T]) -> T:
        """Run a function on the inference thread."""
        if self._has_images:
            raise UnsupportedFieldError("points", "a run with images", "used on a run whose prompt is text alone")
        return result_of(self._engine.call(function))

    @property
    def _engine(self) -> Engine:
        engine = self._weak_engine()
        if engine is None:
            raise ClosedError("the model of this run was closed, so it cannot be looked into")
        return engine


def _part_names(points: Sequence[Point]) -> list[str]:
    """Return the points at which parts write what they add before each point of the residual stream."""
    has_middle = any(point.kind == "resid_mid" for point in points)
    names = {"resid_pre": "embeddings", "resid_mid": "attn_out", "resid_post": "mlp_out" if has_middle else "layer"}
    return ["embeddings", *(f"{names[point.kind]}.{point.layer}" for point in points[1:])]
