"""How many inputs a law is tried on: all of them in `make test`, every fifth in `make check`, which is run often."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

Input = TypeVar("Input")

_SHARE = 5 if os.environ.get("FEWER_INPUTS") else 1


def budget(count: int) -> int:
    """Return how many of ``count`` random inputs to draw; at least one."""
    return -(-count // _SHARE)


def some(inputs: Sequence[Input], at_least: int = 10) -> Sequence[Input]:
    """Return all inputs, or in `make check` every fifth; never fewer than ``at_least`` of them."""
    return inputs[:: max(1, min(_SHARE, len(inputs) // at_least))]
