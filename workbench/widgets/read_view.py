"""The read view: the surprisal of each token of a text, alone or beside another text."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import traitlets

from workbench.errors import ClosedError, InvalidRequestError
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK, Part, Parts
from workbench.widgets.code import read_code
from workbench.widgets.composing import Picking, close_on_error, logprobs_with, replace_open_widget, takes_arguments_of
from workbench.widgets.contract import RunLike, SessionLike
from workbench.widgets.html.twins import read_html
from workbench.widgets.model_picker import ModelPicker
from workbench.widgets.run_feed import RunFeed
from workbench.widgets.stream_view import ALTERNATIVES
from workbench.widgets.token_inspector import TokenInspector
from workbench.widgets.token_table import TokenTable
from workbench.widgets.wire.run import error_text

MOST_TEXTS = 2


class ReadView(Picking):
    """One or two texts as a model reads them: how surprising each token is after those before it.

    Args:
        session: a `Workbench`.
        text: the text in the first box.
        other: the text in the second box; empty shows only the first.
        model: identifier of the initial model; None takes the first one served.
        alternatives: number of alternatives to record at each position.
    """

    _esm = module_source("read_view")
    _css = style_source("read_view")
    _twin_shows = ("state",)

    picker = Part("The model picker.")
    text = traitlets.Unicode("", help="The text in the first box.").tag(sync=True)
    other = traitlets.Unicode("", help="The text in the second box; empty shows only the first.").tag(sync=True)
    feeds = Parts("The run feed of each text.")
    inspectors = Parts("Details of the selected token of each text.")
    tables = Parts("One row per token, for each text.")
    state = traitlets.Enum(
        ("idle", "running", "done"), "idle", help="Whether texts are being read: idle, running or done."
    ).tag(sync=True)
    code = traitlets.Unicode("", help="The Python call that makes this view.").tag(sync=True)

    def __init__(
        self,
        session: SessionLike,
        text: str = "",
        other: str = "",
        *,
        model: str | None = None,
        alternatives: int = ALTERNATIVES,
    ) -> None:
        for field, given in (("text", text), ("other", other)):
            if not isinstance(given, str):
                raise InvalidRequestError(field, given, "a string")
        logprobs_with(alternatives)
        self._session, self._alternatives = session, alternatives
        with ExitStack() as made:
            feeds = [close_on_error(made, RunFeed()) for _ in range(MOST_TEXTS)]
            super().__init__(
                picker=close_on_error(made, ModelPicker(session, value=model)),
                text=text,
                other=other,
                feeds=feeds,
                inspectors=[close_on_error(made, TokenInspector(feed=feed)) for feed in feeds],
                tables=[close_on_error(made, TokenTable(feed=feed)) for feed in feeds],
            )
            made.pop_all()
        for feed in feeds:
            feed.observe(self._show_state, "snapshot")
            feed.observe(self._measure_alike, "unit")
        self.observe(self._show_code, ["text", "other"])
        self.picker.observe(self._show_code, "value")
        self._show_code()
        self.on_msg(self._answer)

    @property
    def runs(self) -> tuple[RunLike, ...]:
        """The run of each text shown; its tokens are those of the text."""
        return tuple(feed.run for feed in self.feeds if feed.run is not None)

    def start(self, text: str | None = None, other: str | None = None) -> tuple[RunLike, ...]:
        """Read the texts in the boxes; runs in progress are stopped first.

        Args:
            text, other: replace the texts in the boxes; None keeps them.

        Raises:
            ClosedError: this view was closed.
            InvalidRequestError: the first text is empty or a text is refused; nothing is read.
        """
        with LOCK:
            if self.closed:
                raise ClosedError("this view was closed; make a new one")
            self.text = self.text if text is None else text
            self.other = self.other if other is None else other
            if not self.text:
                raise InvalidRequestError(
                    "text", "", "a string of at least one character", in_form="Paste a text first."
                )
            self.stop()
            with ExitStack() as started:  # after one is refused, the other must not continue
                runs = []
                for one in self._texts():
                    runs.append(self._session.reading(one, model=self.model, alternatives=self._alternatives))
                    started.callback(runs[-1].cancel)
                started.pop_all()
            self.state = "running"
            for feed, run in zip(self.feeds, runs, strict=False):
                feed.follow(run, or_return=True)
            for feed in self.feeds[len(runs) :]:
                feed.clear()
            return tuple(runs)

    def stop(self) -> None:
        """Stop reading, within one step of the model."""
        for run in self.runs:
            if not run.done:
                run.cancel()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the texts are read and the page has all of them; return False on a timeout."""
        return all(feed.wait(timeout_s) for feed in self.feeds)

    def static_html(self) -> str:
        return read_html(self.runs, self._texts(), self.feeds[0].unit)

    def __repr__(self) -> str:
        return f"ReadView(model={self.model!r}, texts={len(self._texts())})"

    def _release(self) -> None:
        self.stop()
        for part in (*self.tables, *self.inspectors, self.picker, *self.feeds):
            part.close()

    def _is_settled(self) -> bool:
        return bool(self.state != "running")

    def _texts(self) -> list[str]:
        return [text for text in (self.text, self.other) if text]

    def _show_state(self, _change: Any = None) -> None:
        states = [feed.run.done for feed in self.feeds if feed.run is not None]
        with LOCK:
            self.state = "idle" if not states else "done" if all(states) else "running"

    def _measure_alike(self, change: Any) -> None:
        for feed in self.feeds:
            feed.unit = change.new
        self._update_twin()

    def _show_code(self, _change: Any = None) -> None:
        with LOCK:
            self.code = read_code(self._texts(), model=self.model, alternatives=self._alternatives)

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        kind = message.get("kind") if isinstance(message, dict) else None
        if kind in ("run", "stop"):
            self.send({"kind": "reply", "id": message.get("id"), "error": self._done(message)})

    def _done(self, message: dict[str, Any]) -> str | None:
        """Perform the action of a button; return the text of an error."""
        try:
            if message["kind"] == "stop":
                self.stop()
            else:
                self.start()
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            return error_text(problem)
        return None


@takes_arguments_of(ReadView)
def read(session: SessionLike, text: str = "", other: str = "", **arguments: Any) -> ReadView:
    """Show how surprising each token of one or two texts is to a model; without a text, paste one in the page.

    An earlier view with the same arguments is closed. See `ReadView` for the arguments.
    """
    opened = ReadView(session, text, other, **arguments)
    if text or other:
        with ExitStack() as made:
            close_on_error(made, opened).start()
            made.pop_all()
    replace_open_widget(session, opened, (text, other, arguments))
    return opened
