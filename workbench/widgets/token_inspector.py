"""Everything about the token that is selected: probability, rank, surprisal, and what stood beside it."""

from __future__ import annotations

from workbench.widgets import static_html
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import Part, WorkbenchWidget
from workbench.widgets.contract import RunLike
from workbench.widgets.run_feed import RunFeed


class TokenInspector(WorkbenchWidget):
    """Follows the selection of its feed.

    Args:
        run: a run to inspect; makes a feed of its own.
        feed: the feed of another widget, to share its run and its selection.
    """

    _esm = module_source("token_inspector")
    _css = style_source("token_inspector")

    feed = Part("The run feed that tells about the run and holds the selection.")

    def __init__(self, run: RunLike | None = None, *, feed: RunFeed | None = None) -> None:
        self._owns_feed = feed is None
        super().__init__(feed=RunFeed(run) if feed is None else feed)

    def static_html(self) -> str:
        records = self.feed.selected_tokens
        return static_html.token_html(records[-1] if records else None)

    def __repr__(self) -> str:
        return f"TokenInspector(selected={self.feed.selected})"

    def _release(self) -> None:
        if self._owns_feed:
            self.feed.close()
