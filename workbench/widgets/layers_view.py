"""The layers view: what each layer foresaw of each token of a run, read in the background while someone looks.

Messages of the page:

* ``{kind: "look", run, from, to, wanted}``: the columns from one position to another are on the screen, and it lacks
  those that are wanted; ``to`` is None where the text still grows and its end is on the screen;
* ``{kind: "hide"}``: nothing is on the screen, so nothing is computed;
* ``{kind: "words", run, position}``: it shows the words of a column.

The kernel sends ``{kind: "columns", run, lens, columns}`` with each part that was computed, and
``{kind: "words", run, lens, position, words}``; `wire.layers` describes their contents.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import traitlets

from workbench.errors import UnsupportedFieldError
from workbench.protocol.insides import LENS_KINDS, LensKind, validate_lens_kind
from workbench.records import LensColumn
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.background import Newest
from workbench.widgets.base import LOCK
from workbench.widgets.coalescing import has_ended, start_ticker
from workbench.widgets.composing import close_on_error, replace_open_widget
from workbench.widgets.contract import RunLike
from workbench.widgets.feed_view import FeedView
from workbench.widgets.html.layers import MOST_COLUMNS, NAMES, layers_html
from workbench.widgets.run_feed import RunFeed
from workbench.widgets.wire.layers import wire_column, wire_words
from workbench.widgets.wire.run import error_text, failure

NO_RUN = "No run yet."
NO_TOKENS = "No tokens yet."
NOT_HERE = "The layers cannot be read: only a model in this process can be looked into."
_LIVE = "Computing the {} of each token as it comes …"
WORDS = 5
"""Number of probable tokens in each cell."""
# Columns that are computed together. During a run each batch holds up a decode step, which the fewer the better.
_LIVE_BATCH = 2
_BATCH = 8
# The maximum number of columns in a request, more than a screen shows.
_MOST_LOOKED_AT = 200


@dataclass(frozen=True, slots=True)
class _Span:
    """The positions of the columns on the screen; ``stop`` is None for the end of the text so far."""

    start: int
    stop: int | None


@dataclass(frozen=True, slots=True)
class _Batch:
    """Columns to compute."""

    run: RunLike
    kind: LensKind
    positions: range


_HIDDEN = _Span(0, 0)


class LayersView(FeedView):
    """A grid of layers and tokens: the most probable token after each layer, and how the layers came to what was said.

    The columns on the screen are computed, also while the run goes on; without a page, the last ones.

    Args:
        run: the run or the reading to show, with a feed of its own.
        feed: a feed to share with other widgets.
        kind: the lens to begin with.
        active: False computes nothing until the trait is set to True.
    """

    _esm = module_source("layers_view")
    _css = style_source("layers_view")
    _twin_shows = ("state", "message", "kind", "feed.snapshot")

    kind = traitlets.Enum(
        LENS_KINDS,
        "logit",
        help="The lens: logit reads each layer as if it were the last; jacobian first adds what the later layers do "
        "on average.",
    ).tag(sync=True)
    layer = traitlets.Int(
        None, allow_none=True, min=0, help="The layer of the chosen cell, from 0; None is the last one."
    ).tag(sync=True)
    state = traitlets.Enum(
        ("idle", "computing", "failed"), "idle", help="Whether columns are computed: idle, computing or failed."
    ).tag(sync=True)
    message = traitlets.Unicode(NO_RUN, help="What is computed, or why nothing is shown; empty otherwise.").tag(
        sync=True
    )
    refused = traitlets.Unicode("", help="Why the Jacobian lens cannot be read; empty as far as is known.").tag(
        sync=True
    )
    stored: traitlets.Dict[str, Any] = traitlets.Dict(help="The page's copy of what it shows, saved with it.").tag(
        sync=True
    )
    active = traitlets.Bool(True, help="Whether columns are computed; False saves the work while the view is hidden.")

    def __init__(
        self, run: RunLike | None = None, *, feed: RunFeed | None = None, kind: LensKind = "logit", active: bool = True
    ) -> None:
        validate_lens_kind(kind)
        self._run: RunLike | None = None
        self._columns: dict[LensKind, dict[int, LensColumn]] = {name: {} for name in LENS_KINDS}
        self._span: _Span | None = None
        self._ticker: threading.Thread | None = None
        self._work = Newest("workbench-layers")
        super().__init__(feed, run, kind=kind, active=active)
        self.on_msg(self._answer)
        self.feed.observe(self._follow, "snapshot")
        self.observe(self._choose_lens, "kind")
        self.observe(self._resume, "active")
        self._follow()

    @property
    def columns(self) -> dict[int, LensColumn]:
        """The columns that have been computed with the lens shown, by position in ``run.tokens``."""
        with LOCK:
            return dict(sorted(self._columns[self.kind].items()))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the run has ended and the columns on the screen are computed; return False on a timeout."""
        return has_ended(self._ticker, timeout_s) and self._work.wait(timeout_s)

    def static_html(self) -> str:
        run = self.feed.run
        return layers_html(self.columns, () if run is None else run.tokens, kind=self.kind, message=self.message)

    def __repr__(self) -> str:
        return f"LayersView(kind={self.kind!r}, columns={len(self._columns[self.kind])})"

    def _is_settled(self) -> bool:
        return super()._is_settled() and self.state != "computing"

    def _release(self) -> None:
        self._run = None
        self.feed.unobserve(self._follow, "snapshot")
        super()._release()

    def _follow(self, _change: Any = None) -> None:
        """Take over the run of the feed."""
        with LOCK:
            run = self.feed.run
            if self.closed or run is self._run:
                return
            self._run, self._ticker = run, None
            self._columns = {name: {} for name in LENS_KINDS}
            self._span = _HIDDEN if self._span == _HIDDEN else None
            with self.hold_sync():
                self.refused = ""
                self._report("idle", NO_RUN if run is None else NO_TOKENS)
            if run is not None and not run.done:
                self._ticker = start_ticker(run, self._resume, self._resume)
            self._work.start(self._compute)

    def _choose_lens(self, _change: Any = None) -> None:
        with LOCK:
            self._report("idle", self.message)
            self._work.start(self._compute)

    def _resume(self, _change: Any = None) -> None:
        with LOCK:
            if self.active and not self.closed:
                self._work.start(self._compute)

    def _compute(self) -> None:
        """Compute the next columns; called on the background thread."""
        with LOCK:
            batch = None if self.closed else self._next_batch()
            if batch is None:
                return
        try:
            columns = batch.run.lens_columns(batch.positions, kind=batch.kind, words=WORDS)
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            with LOCK:
                if self._in_view(batch):
                    self._fail(batch.kind, problem)
            return
        with LOCK:
            if self._run is batch.run and not self.closed:
                self._columns[batch.kind].update(zip(batch.positions, columns, strict=True))
                if self._in_view(batch):
                    self._send_columns(batch.positions)
                    if self.state == "failed":
                        self._report("idle", "")
                self._work.start(self._compute)

    def _next_batch(self) -> _Batch | None:
        """Return the next columns to compute and report them; None if nothing is left to do."""
        run = self._run
        if run is None or not self.active:
            self._report("idle", NO_RUN if run is None else "")
            return None
        count, known = len(run.tokens), self._columns[self.kind]
        looked_at = self._looked_at(run, count)
        missing = [position for position in looked_at if position not in known]
        positions = _first_stretch(missing, _LIVE_BATCH if _is_live(run) else _BATCH)
        if self.state != "failed":
            self._report_progress(run, looked_at, positions, count)
        return _Batch(run, self.kind, positions) if positions else None

    def _report_progress(self, run: RunLike, looked_at: range, positions: range, count: int) -> None:
        is_up_to_date = not positions or positions.stop == count
        if _is_live(run) and looked_at and looked_at.stop == count and is_up_to_date:
            self._report("computing", _LIVE.format(NAMES[self.kind]))
        elif positions:
            self._report("computing", _computing(self.kind, positions, count))
        else:
            self._report("idle", "" if count > int(run.reads) else NO_TOKENS)

    def _looked_at(self, run: RunLike, count: int) -> range:
        span = self._span or _Span(max(0, count - MOST_COLUMNS), None)
        stop = count if span.stop is None else min(span.stop, count)
        # The first token of a reading has none before it that could foretell it.
        return range(max(span.start, int(run.reads), stop - _MOST_LOOKED_AT), stop)

    def _in_view(self, batch: _Batch) -> bool:
        return self._run is batch.run and self.kind == batch.kind and not self.closed

    def _fail(self, kind: LensKind, problem: Exception) -> None:
        field = problem.field if isinstance(problem, UnsupportedFieldError) else None
        if field == "kind" and kind == "jacobian":
            with self.hold_sync():
                self.refused = error_text(problem)
                self.kind = "logit"
            return
        self._report("failed", NOT_HERE if field == "model" else failure("The layers cannot be read", problem))

    def _report(self, state: str, message: str) -> None:
        with self.hold_sync():
            self.message = message
            self.state = state

    def _send_columns(self, positions: Sequence[int]) -> None:
        run, known = self._run, self._columns[self.kind]
        columns = [wire_column(position, known[position]) for position in positions if position in known]
        if run is not None and columns:
            self.send({"kind": "columns", "run": run.id, "lens": self.kind, "columns": columns})

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        kind = message.get("kind") if isinstance(message, dict) else None
        if kind == "hide":
            self._span = _HIDDEN
        elif kind in ("look", "words") and self._run is not None and message.get("run") == self._run.id:
            (self._look if kind == "look" else self._send_words)(message)

    def _look(self, message: dict[str, Any]) -> None:
        start, stop, wanted = message.get("from"), message.get("to"), message.get("wanted")
        if not isinstance(start, int) or not isinstance(stop, int | None) or not isinstance(wanted, list):
            return
        self._span = _Span(max(0, start), stop)
        self._send_columns([position for position in wanted[:_MOST_LOOKED_AT] if isinstance(position, int)])
        self._work.start(self._compute)

    def _send_words(self, message: dict[str, Any]) -> None:
        position = message.get("position")
        column = self._columns[self.kind].get(position) if isinstance(position, int) else None
        if column is not None and self._run is not None:
            facts = {"run": self._run.id, "lens": self.kind, "position": position}
            self.send({"kind": "words", **facts, "words": wire_words(column)})


def layers(session: Any, run: RunLike, *, kind: LensKind = "logit") -> LayersView:
    """Show what each layer foresaw of each token of a run; see `LayersView`.

    An earlier view of a run of the same prompt is closed.
    """
    with ExitStack() as made:
        opened = close_on_error(made, LayersView(run, kind=kind))
        made.pop_all()
    replace_open_widget(session, opened, (run.model, run.prompt))
    return opened


def _is_live(run: RunLike) -> bool:
    return not run.done and run.state == "running"


def _first_stretch(positions: Sequence[int], most: int) -> range:
    """Return the first of some positions, with those directly after it."""
    if not positions:
        return range(0)
    start = positions[0]
    length = next((i for i, position in enumerate(positions[:most]) if position != start + i), len(positions[:most]))
    return range(start, start + length)


def _computing(kind: LensKind, positions: range, count: int) -> str:
    start, stop = positions.start + 1, positions.stop
    tokens = f"token {stop}" if start == stop else f"tokens {start} to {stop}"
    return f"Computing the {NAMES[kind]} of {tokens} of {count:,} …"
