"""Waits that Ctrl+C, or a notebook's Stop button, ends on every system.

Windows handles an interrupt only between two steps of the interpreter, so a wait for another thread must return to it
from time to time.
"""

from __future__ import annotations

import sys
import threading
from concurrent import futures
from typing import TypeVar

T = TypeVar("T")

_SLICE_S = 0.1 if sys.platform == "win32" else None
"""Longest wait without returning to the interpreter, in seconds; None where an interrupt ends the wait itself."""


def result_of(future: futures.Future[T]) -> T:
    """Wait for a future and return its result, or raise its error; an interrupt raises KeyboardInterrupt."""
    while not futures.wait([future], _SLICE_S).done:
        pass
    return future.result()


class InterruptibleCondition(threading.Condition):
    """A condition whose ``wait_for`` an interrupt ends; ``wait`` may return early, with False."""

    def wait(self, timeout: float | None = None) -> bool:
        limits = [limit for limit in (timeout, _SLICE_S) if limit is not None]
        return super().wait(min(limits, default=None))
