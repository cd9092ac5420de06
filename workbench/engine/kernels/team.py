"""Threads that run one compiled function together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_Job = tuple[Callable[..., object], tuple[Any, ...]]


class Team:
    """Runs a function on several threads at once, the caller's among them.

    The function is called with the number of its thread and how many there are as last arguments, must let the
    interpreter go, and must end at a barrier: `run` returns when the caller's own part does. One caller at a time.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._jobs: list[SimpleQueue[_Job | None]] = [SimpleQueue() for _ in range(1, threads)]
        for number, jobs in enumerate(self._jobs, start=1):
            name = f"compute-{number}"
            threading.Thread(target=_work, args=(jobs, number, threads), name=name, daemon=True).start()

    def run(self, function: Callable[..., object], *args: Any) -> None:
        for jobs in self._jobs:
            jobs.put((function, args))
        function(*args, 0, self.threads)

    def __del__(self) -> None:
        for jobs in self._jobs:
            jobs.put(None)


def _work(jobs: SimpleQueue[_Job | None], number: int, threads: int) -> None:
    while (job := jobs.get()) is not None:
        function, args = job
        function(*args, number, threads)
        del job, function, args  # they hold a model, which must be free to go while the thread waits
