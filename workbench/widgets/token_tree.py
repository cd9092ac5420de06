"""The token tree: all runs of one prompt as branches, with the run shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import traitlets

from workbench.errors import InvalidRequestError
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK, Part
from workbench.widgets.branches import arrange, wire_branches
from workbench.widgets.contract import RunLike
from workbench.widgets.feed_view import FeedView
from workbench.widgets.html.tree import tree_html
from workbench.widgets.run_feed import RunFeed
from workbench.widgets.wire.run import error_text


class TokenTree(FeedView):
    """The runs of one prompt as a tree, each branch drawn from the token at which it diverges.

    Args:
        runs: the runs to show, with a feed of their own that shows the last one.
        feed: a feed to share with other widgets.
    """

    _esm = module_source("token_tree")
    _css = style_source("token_tree")
    _twin_shows = ("branches",)

    feed = Part("The run feed, which has the runs and shows the chosen one.")
    branches: traitlets.List[dict[str, Any]] = traitlets.List(help="The branches as drawn, from top to bottom.").tag(
        sync=True
    )

    def __init__(self, runs: Sequence[RunLike] = (), *, feed: RunFeed | None = None) -> None:
        super().__init__(feed)
        for run in runs:
            self.feed.follow(run)
        self._arrange()
        self.on_msg(self._answer)
        self.feed.observe(self._arrange, "revision")

    @property
    def runs(self) -> tuple[RunLike, ...]:
        """The runs in the order of the branches, from top to bottom."""
        by_id = {run.id: run for run in self.feed.runs}
        return tuple(by_id[branch["run"]] for branch in self.branches)

    def choose(self, run: RunLike | str) -> None:
        """Show this run; the previous one is not stopped.

        Args:
            run: one of ``runs``, or its id.
        """
        with LOCK:
            for known in self.feed.runs:
                if known is run or known.id == run:
                    if known is not self.feed.run:
                        self.feed.follow(known)
                    return
        raise InvalidRequestError("run", run, f"one of {', '.join(known.id for known in self.feed.runs) or 'none'}")

    def static_html(self) -> str:
        return tree_html(self.branches)

    def __repr__(self) -> str:
        shown = None if self.feed.run is None else self.feed.run.id
        return f"TokenTree(branches={len(self.branches)}, shown={shown!r})"

    def _release(self) -> None:
        self.feed.unobserve(self._arrange, "revision")
        super()._release()

    def _arrange(self, _change: Any = None) -> None:
        with LOCK:
            runs, shown = self.feed.runs, self.feed.run
            self.branches = wire_branches(arrange(runs, shown), shown, runs)

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        if not isinstance(message, dict) or message.get("kind") != "choose":
            return
        error: str | None = None
        try:
            self.choose(str(message.get("run")))
        except InvalidRequestError as problem:
            error = error_text(problem)
        self.send({"kind": "reply", "id": message.get("id"), "error": error})
