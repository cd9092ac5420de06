"""Edits of the numbers inside a model, an addition to the protocol."""

from __future__ import annotations

from numbers import Integral
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from workbench.errors import InvalidRequestError
from workbench.protocol.base import ProtocolModel

_Number: TypeAlias = Annotated[float, Field(strict=True)]
_Numbers: TypeAlias = (
    _Number | list[_Number] | list[list[_Number]] | list[list[list[_Number]]] | list[list[list[list[_Number]]]]
)


def _as_int(value: Any) -> Any:
    """Return a whole number of another type, such as numpy's, as a Python integer."""
    return value if isinstance(value, bool) or not isinstance(value, Integral) else int(value)


_Index: TypeAlias = Annotated[int, BeforeValidator(_as_int), Field(ge=0, strict=True)]


def _as_lists(value: Any) -> Any:
    """Return an array as nested lists; scores of -inf, of keys that are not attended to, as the lowest float32."""
    if hasattr(value, "tolist"):
        import numpy as np

        array = np.array(value, np.float64)
        array[array == -np.inf] = np.finfo(np.float32).min
        return array.tolist()
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Edit(ProtocolModel):
    """A change of the numbers at one point of a model while it reads the prompt and writes the answer.

    Positions count from the first token of the prompt, as the model receives it. The names of points are those of
    `Workbench.points`.
    """

    point: str
    """Such as ``resid_post.12``."""
    operation: Literal["set", "add", "scale"]
    """Set the numbers to the value, add it to them, or multiply them with it."""
    value: Annotated[_Numbers, BeforeValidator(_as_lists)]
    """One number, or a token's numbers, or with ``stop`` a row of them for each position; arrays are accepted."""
    start: _Index = 0
    """First position to change."""
    stop: _Index | None = None
    """Position to stop before; None for the end of the answer."""
    head: _Index | None = None
    """The only head to change; None for all."""

    @field_validator("stop")
    @classmethod
    def _check_stop(cls, stop: int | None, values: ValidationInfo) -> int | None:
        start = values.data.get("start", 0)
        if stop is not None and stop <= start:
            raise InvalidRequestError("stop", stop, f"None or a position above start, which is {start}")
        return stop
