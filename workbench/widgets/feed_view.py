"""The base class of widgets over a run feed, which is their own or shared with other widgets."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from workbench.widgets.base import Part, WorkbenchWidget
from workbench.widgets.composing import close_on_error
from workbench.widgets.contract import RunLike
from workbench.widgets.run_feed import RunFeed


class FeedView(WorkbenchWidget):
    """A widget over a run feed, which it closes with itself unless it was given one.

    Args:
        feed: a feed to share with other widgets; None makes one.
        run: the run of the feed that is made.
        state: values of traits.
    """

    feed = Part("The run feed, which has the run and the selection.")

    def __init__(self, feed: RunFeed | None, run: RunLike | None = None, **state: Any) -> None:
        self._owns_feed = feed is None
        with ExitStack() as made:
            shared = close_on_error(made, RunFeed(run)) if feed is None else feed
            super().__init__(feed=shared, **state)
            made.pop_all()

    def _release(self) -> None:
        if self._owns_feed:
            self.feed.close()
