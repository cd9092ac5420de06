"""How the threads of a team share a step and meet: each takes its part of the rows, and waits at barriers."""

from __future__ import annotations

from numba import types

from workbench.engine.kernels import compiled
from workbench.engine.kernels.memory_access import atomic_add, atomic_load, atomic_store

_sched_yield = types.ExternalFunction("sched_yield", types.int32())

_SPINS = 4000
"""How often a thread looks for the others before it lets another program have the processor."""


@compiled
def barrier_wait(barrier, threads):
    """Wait until every thread of the team is here. ``barrier`` is the address of two zeros, 64 bytes apart."""
    if threads == 1:
        return
    turn = atomic_load(barrier + 64)
    if atomic_add(barrier, 1) == threads - 1:
        atomic_store(barrier, 0)
        atomic_store(barrier + 64, turn + 1)
        return
    spins = 0
    while atomic_load(barrier + 64) == turn:
        spins += 1
        if spins > _SPINS:
            _sched_yield()


@compiled
def partition(total, unit, thread, threads):
    """This thread's part of ``total`` rows, in whole units but for the last."""
    units = (total + unit - 1) // unit
    return min(units * thread // threads * unit, total), min(units * (thread + 1) // threads * unit, total)
