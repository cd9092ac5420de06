"""The tool-call microscope: for each token the probability of a call, the parse state, and what a schema removed.

During a run the page gets changed steps, ``{kind: "steps", run, changes: [[position, step], ...]}``, at most four times
a second; after its end the trait has all steps, so that a reload finds them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import traitlets

from workbench.records import CallStep, TokenRecord
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK
from workbench.widgets.contract import RunLike
from workbench.widgets.html.calls import microscope_html
from workbench.widgets.lens import Lens
from workbench.widgets.run_feed import RunFeed
from workbench.widgets.wire.run import failure, label, number

NO_RUN = "No run yet."
WAITING = "No tokens yet."
_INTERVAL_S = 0.25


class ToolCallMicroscope(Lens):
    """The tool calls of a run, token by token, also while it runs."""

    _esm = module_source("tool_call_microscope")
    _css = style_source("tool_call_microscope")
    _twin_shows = ("steps", "message")

    steps: traitlets.List[list[Any]] = traitlets.List(
        help="For each token: label, probability that a call begins, whether that is exact, parse state, probability "
        "removed by the schema, whether the schema left no choice. Set when the run has ended."
    ).tag(sync=True)
    message = traitlets.Unicode(NO_RUN, help="Why there is nothing to show; empty otherwise.").tag(sync=True)

    def __init__(self, run: RunLike | None = None, *, feed: RunFeed | None = None, active: bool = True) -> None:
        self._steps: Sequence[CallStep] = ()
        self._sent: list[list[Any]] = []
        """The steps as they were last sent to the page."""
        super().__init__(run, feed=feed, active=active)
        self.on_msg(self._answer)

    @property
    def call_steps(self) -> list[CallStep]:
        """The steps, as ``run.call_steps()`` returns them; the list grows during the run."""
        return list(self._steps)

    def static_html(self) -> str:
        return microscope_html(self._steps, self.message)

    def __repr__(self) -> str:
        return f"ToolCallMicroscope(tokens={len(self._steps)}, calls={_count(self._steps)})"

    def _read(self, run: RunLike) -> None:
        with LOCK:
            if self._in_view(run) and not run.done:
                self._show((), WAITING)
        while not run.done and self._in_view(run):
            self._send_changes(run)
            run.wait(_INTERVAL_S)
        steps, message = _steps_of(run)
        with LOCK:
            if self._in_view(run):
                self._show(steps, message)

    def _clear(self) -> None:
        self._show((), NO_RUN)

    def _send_changes(self, run: RunLike) -> None:
        steps, message = _steps_of(run)
        with LOCK:
            if not self._in_view(run):
                return
            before, self._sent = self._sent, _wire(steps, run.tokens)
            self._steps, self.message = steps, message
            known = len(before)
            changes = [[i, step] for i, step in enumerate(self._sent) if i >= known or step != before[i]]
            if changes:
                self.send({"kind": "steps", "run": run.id, "changes": changes})

    def _show(self, steps: Sequence[CallStep], message: str) -> None:
        self._steps, self._sent = steps, _wire(steps, self.feed.tokens)
        with self.hold_sync():
            self.steps = self._sent
            self.message = message

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        """Send all steps of a run in progress to a page that was opened during it."""
        run = self._seen
        if isinstance(message, dict) and message.get("kind") == "steps" and run is not None:
            changes = [[i, step] for i, step in enumerate(self._sent)]
            self.send({"kind": "steps", "run": run.id, "changes": changes})


def _steps_of(run: RunLike) -> tuple[Sequence[CallStep], str]:
    if not run.done and not run.tokens:  # the first token's record says whether calls are parsed
        return (), WAITING
    try:
        return run.call_steps(), ""
    except Exception as problem:  # noqa: BLE001 - any error is shown in the page
        return (), failure("Tool calls cannot be shown", problem)


def _wire(steps: Sequence[CallStep], tokens: Sequence[TokenRecord]) -> list[list[Any]]:
    return [
        [
            label(token.text, token.bytes),
            None if math.isnan(step.start_probability) else number(step.start_probability, digits=6),
            step.is_exact,
            step.parse_state,
            number(step.removed_mass, digits=6),
            step.is_forced,
        ]
        for step, token in zip(steps, tokens, strict=False)
    ]


def _count(steps: Sequence[CallStep]) -> int:
    return sum(step.parse_state == "success" for step in steps)
