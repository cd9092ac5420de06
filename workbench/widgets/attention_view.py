"""The attention view: the tokens that one token attends to in one head, and a number for each head of the model.

The weights are derived: the model computes its tokens again, and the weights follow from the queries and keys. One row
of one head is sent at a time, because all weights of a text of 5,000 tokens are a hundred megabytes for each head.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import traitlets

from workbench.errors import UnsupportedFieldError
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.background import Newest, wait_for_token
from workbench.widgets.base import LOCK
from workbench.widgets.composing import close_on_error, replace_open_widget
from workbench.widgets.contract import InsideRun
from workbench.widgets.feed_view import FeedView
from workbench.widgets.html.attention import attention_html
from workbench.widgets.run_feed import RunFeed
from workbench.widgets.wire.attention import prompt_labels, sampled, wire_heads, wire_row
from workbench.widgets.wire.run import failure

NO_RUN = "No run yet."
WAITING = "Waiting for the first token …"
NOT_HERE = "Attention is not available: only models in this process can be looked into."
MEASURES = ("first", "previous", "entropy")
"""Numbers of a head that the grid can show."""
_WEIGHTS = "attn_probs"
_LAYERS_AT_ONCE = 16
_MOST_NUMBERS = 2**23
"""Most weights of one token that are kept for a choice of another head: 32 MiB."""


class AttentionView(FeedView):
    """The tokens of a run, with arcs from the chosen token to those that it attends to in the chosen head.

    Args:
        run: the run to show, with a feed of its own.
        feed: a feed to share with other widgets; its selection is the chosen token.
        active: False reads nothing until the trait is set to True.
    """

    _esm = module_source("attention_view")
    _css = style_source("attention_view")
    _twin_shows = ("row", "heads", "message", "measure", "feed.unit")

    active = traitlets.Bool(True, help="Whether attention is read; False saves the work while the view is hidden.")
    message = traitlets.Unicode(NO_RUN, help="Why there are no weights to show; empty if there are.").tag(sync=True)
    prompt = traitlets.List(traitlets.Unicode(), help="Texts of the prompt's tokens, before those of the run.").tag(
        sync=True
    )
    shape = traitlets.List(traitlets.Int(), help="Numbers of layers and of heads in each; empty if unknown.").tag(
        sync=True
    )
    layer = traitlets.Int(0, min=0, help="The chosen layer.").tag(sync=True)
    head = traitlets.Int(0, min=0, help="The chosen head of the layer.").tag(sync=True)
    position = traitlets.Int(
        None, allow_none=True, min=0, help="The chosen token, counted from the first one of the prompt."
    ).tag(sync=True)
    row = traitlets.Dict(help="The weights of the chosen token in the chosen head; empty until they are read.").tag(
        sync=True
    )
    heads: traitlets.List[Any] = traitlets.List(
        help="Of each head of the layers read so far: shares on the first and the previous token, and entropy in nats."
    ).tag(sync=True)
    averaged = traitlets.Int(0, help="Number of tokens over which the numbers of the heads are averaged.").tag(
        sync=True
    )
    measure = traitlets.Enum(
        MEASURES, "first", help="The number in the grid of heads: share on the first or previous token, or entropy."
    ).tag(sync=True)

    def __init__(self, run: InsideRun | None = None, *, feed: RunFeed | None = None, active: bool = True) -> None:
        self._seen: InsideRun | None = None
        self._measured: object = None
        self._is_beginning = False
        self._read: tuple[InsideRun | None, int, Mapping[str, Any]] = None, -1, {}
        self._rows, self._grid = Newest("workbench-attention"), Newest("workbench-heads")
        super().__init__(feed, run, active=active)
        self.feed.observe(self._update, "snapshot")
        self.feed.observe(self._take_selection, "selected")
        self.observe(self._update, "active")
        self.observe(self._choose, ["layer", "head", "position"])
        self._update()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the weights and the numbers of all heads are shown; return False on a timeout."""
        return self._rows.wait(timeout_s) and self._grid.wait(timeout_s)

    def static_html(self) -> str:
        return attention_html(
            self._labels(),
            self.row,
            self.heads,
            self.message,
            measure=self.measure,
            averaged=self.averaged,
            unit=self.feed.unit,
        )

    def __repr__(self) -> str:
        return f"AttentionView(layer={self.layer}, head={self.head}, position={self.position})"

    def _labels(self) -> list[str]:
        return [*self.prompt, *(token.text for token in self.feed.tokens)]

    def _is_settled(self) -> bool:
        return bool(self.message) or (super()._is_settled() and len(self.heads) == self.shape[0])

    def _release(self) -> None:
        self.feed.unobserve(self._update, "snapshot")
        self.feed.unobserve(self._take_selection, "selected")
        super()._release()

    def _take_selection(self, _change: Any = None) -> None:
        """Choose the token that was selected in another view."""
        with LOCK:
            if self._seen is self.feed.run and self.shape and self.feed.selected and self.feed.tokens:
                selected = min(self.feed.selected[-1], len(self.feed.tokens) - 1)
                self.position = len(self.prompt) + selected

    def _choose(self, _change: Any = None) -> None:
        """Read the weights of a choice, and select the chosen token for other views."""
        with LOCK:
            # The first token shown is nobody's choice, and stays out of other views.
            if self.position is not None and self.shape and not self._is_beginning:
                index = self.position - len(self.prompt)
                if index >= 0 and (not self.feed.selected or self.feed.selected[-1] != index):
                    self.feed.selected = index
            self._update()

    def _update(self, _change: Any = None) -> None:
        with LOCK:
            if not self.active or self.closed:
                return
            run = self.feed.run
            if run is not self._seen:
                self._seen, self._measured, self._read = run, None, (None, -1, {})
                self._clear(NO_RUN if run is None else WAITING)
            if run is not None:
                self._rows.start(partial(self._read_row, run))
                if run.done or run.state == "paused":
                    self._grid.start(partial(self._read_heads, run))

    def _clear(self, message: str) -> None:
        with self.hold_sync():
            self.message, self.prompt, self.shape, self.position = message, [], [], None
            self.row, self.heads, self.averaged = {}, [], 0

    def _in_view(self, run: InsideRun) -> bool:
        return self._seen is run and self.active and not self.closed

    def _read_row(self, run: InsideRun) -> None:
        """Read and show the weights of the chosen token; called on a thread of its own."""
        wait_for_token(run, lambda: self._in_view(run))
        try:
            position = self._begin(run) if self._in_view(run) else None
            if position is None:
                return
            layer, head = self.layer, self.head
            if {"layer": layer, "head": head, "position": position}.items() <= self.row.items():
                return
            row = wire_row(layer, head, position, self._weights_of(run, layer, position)[head])
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            self._fail(run, problem)
            return
        with LOCK:
            if self._in_view(run):
                with self.hold_sync():
                    self.row, self.message = row, ""

    def _weights_of(self, run: InsideRun, layer: int, position: int) -> Any:
        """Return the weights of one token in a layer, shape (heads, keys).

        Those of all layers are read at once if they are few, because each reading computes the text again.
        """
        name = f"{_WEIGHTS}.{layer}"
        seen, at, weights = self._read
        if seen is not run or at != position or name not in weights:
            layers, heads = self.shape
            are_few = layers * heads * (position + 1) <= _MOST_NUMBERS
            weights = run.capture(_WEIGHTS if are_few else name, [position])
            self._read = run, position, weights
        return weights[name][0]

    def _begin(self, run: InsideRun) -> int | None:
        """Show the prompt and the shape of the model, and choose a token if none is; return it, None if none can be."""
        if not run.tokens and not run.reads:
            self._fail(run, None)
            return None
        insides = run.insides
        if _WEIGHTS not in insides.points.sizes:
            missing = insides.points.missing.get(_WEIGHTS, "it has no such weights")
            raise UnsupportedFieldError("attention", run.model, "of another model", in_form=f"This model: {missing}")
        shape = [insides.points.layers, insides.points.sizes[_WEIGHTS][0]]
        labels = [] if run.reads else prompt_labels(insides)
        with LOCK:
            if not self._in_view(run):
                return None
            self._is_beginning = True
            with self.hold_sync():
                if self.shape != shape:
                    self.prompt, self.shape = labels, shape
                self.layer, self.head = min(self.layer, shape[0] - 1), min(self.head, shape[1] - 1)
                if self.position is None:
                    self._take_selection()
                count = len(labels) + len(run.tokens)
                self.position = position = count - 1 if self.position is None else min(self.position, count - 1)
            self._is_beginning = False
            return position

    def _read_heads(self, run: InsideRun) -> None:
        """Read and show the numbers of all heads, some layers at a time; called on a thread of its own."""
        self._rows.wait()  # which shows first what can be read sooner
        while self._in_view(run) and self.shape and not self.message:
            layers, heads = self.shape
            with LOCK:
                length = len(self.prompt) + len(run.tokens)
                if self._measured != (run, length):
                    self._measured, self.heads = (run, length), []
            start, positions = len(self.heads), sampled(length, layers * heads)
            if start == layers:
                return
            try:
                block = range(start, min(layers, start + _LAYERS_AT_ONCE))
                fresh = wire_heads(run.attention_heads(block, positions).to_dict("records"))
            except Exception as problem:  # noqa: BLE001 - any error is shown in the page
                self._fail(run, problem)
                return
            with LOCK:
                if self._in_view(run) and self._measured == (run, length):
                    with self.hold_sync():
                        self.heads, self.averaged = [*self.heads, *fresh], len(positions)

    def _fail(self, run: InsideRun, problem: Exception | None) -> None:
        with LOCK:
            if self._in_view(run):
                self.message = _reason(problem)


def attention(session: Any, run: InsideRun) -> AttentionView:
    """Show what each token of a run attends to; see `AttentionView`. An earlier view of the same prompt is closed."""
    with ExitStack() as made:
        opened = close_on_error(made, AttentionView(run))
        made.pop_all()
    replace_open_widget(session, opened, (run.model, run.prompt))
    return opened


def _reason(problem: Exception | None) -> str:
    if problem is None:
        return "There is no token to look at."
    if isinstance(problem, UnsupportedFieldError) and problem.field == "model":
        return NOT_HERE
    return failure("Attention cannot be shown", problem)
