"""Work of a team that is handed out in small shares.

A phase of work ends when all of its shares are done, not when all threads have arrived: a thread that another program
has pushed aside between two shares keeps nobody waiting.
"""

from __future__ import annotations

from workbench.engine.kernels import compiled
from workbench.engine.kernels.memory_access import atomic_add, atomic_load
from workbench.engine.kernels.yielding import yield_core

COUNTERS = 16
"""Numbers of int64 that a phase takes: the next share and, in another cache line, the number of shares done."""

_SPINS = 4000
"""Polls before a thread yields the CPU."""


@compiled
def take(counters):
    """Return the next share of the phase whose counters begin at an address."""
    return atomic_add(counters, 1)


@compiled
def finish(counters):
    """Count a share as done."""
    atomic_add(counters + 64, 1)


@compiled
def wait_until(counters, shares):
    """Wait until all shares of a phase are done."""
    spins = 0
    while atomic_load(counters + 64) < shares:
        spins += 1
        if spins > _SPINS:
            yield_core()
