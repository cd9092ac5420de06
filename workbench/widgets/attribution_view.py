"""The attribution view: the answer of `Workbench.ask`, with each token marked by the chunk that raised it most."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from typing import Any

import traitlets

from workbench.errors import InvalidRequestError
from workbench.records import Attribution
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK, WorkbenchWidget
from workbench.widgets.coalescing import has_ended
from workbench.widgets.composing import close_on_error, replace_open_widget
from workbench.widgets.contract import AskedRun
from workbench.widgets.format import UNITS
from workbench.widgets.html.attribution import attribution_html
from workbench.widgets.html.twins import document, line
from workbench.widgets.wire.attribution import wire_answer, wire_chunk, wire_chunks
from workbench.widgets.wire.run import failure

WAITING = "Waiting for the end of the answer …"
MEASURING = "Measuring: the model reads the answer again without each of {} …"
STOPPED = "Stopped before the attribution was measured."
_ALLOWED = "an answer of bench.ask(), or its attribution"
_INTERVAL_S = 0.25


class _Measurement:
    """One attempt to measure the attribution of a run."""

    def __init__(self, run: AskedRun) -> None:
        self.run = run
        self.future: Future[Any] | None = None


class AttributionView(WorkbenchWidget):
    """The tokens of an answer, each marked by the chunk that raised it most, beside the chunks.

    Args:
        run: an answer of `Workbench.ask`, which is measured when it has ended, or a measured attribution.
    """

    _esm = module_source("attribution_view")
    _css = style_source("attribution_view")
    _twin_shows = ("state", "unit")

    state = traitlets.Enum(
        ("waiting", "measuring", "done", "stopped", "failed"),
        "waiting",
        help="Whether the attribution is measured: waiting (for the answer), measuring, done, stopped or failed.",
    ).tag(sync=True)
    message = traitlets.Unicode(WAITING, help="Progress or error; empty once the attribution is shown.").tag(sync=True)
    tokens: traitlets.List[list[Any]] = traitlets.List(help="The tokens of the answer, as sent to the page.").tag(
        sync=True
    )
    chunks: traitlets.List[dict[str, Any]] = traitlets.List(
        help="Each chunk with its document, text and score, and the changes of the tokens' logprobs in nats."
    ).tag(sync=True)
    selected = traitlets.Int(
        None, allow_none=True, help="Position of the selected token; None if none is selected."
    ).tag(sync=True)
    chosen = traitlets.Int(
        None, allow_none=True, help="Index of the chunk whose changes are marked; None marks by the strongest chunk."
    ).tag(sync=True)
    unit = traitlets.Enum(UNITS, "nats", help="The unit of the changes in the page: bits or nats.").tag(sync=True)

    def __init__(self, run: AskedRun | Attribution) -> None:
        if not isinstance(run, Attribution) and not hasattr(run, "start_attribution"):
            raise InvalidRequestError("run", run, _ALLOWED)
        self._run = None if isinstance(run, Attribution) else run
        self._attribution: Attribution | None = None
        self._measurement: _Measurement | None = None
        self._thread: threading.Thread | None = None
        super().__init__()
        self.on_msg(self._answer)
        if isinstance(run, Attribution):
            self._show(run)
        else:
            self.measure()

    @property
    def attribution(self) -> Attribution | None:
        """The attribution shown; None until it is measured."""
        return self._attribution

    def measure(self) -> None:
        """Measure the attribution, also again after it was stopped or failed; otherwise do nothing."""
        with LOCK:
            if self._run is None or self._measurement is not None or self._attribution is not None or self.closed:
                return
            measurement = self._measurement = _Measurement(self._run)
            self._report("waiting", WAITING)
            self._thread = threading.Thread(
                target=self._follow, args=(measurement,), name=f"workbench-{self._run.id}-attribution", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Give up measuring, within one step of the model; the answer goes on."""
        with LOCK:
            if self._measurement is not None:
                self._give_up()
                self._report("stopped", STOPPED)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the attribution is shown, was stopped or failed; return False on a timeout."""
        return has_ended(self._thread, timeout_s)

    def static_html(self) -> str:
        if self._attribution is None:
            return document(line(self.message))
        return attribution_html(self._attribution, self.unit)

    def __repr__(self) -> str:
        return f"AttributionView(state={self.state!r}, tokens={len(self.tokens)}, chunks={len(self.chunks)})"

    @traitlets.validate("selected")
    def _is_position(self, proposal: Any) -> int | None:
        return _index("selected", proposal["value"], len(self.tokens), "token")

    @traitlets.validate("chosen")
    def _is_chunk(self, proposal: Any) -> int | None:
        return _index("chosen", proposal["value"], len(self.chunks), "chunk")

    def _is_settled(self) -> bool:
        return self.state not in ("waiting", "measuring")

    def _release(self) -> None:
        self._give_up()

    def _give_up(self) -> None:
        measurement, self._measurement = self._measurement, None
        if measurement is not None and measurement.future is not None:
            measurement.future.cancel()

    def _follow(self, measurement: _Measurement) -> None:
        """Measure and show the attribution; called on a thread of its own."""
        run = measurement.run
        while not run.done and self._measurement is measurement:
            run.wait(_INTERVAL_S)
        if run.state == "failed" and run.error is not None:
            self._fail(measurement, failure("The answer failed", run.error))
            return
        try:
            future = self._begin(measurement)
            found = None if future is None else future.result()
        except CancelledError:
            self._fail(measurement, "The workbench was closed. Open a new one and ask again.")
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            self._fail(measurement, _failure(problem))
        else:
            with LOCK:
                if found is not None and self._measurement is measurement:
                    self._measurement = None
                    self._show(found)

    def _begin(self, measurement: _Measurement) -> Future[Any] | None:
        """Show the answer and start measuring; return None if that was given up."""
        with LOCK:
            if self._measurement is not measurement:
                return None
            run = measurement.run
            with self.hold_sync():
                self.tokens = wire_answer(run.tokens)
                self.chunks = [wire_chunk(chunk) for chunk in run.chunks]
                count = len(run.chunks)
                self._report("measuring", MEASURING.format("the chunk" if count == 1 else f"the {count} chunks"))
            measurement.future = run.start_attribution()
            return measurement.future

    def _show(self, attribution: Attribution) -> None:
        self._attribution = attribution
        with self.hold_sync():
            self.tokens = wire_answer(attribution.tokens)
            self.chunks = wire_chunks(attribution)
            self._report("done", "")

    def _fail(self, measurement: _Measurement, message: str) -> None:
        with LOCK:
            if self._measurement is measurement:
                self._measurement = None
                self._report("failed", message)

    def _report(self, state: str, message: str) -> None:
        with self.hold_sync():
            self.message = message
            self.state = state

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        kind = message.get("kind") if isinstance(message, dict) else None
        if kind not in ("measure", "stop"):
            return
        (self.measure if kind == "measure" else self.stop)()
        self.send({"kind": "reply", "id": message.get("id"), "error": None})


def attribution(session: Any, run: AskedRun | Attribution) -> AttributionView:
    """Show which chunk raised which token of an answer; see `AttributionView`.

    An earlier view of an answer to the same prompt is closed.
    """
    with ExitStack() as made:
        opened = close_on_error(made, AttributionView(run))
        made.pop_all()
    replace_open_widget(session, opened, _subject(run))
    return opened


def _failure(problem: Exception) -> str:
    return getattr(problem, "in_form", None) or failure("The attribution cannot be measured", problem)


def _subject(run: AskedRun | Attribution) -> object:
    """Return what stays the same when a cell asks the same question again."""
    if isinstance(run, Attribution):
        return [(chunk.document_id, chunk.content) for chunk in run.chunks], [token.token_id for token in run.tokens]
    return run.model, run.prompt


def _index(name: str, value: int | None, count: int, what: str) -> int | None:
    if value is None or 0 <= value < count:
        return value
    allowed = f"the position of a {what} from 0 to {count - 1}, or None" if count else f"None: there are no {what}s"
    raise traitlets.TraitError(f"{name} must be {allowed}; got {value}")
