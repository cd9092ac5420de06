"""Work in the background, of which only the newest counts: a view asks again whenever a choice in it changes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from workbench.widgets.coalescing import has_ended
from workbench.widgets.contract import RunLike

_INTERVAL_S = 0.25


class Newest:
    """Runs one piece of work at a time on a thread of its own; a newer one replaces the one that waits.

    Args:
        name: name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._next: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Run ``work``, after what runs now; work that has not begun is dropped."""
        with self._lock:
            self._next = work
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until no work is left; return False on a timeout."""
        return has_ended(self._thread, timeout_s)

    def _run(self) -> None:
        while True:
            with self._lock:
                work, self._next = self._next, None
                if work is None:
                    self._thread = None
                    return
            work()


def wait_for_token(run: RunLike, is_wanted: Callable[[], bool]) -> None:
    """Block until a run has a token or has ended, or nobody wants to know any more."""
    while is_wanted() and not run.tokens and not run.done:
        run.wait(_INTERVAL_S)
