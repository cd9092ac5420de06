"""Runs side by side, each compared with the first: what `CompareView` and the edit view have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import traitlets

from workbench.analysis.comparison import Comparison, Pair
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK, Parts, WorkbenchWidget
from workbench.widgets.coalescing import start_ticker
from workbench.widgets.contract import RunLike
from workbench.widgets.html.comparison import compare_html
from workbench.widgets.run_feed import RunFeed
from workbench.widgets.wire.comparison import wire_pairs

_NOTHING: dict[str, Any] = {"number": 0, "state": "idle", "pairs": []}
_INTERVAL_S = 0.25


class ComparedRuns(WorkbenchWidget):
    """A widget that follows several runs and sends their differences; subclasses start the runs."""

    _twin_shows = ("differences",)

    feeds = Parts("The run feed of each side, A first.")
    sides: traitlets.List[dict[str, Any]] = traitlets.List(
        help="Letter, model and settings of each side, as shown."
    ).tag(sync=True)
    common = traitlets.Unicode("", help="The sampling settings that all sides share, as shown.").tag(sync=True)
    differences = traitlets.Dict(
        help="Where the runs diverge and by how much; set when they start and when they end."
    ).tag(sync=True)
    position = traitlets.Int(None, allow_none=True, min=0, help="The selected position, the same in every side.").tag(
        sync=True
    )

    def __init__(self, **state: Any) -> None:
        self._comparison: Comparison | None = None
        self._sent: list[int] = []
        self._wait: Callable[[float | None], None] = lambda _timeout_s: None
        super().__init__(differences=dict(_NOTHING), **state)

    @property
    def comparison(self) -> Comparison | None:
        """The comparison of the runs shown; None before the first."""
        return self._comparison

    @property
    def runs(self) -> tuple[RunLike, ...]:
        """The run of each side; empty before the first."""
        return () if self._comparison is None else self._comparison.runs

    @property
    def divergence(self) -> int | None:
        """Position of the first difference, or None."""
        return None if self._comparison is None else self._comparison.divergence

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until all runs have ended and are compared; return False on a timeout."""
        self._wait(timeout_s)
        return self.differences["state"] != "running" and all(feed.wait(timeout_s) for feed in self.feeds)

    def _is_settled(self) -> bool:
        return bool(self.differences["state"] != "running")

    def _follow_runs(self, comparison: Comparison) -> None:
        """Show the runs of a comparison in the sides, which were set before; called behind the lock."""
        self._comparison, self._sent = comparison, [0] * (len(comparison.runs) - 1)
        self.position = None
        for feed, run in zip(self.feeds, comparison.runs, strict=True):
            feed.follow(run)
        self.differences = {"number": self.differences["number"] + 1, "state": "running", "pairs": []}
        ticker = start_ticker(
            comparison, lambda: self._publish(comparison), lambda: self._finish(comparison), interval_s=_INTERVAL_S
        )
        self._wait = ticker.join

    def _set_sides(self, sides: Sequence[Mapping[str, Any]], common: str, **more: Any) -> None:
        """Show the titles of the sides; feeds are made and closed with them."""
        kept, extra = self.feeds[: len(sides)], self.feeds[len(sides) :]
        with self.hold_sync():
            self.feeds = [*kept, *(self._feed() for _ in sides[len(kept) :])]
            self.sides, self.common = [dict(side) for side in sides], common
            for name, value in more.items():
                setattr(self, name, value)
        for feed in extra:
            feed.close()

    def _feed(self) -> RunFeed:
        feed = RunFeed()
        if self.feeds:
            feed.unit = self.feeds[0].unit
        else:
            feed.observe(self._update_twin, "unit")
        return feed

    def _publish(self, comparison: Comparison) -> None:
        # Tokens first: the first difference is shown with the texts, even if distributions arrive later.
        pairs = comparison.read(patience_s=0)
        with LOCK:
            if self._comparison is comparison and not self.closed:
                wire = wire_pairs(pairs, self._sent)
                self._sent = [pair["from"] + len(pair["kl"]) for pair in wire]
                self.send({"kind": "differences", "number": self.differences["number"], "pairs": wire})
        comparison.read(
            _INTERVAL_S
        )  # outside the lock, because the model's thread returns one position's logits per step

    def _finish(self, comparison: Comparison) -> None:
        pairs = comparison.read()
        with LOCK:
            if self._comparison is comparison and not self.closed:
                self.differences = self._whole(pairs, "done")

    def _whole(self, pairs: Sequence[Pair], state: str) -> dict[str, Any]:
        wire = wire_pairs(pairs, [0] * len(pairs))
        return {"number": self.differences["number"], "state": state, "pairs": wire}

    def _send_whole(self, message: Mapping[str, Any]) -> None:
        """Answer a page that has missed messages."""
        pairs = () if self._comparison is None else self._comparison.pairs
        whole = self._whole(pairs, self.differences["state"])
        self.send({"kind": "whole", "id": message.get("id"), "differences": whole})


class RunComparison(ComparedRuns):
    """Runs that were started elsewhere, side by side, with the first difference marked; each is compared with A."""

    _esm = module_source("run_comparison")
    _css = style_source("run_comparison")

    def __init__(self) -> None:
        super().__init__()
        self.on_msg(self._answer)

    def show(self, runs: Sequence[RunLike], sides: Sequence[Mapping[str, Any]], common: str = "") -> Comparison:
        """Show runs from now on; those shown before go on.

        Args:
            runs: two or more runs of one prompt, the reference first.
            sides: letter, model and settings of each. A side with ``beside`` true has no text of its own in the page.
            common: a line for all of them.
        """
        with LOCK:
            comparison = Comparison(list(runs))
            self._set_sides(sides, common)
            self._follow_runs(comparison)
            return comparison

    def static_html(self) -> str:
        return "" if self._comparison is None else compare_html(self._comparison, self.sides, "", self.feeds[0].unit)

    def __repr__(self) -> str:
        return f"RunComparison(runs={len(self.runs)}, divergence={self.divergence})"

    def _release(self) -> None:
        for feed in self.feeds:
            feed.close()

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        if isinstance(message, dict) and message.get("kind") == "look":
            self._send_whole(message)
