"""Threads that run one compiled function together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_Job = tuple[Callable[..., object], tuple[Any, ...], int]
"""A function, its arguments, and the number of threads that run it."""


class Team:
    """A group of threads, the caller's among them, that run a function together.

    The function gets its thread's index and the number of threads as last arguments. It must release the GIL and end
    with a barrier, because `run` returns when the caller's own part does. Only one thread may call `run` at a time.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._jobs: list[SimpleQueue[_Job | None]] = [SimpleQueue() for _ in range(1, threads)]
        for index, jobs in enumerate(self._jobs, start=1):
            name = f"compute-{index}"
            threading.Thread(target=_work, args=(jobs, index), name=name, daemon=True).start()

    def run(self, function: Callable[..., object], *args: Any, threads: int | None = None) -> None:
        """Run a function on the first ``threads`` threads, by default on all."""
        count = self.threads if threads is None else threads
        for jobs in self._jobs[: count - 1]:
            jobs.put((function, args, count))
        function(*args, 0, count)

    def __del__(self) -> None:
        for jobs in self._jobs:
            jobs.put(None)


def _work(jobs: SimpleQueue[_Job | None], index: int) -> None:
    while (job := jobs.get()) is not None:
        function, args, threads = job
        function(*args, index, threads)
        del job, function, args  # they reference a model, which must be collectable while the thread waits
