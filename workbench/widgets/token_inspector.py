"""The token inspector: probability, rank, surprisal and alternatives of the selected token."""

from __future__ import annotations

from typing import Any

from workbench.errors import InvalidRequestError
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.contract import RunLike
from workbench.widgets.feed_view import FeedView
from workbench.widgets.html import twins
from workbench.widgets.run_feed import RunFeed
from workbench.widgets.wire.run import error_text


class TokenInspector(FeedView):
    """The selected token with its alternatives; clicking an alternative branches from it.

    Args:
        run: the run to inspect, with a feed of its own.
        feed: a feed to share with other widgets.
    """

    _esm = module_source("token_inspector")
    _css = style_source("token_inspector")
    _twin_shows = ("feed.snapshot", "feed.selected", "feed.unit")

    def __init__(self, run: RunLike | None = None, *, feed: RunFeed | None = None) -> None:
        super().__init__(feed, run)
        self.on_msg(self._answer)

    def branch(self, position: int, token_id: int | None = None) -> RunLike:
        """Continue from another token, as clicking an alternative does; see ``RunFeed.branch``."""
        return self.feed.branch(position, token_id)  # type: ignore[no-any-return]

    def static_html(self) -> str:
        token = next(reversed(self.feed.selected_tokens), None)
        is_end = token is not None and token is self.feed.end
        return twins.token_html(token, is_end=is_end, unit=self.feed.unit)

    def __repr__(self) -> str:
        return f"TokenInspector(selected={self.feed.selected})"

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        if not isinstance(message, dict) or message.get("kind") != "branch":
            return
        error: str | None = None
        try:
            self._branch_from_message(message)
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            error = error_text(problem)
        self.send({"kind": "reply", "id": message.get("id"), "error": error})

    def _branch_from_message(self, message: dict[str, Any]) -> None:
        run = self.feed.run
        if run is None or run.id != message.get("run"):
            in_form = "Another run is shown now. Select the token again."
            raise InvalidRequestError("run", message.get("run"), "the run shown", in_form=in_form)
        self.branch(message.get("position", -1), message.get("token_id"))
