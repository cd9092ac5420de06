"""Checks of a caller's arguments, made before any work."""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

from workbench.errors import InvalidRequestError
from workbench.insides import points_named
from workbench.protocol import SamplingParams, sampling_conflict
from workbench.records import Breakpoint

MOST_LAYERS = 10_000
"""More layers than any model has."""


def checked_sampling(params: SamplingParams | None) -> SamplingParams:
    """Return a copy of the parameters; warn at the line of the caller's caller if they contradict each other."""
    if params is None:
        return SamplingParams()
    if not isinstance(params, SamplingParams):
        raise InvalidRequestError("sampling_params", params, "a SamplingParams")
    if conflict := sampling_conflict(params):
        warnings.warn(conflict, UserWarning, stacklevel=3)
    return params.model_copy()  # later changes to the original do not reach the run


def checked_name(model: object) -> str:
    if not isinstance(model, str):
        raise InvalidRequestError("model", model, "the name of a served model")
    return model


def checked_breakpoints(breakpoints: object) -> tuple[Breakpoint, ...]:
    if not isinstance(breakpoints, list | tuple) or not all(isinstance(one, Breakpoint) for one in breakpoints):
        raise InvalidRequestError("breakpoints", breakpoints, "a list of Breakpoint")
    return tuple(breakpoints)


def checked_capture(names: object) -> tuple[str, ...]:
    """Return the names of points; whether a model has them is known once it is loaded."""
    if not isinstance(names, list | tuple):
        raise InvalidRequestError("capture", names, "a list of the names of points")
    points_named(names, "capture", MOST_LAYERS)
    return tuple(names)


def checked_list(field: str, value: object) -> list[Any]:
    """Return a copy of a list, so that a later change by the caller does not reach the run."""
    if not isinstance(value, list):
        raise InvalidRequestError(field, value, "a list")
    return list(value)


def checked_number(field: str, value: object) -> float:
    """Return a finite number; raise `InvalidRequestError` for another value."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise InvalidRequestError(field, value, "a finite number")
    return float(value)


def checked_text(field: str, text: object) -> str:
    """Return a text that is not blank; raise `InvalidRequestError` for another value."""
    if isinstance(text, str) and text.strip():
        return text
    raise InvalidRequestError(field, text, "a text that is not blank")
