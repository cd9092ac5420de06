"""Work that a widget does in the background, one step at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from workbench.widgets.base import LOCK
from workbench.widgets.coalescing import has_ended


class Background:
    """Calls a function on a thread of its own, once or more after each `wake`; two calls never overlap.

    Args:
        step: does a part of the work, without an error; it calls `wake` if more is left.
        name: name of the thread.
    """

    def __init__(self, step: Callable[[], None], name: str) -> None:
        self._step = step
        self._name = name
        self._thread: threading.Thread | None = None
        self._is_woken = False

    def wake(self) -> None:
        """Call the function soon; a call that has begun is followed by another one."""
        with LOCK:
            self._is_woken = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until all is done; return False on a timeout."""
        return has_ended(self._thread, timeout_s)

    def _run(self) -> None:
        while self._is_next():
            self._step()

    def _is_next(self) -> bool:
        with LOCK:
            is_woken, self._is_woken = self._is_woken, False
            if not is_woken:
                self._thread = None
            return is_woken
