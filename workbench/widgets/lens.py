"""The base class of views that inspect a run on a thread of their own, because the model's thread may be busy."""

from __future__ import annotations

import threading
from typing import Any

import traitlets

from workbench.widgets.base import LOCK
from workbench.widgets.coalescing import has_ended
from workbench.widgets.contract import RunLike
from workbench.widgets.feed_view import FeedView
from workbench.widgets.run_feed import RunFeed


class Lens(FeedView):
    """A view that inspects the run of its feed; subclasses define what they show.

    Args:
        run: the run to show, with a feed of its own.
        feed: a feed to share with other widgets, such as a chat's.
        active: False inspects nothing until the trait is set to True.
    """

    active = traitlets.Bool(True, help="Whether runs are read; False saves the work while the view is hidden.")

    def __init__(self, run: RunLike | None = None, *, feed: RunFeed | None = None, active: bool = True) -> None:
        self._seen: RunLike | None = None
        self._thread: threading.Thread | None = None
        super().__init__(feed, run, active=active)
        self.feed.observe(self._start_reading, "snapshot")
        self.observe(self._start_reading, "active")
        self._start_reading()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the run has ended and all of it is shown; return False on a timeout."""
        return has_ended(self._thread, timeout_s)

    def _read(self, run: RunLike) -> None:
        """Inspect a run and show the result while it is `_in_view`; called on a thread of its own."""
        raise NotImplementedError

    def _clear(self) -> None:
        """Show that there is no run; called behind the lock."""
        raise NotImplementedError

    def _in_view(self, run: RunLike) -> bool:
        return self._seen is run and not self.closed

    def _start_reading(self, _change: Any = None) -> None:
        with LOCK:
            run = self.feed.run if self.active else None
            if self.closed or run is self._seen:
                return
            self._seen = run
            if run is not None:
                self._thread = threading.Thread(target=self._read, args=(run,), name=f"workbench-{run.id}-lens")
                self._thread.daemon = True
                self._thread.start()
            elif self.active:
                self._clear()

    def _release(self) -> None:
        self.feed.unobserve(self._start_reading, "snapshot")
        super()._release()
