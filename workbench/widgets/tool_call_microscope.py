"""The tool calls of a run token by token: where one might have begun, how far reading had come, what a schema forbade.

The steps are looked at once the run has ended, by a thread: the model's own thread answers, and may be busy.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import traitlets

from workbench.records import CallStep, TokenRecord
from workbench.widgets import static_calls
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK, Part, WorkbenchWidget
from workbench.widgets.contract import RunLike
from workbench.widgets.run_feed import RunFeed
from workbench.widgets.wire import in_words, label, number

NO_RUN = "No run yet."
RUNNING = "The picture comes when the answer has ended."


class ToolCallMicroscope(WorkbenchWidget):
    """Follows the run and the selection of its feed.

    Args:
        run: a run with tools; makes a feed of its own.
        feed: the feed of another widget, such as a chat's, to share its run and its selection.
    """

    _esm = module_source("tool_call_microscope")
    _css = style_source("tool_call_microscope")

    feed = Part("The run feed that tells about the run and holds the selection.")
    steps: traitlets.List[list[Any]] = traitlets.List(
        help="A token each: label, probability that a call begins, whether that is exact, parse state, mass removed by "
        "the schema, whether the schema left no other."
    ).tag(sync=True)
    message = traitlets.Unicode(NO_RUN, help="Why there is nothing to show; empty where there is.").tag(sync=True)

    def __init__(self, run: RunLike | None = None, *, feed: RunFeed | None = None) -> None:
        self._owns_feed = feed is None
        self._looked_at: RunLike | None = None
        self._thread: threading.Thread | None = None
        self._steps: Sequence[CallStep] = ()
        super().__init__(feed=RunFeed(run) if feed is None else feed)
        self.feed.observe(self._look, "snapshot")
        self._look()

    @property
    def call_steps(self) -> list[CallStep]:
        """What is shown, as ``run.call_steps()`` gives it."""
        return list(self._steps)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the run that has ended is shown; True if nothing is left to look at."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def static_html(self) -> str:
        return static_calls.microscope_html(self._steps, self.message)

    def __repr__(self) -> str:
        return f"ToolCallMicroscope(tokens={len(self._steps)}, calls={_count(self._steps)})"

    def _release(self) -> None:
        self.feed.unobserve(self._look, "snapshot")
        if self._owns_feed:
            self.feed.close()

    def _look(self, _change: Any = None) -> None:
        with LOCK:
            run = self.feed.run
            if self.closed:
                return
            if run is None or not run.done:
                self._looked_at = None
                self._show((), NO_RUN if run is None else RUNNING)
            elif run is not self._looked_at:
                self._looked_at = run
                self._thread = threading.Thread(target=self._read, args=(run,), name=f"workbench-{run.id}-calls")
                self._thread.daemon = True
                self._thread.start()

    def _read(self, run: RunLike) -> None:
        steps: Sequence[CallStep] = ()
        try:
            steps, message = run.call_steps(), ""
        except Exception as problem:  # noqa: BLE001 - whatever it is, the person who looks must read it
            message = f"There are no calls to look at: {in_words(problem)}."
        with LOCK:
            if self._looked_at is run and not self.closed:
                self._show(steps, message)

    def _show(self, steps: Sequence[CallStep], message: str) -> None:
        self._steps = steps
        with self.hold_sync():
            self.steps = [_wire(step, token) for step, token in zip(steps, self.feed.tokens, strict=False)]
            self.message = message


def _wire(step: CallStep, token: TokenRecord) -> list[Any]:
    probability = None if math.isnan(step.start_probability) else number(step.start_probability, digits=6)
    return [
        label(token.text, token.bytes),
        probability,
        step.is_exact,
        step.parse_state,
        number(step.removed_mass, digits=6),
        step.is_forced,
    ]


def _count(steps: Sequence[CallStep]) -> int:
    return sum(step.parse_state == "success" for step in steps)
