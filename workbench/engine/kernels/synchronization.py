"""Work partition and barrier of the threads that run a step together."""

from __future__ import annotations

from workbench.engine.kernels import compiled
from workbench.engine.kernels.memory_access import atomic_add, atomic_load, atomic_store
from workbench.engine.kernels.yielding import yield_core

_SPINS = 4000
"""Polls before a thread yields the CPU."""


@compiled
def wait_for(counter, least):
    """Wait until the int64 at an address, which other threads increase, is at least ``least``."""
    spins = 0
    while atomic_load(counter) < least:
        spins += 1
        if spins > _SPINS:
            yield_core()


@compiled
def barrier_wait(barrier, threads):
    """Wait for all threads of the team. ``barrier`` is the address of two zeros, 64 bytes apart."""
    if threads == 1:
        return
    turn = atomic_load(barrier + 64)
    if atomic_add(barrier, 1) == threads - 1:
        atomic_store(barrier, 0)
        atomic_store(barrier + 64, turn + 1)
        return
    wait_for(barrier + 64, turn + 1)


@compiled
def partition(total, unit, thread, threads):
    """Return the first row and the end of this thread's part of ``total`` rows, in whole units except at the end."""
    units = (total + unit - 1) // unit
    return min(units * thread // threads * unit, total), min(units * (thread + 1) // threads * unit, total)
