"""The waterfall: the stages of the sampling chain by which the selected token was drawn.

It applies the settings of sampling controls to the random number that the run drew, so that a change shows its effect
on the same draw. The model is not run again: the run's logits are still in memory. A separate thread reads them,
because the model's thread may be busy with a long prompt; it sends at most twenty updates per second.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.protocol import SamplingParams
from workbench.protocol.sampling import is_count
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK
from workbench.widgets.coalescing import MESSAGES_PER_S, has_ended
from workbench.widgets.contract import RunLike
from workbench.widgets.feed_view import FeedView
from workbench.widgets.html import twins
from workbench.widgets.run_feed import RunFeed
from workbench.widgets.sampling_controls import SamplingControls
from workbench.widgets.wire.run import failure, steps_of
from workbench.widgets.wire.waterfall import Redraw, error_picture, name_of, picture_of

if TYPE_CHECKING:
    from workbench.records import SamplingTrace

_NO_INSPECTOR = "How this token was chosen is not known: only models in this process keep their logits."
_NO_LOGITS = (
    "The logits of {name} are not available: a model keeps those of recent tokens, a trace those that were inspected."
)


class SamplingWaterfall(FeedView):
    """The stages of the sampling chain for the selected token, and the draw that chose it.

    Args:
        run: the run to show, with a feed of its own.
        feed: a feed to share with other widgets.
        controls: sampling controls to follow; None uses the run's own parameters.
        position: the position selected at first.
        rows: number of tokens with bars of their own.
    """

    _esm = module_source("sampling_waterfall")
    _css = style_source("sampling_waterfall")
    _twin_shows = ("picture",)

    picture = traitlets.Dict(help="The sampling steps as shown; empty if no token is selected.").tag(sync=True)
    has_controls = traitlets.Bool(False, help="Whether it follows sampling controls.").tag(sync=True)
    number = traitlets.Float(
        None,
        allow_none=True,
        help="The random number to sample with, from 0 to below 1; None uses the one that the run drew.",
    ).tag(sync=True)
    sampling_params = traitlets.Instance(
        SamplingParams, allow_none=True, help="The sampling parameters to apply; None uses the run's own."
    )

    def __init__(
        self,
        run: RunLike | None = None,
        *,
        feed: RunFeed | None = None,
        controls: SamplingControls | None = None,
        position: int | None = None,
        rows: int = 8,
    ) -> None:
        if not is_count(rows) or not 1 <= rows <= 50:
            raise InvalidRequestError("rows", rows, "a whole number from 1 to 50")
        self._rows = rows
        self._controls = controls
        self._trace: SamplingTrace | None = None
        self._subject: tuple[RunLike, int] | None = None
        self._redraw: Redraw | None = None
        self._thread: threading.Thread | None = None
        self._cached_uniform: tuple[tuple[RunLike, int], float | None] | None = None
        super().__init__(feed, run, has_controls=controls is not None)
        self.sampling_params = None if controls is None else controls.value
        if controls is not None:
            controls.observe(self._follow, "value")
        self.observe(self._request_update, ["sampling_params", "number"])
        self.feed.observe(self._select, ["selected", "snapshot"])
        if position is not None:
            self.feed.selected = position
        self._select()

    @property
    def trace(self) -> SamplingTrace | None:
        """The trace shown, over the whole vocabulary; None if there is none."""
        return self._trace

    @property
    def position(self) -> int | None:
        """Position of the token shown; None if none is selected."""
        return None if self._subject is None else self._subject[1]

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the latest selection and settings are shown; return False on a timeout."""
        has_ended(self._thread, timeout_s)
        return self._redraw is None

    def static_html(self) -> str:
        return twins.waterfall_html(self.picture)

    def __repr__(self) -> str:
        if self.position is None or "chosen" not in self.picture:
            return f"SamplingWaterfall(position={self.position})"
        number, (_, token) = self.picture["number"], self.picture["chosen"]
        return f"SamplingWaterfall(position={self.position}, number={number}, token={token!r})"

    @traitlets.validate("number")
    def _is_fraction(self, proposal: Any) -> float | None:
        number: float | None = proposal["value"]
        if number is not None and not 0 <= number < 1:
            raise traitlets.TraitError(f"number must be from 0 to below 1, or None; got {number!r}")
        return number

    def _release(self) -> None:
        self._redraw = None
        self.feed.unobserve(self._select, ["selected", "snapshot"])
        if self._controls is not None:
            self._controls.unobserve(self._follow, "value")
        super()._release()

    def _follow(self, change: Any) -> None:
        with LOCK:
            self.sampling_params = change.new

    def _select(self, _change: Any = None) -> None:
        with LOCK:
            records, run = self.feed.selected_tokens, self.feed.run
            subject = None if run is None or not records else (run, records[-1].position)
            if subject == self._subject:
                return
            self._subject = subject
            self.number = None  # a random number belongs to one position
            self._request_update()

    def _request_update(self, _change: Any = None) -> None:
        """Request an update; earlier requests that were not started are dropped."""
        with LOCK:
            if self._subject is None or self.closed:
                self._redraw, self._trace, self.picture = None, None, {}
                return
            run, position = self._subject
            if not self.picture:
                is_end = position == len(run.tokens)
                self.picture = error_picture(position, "Reading the run's logits …", is_end=is_end)
            self._redraw = Redraw(steps_of(run)[position], run.sampling_params, self.sampling_params, self.number)
            if self._thread is None:
                self._thread = threading.Thread(target=self._compute, name=f"workbench-{run.id}-draw", daemon=True)
                self._thread.start()

    def _compute(self) -> None:
        while True:
            with LOCK:
                redraw, subject = self._redraw, self._subject
                if redraw is None or subject is None:
                    self._thread = None
                    return
            trace, picture = self._traced(subject, redraw)
            with LOCK:
                # While a slider moves, every result is slightly outdated, but it is shown.
                if self._subject == subject and not self.closed:
                    self._trace, self.picture = trace, picture
                if self._redraw is redraw:
                    self._redraw = None
            time.sleep(1 / MESSAGES_PER_S)

    def _traced(self, subject: tuple[RunLike, int], redraw: Redraw) -> tuple[SamplingTrace | None, dict[str, Any]]:
        run, position = subject
        is_end = position == len(run.tokens)
        try:
            trace = run.sampling_trace(position, redraw.params, redraw.uniform)
            return trace, picture_of(redraw, trace, self._drawn_uniform(subject), rows=self._rows, is_end=is_end)
        except UnsupportedFieldError:
            message = _NO_INSPECTOR
        except Exception as problem:  # noqa: BLE001 - any error is shown in the widget
            message = failure("How this token was chosen cannot be shown", problem)
            # Positions in the error count from 0, as in Python; tokens in the widget count from 1.
            if isinstance(problem, InvalidRequestError) and problem.field == "position":
                message = _NO_LOGITS.format(name=name_of(position, is_end=is_end))
        return None, error_picture(position, message, is_end=is_end)

    def _drawn_uniform(self, subject: tuple[RunLike, int]) -> float | None:
        """Return the run's random number at a position, from a cache of the latest one; None if it drew none."""
        if self._cached_uniform is None or self._cached_uniform[0] != subject:
            run, position = subject
            self._cached_uniform = subject, run.sampling_trace(position).number
        return self._cached_uniform[1]
