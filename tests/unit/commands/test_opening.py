"""Tests of the options that open a workbench."""

from __future__ import annotations

from workbench.commands import opening
from workbench.engine import precision
from workbench.protocol.quantization import PRECISIONS


def test_commands_and_the_engine_have_the_precisions_of_the_protocol() -> None:
    """Neither imports the protocol for them: ``--help`` is instant, and the engine stands apart."""
    assert opening.PRECISIONS == PRECISIONS
    assert precision.PRECISIONS == PRECISIONS
