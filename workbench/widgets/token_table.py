"""The token table: one row per token and one for the end token, with a selection that Python reads and sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets

from workbench.records import TokenRecord
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK
from workbench.widgets.contract import RunLike
from workbench.widgets.feed_view import FeedView
from workbench.widgets.html import twins
from workbench.widgets.run_feed import Positions, RunFeed
from workbench.widgets.table_order import SORTABLE, rows

if TYPE_CHECKING:
    import pandas as pd

_FRAME = ("token_id", "text", "logprob", "probability", "rank", "entropy")


class TokenTable(FeedView):
    """The tokens of a run as a scrolling table.

    ``rows`` and ``to_frame()`` follow the sorting and filtering in the page.

    Args:
        run: the run to show, with a feed of its own.
        feed: a feed to share with other widgets.
        height: height of the scrolling area in pixels.
    """

    _esm = module_source("token_table")
    _css = style_source("token_table")
    _twin_shows = ("feed.snapshot", "feed.unit", "sort_by", "descending", "query")

    height = traitlets.Int(220, min=60, help="Height of the scrolling area, in pixels.").tag(sync=True)
    sort_by = traitlets.Enum(SORTABLE, "position", help="The column to sort by.").tag(sync=True)
    descending = traitlets.Bool(False, help="Whether the largest value comes first.").tag(sync=True)
    query = traitlets.Unicode(
        "", help="Which rows are shown: part of a token, or comparisons such as rank>3 or probability<=0.1."
    ).tag(sync=True)
    selected = Positions((), help="Positions of the selected rows; can be set to a DataFrame's index.")

    def __init__(self, run: RunLike | None = None, *, feed: RunFeed | None = None, height: int = 220) -> None:
        super().__init__(feed, run, height=height)
        self.selected = self.feed.selected
        self.feed.observe(self._read_selection, "selected")
        self.observe(self._write_selection, "selected")

    @property
    def selected_tokens(self) -> list[TokenRecord]:
        """The records of the selected rows, in the order of selection."""
        return self.feed.selected_tokens  # type: ignore[no-any-return]

    @property
    def rows(self) -> list[int]:
        """Positions of the rows shown, from top to bottom."""
        return rows(
            self.feed.steps, sort_by=self.sort_by, descending=self.descending, query=self.query, unit=self.feed.unit
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the rows shown, with the columns of ``run.to_frame()``, indexed by position."""
        import pandas as pd

        steps = self.feed.steps
        records = [{name: getattr(steps[row], name) for name in _FRAME} for row in self.rows]
        return pd.DataFrame(records, index=pd.Index(self.rows, name="position"), columns=pd.Index(_FRAME))

    def static_html(self) -> str:
        steps = self.feed.steps
        return twins.tokens_html([steps[row] for row in self.rows], self.feed.end, self.feed.unit)

    def __repr__(self) -> str:
        return f"TokenTable(rows={len(self.feed.steps)}, selected={self.selected})"

    def _release(self) -> None:
        self.feed.unobserve(self._read_selection, "selected")
        super()._release()

    def _read_selection(self, change: Any) -> None:
        with LOCK:
            self.selected = change.new

    def _write_selection(self, change: Any) -> None:
        with LOCK:
            self.feed.selected = change.new
