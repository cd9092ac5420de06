"""Work of a team that is handed out in small shares.

A phase of work ends when all of its shares are done, not when all threads have arrived: a thread that another program
has pushed aside between two shares keeps nobody waiting.
"""

from __future__ import annotations

from workbench.engine.kernels import compiled
from workbench.engine.kernels.memory_access import atomic_add
from workbench.engine.kernels.synchronization import wait_for

COUNTERS = 16
"""Numbers of int64 that a phase takes: the next share and, in another cache line, the number of shares done."""


@compiled
def shares(counters, count):
    """Yield the shares of a phase that this thread is to do; return when all ``count`` are done.

    ``counters`` is the address of the phase's counters. A share counts as done when the next one is asked for.
    """
    share = atomic_add(counters, 1)
    while share < count:
        yield share
        atomic_add(counters + 64, 1)
        share = atomic_add(counters, 1)
    wait_for(counters + 64, count)
