"""Conversion of a request's edits to those of the engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.engine.decoders import Decoder
from workbench.errors import InvalidRequestError
from workbench.insides import ModelPoints, PointEdit, point_named
from workbench.protocol import Edit


def point_edits(edits: Sequence[Edit], decoder: Decoder) -> tuple[PointEdit, ...]:
    """Return the edits of a request for a model.

    Raises:
        InvalidRequestError, UnsupportedFieldError: an edit's point, head or value does not fit; the error has its path.
    """
    return tuple(_point_edit(edit, decoder.points, f"edits[{index}]") for index, edit in enumerate(edits))


def _point_edit(edit: Edit, points: ModelPoints, field: str) -> PointEdit:
    point = point_named(edit.point, f"{field}.point", points.layers)
    try:
        value = np.array(edit.value, np.float64)
    except ValueError:
        allowed = "one number, or nested lists of equal lengths"
        raise InvalidRequestError(f"{field}.value", "lists of different lengths", allowed) from None
    if (np.abs(value) > np.finfo(np.float32).max).any():
        raise InvalidRequestError(f"{field}.value", "a number beyond float32", "numbers that float32 can hold")
    found = PointEdit(point, edit.operation, value.astype(np.float32), edit.start, edit.stop, edit.head)
    found.check(points, field)
    return found
