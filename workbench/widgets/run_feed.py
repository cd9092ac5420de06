"""The run feed, a widget model without a view that holds the run for several views.

Views refer to their feed, so each token is sent to the browser once for all of them, and they share a selection without
the kernel. Messages about a run:

* one write of ``snapshot`` when it starts; when it ends, that trait is the whole result (for a reload), and a page that
  has followed the run gets only the rest: ``{kind: "end", at, tokens, ...}`` with all other keys of a snapshot;
* one write of ``forks`` when that changes: the positions at which other runs of the same prompt diverge from it;
* one write of ``problem`` when a run could not be shown: the previous run stays, or is shown again;
* between them custom messages ``{kind: "delta", news: [run, sequence, at, tokens, tokens_per_s]}`` with other changes,
  at most twenty a second;
* replies to a page: ``{kind: "snapshot"}`` if it is new or missed a message, ``{kind: "alternatives"}`` for the
  positions that it shows (all of them would be three quarters of the traffic, and few are shown).
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import traitlets

from workbench.errors import InvalidRequestError
from workbench.records import TokenRecord
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK, WorkbenchWidget
from workbench.widgets.branches import forks
from workbench.widgets.coalescing import start_ticker
from workbench.widgets.contract import RunLike
from workbench.widgets.format import UNITS
from workbench.widgets.html import twins
from workbench.widgets.wire.run import RunStream, error_text, steps_of, wire_alternative

IDLE: dict[str, Any] = {"run": None, "state": "idle", "sequence": 0, "tokens": [], "usage": None}
# The maximum number of positions in a request, more than a screen shows.
_MOST_POSITIONS = 200
# The maximum number of runs, each of which holds its tokens and their logits.
_MOST_RUNS = 24


@dataclass(frozen=True, slots=True)
class _Shown:
    """A run that was shown, with the runs of its prompt and the selection in it."""

    run: RunLike
    runs: tuple[RunLike, ...]
    selected: tuple[int, ...]


class Positions(traitlets.TraitType[Any, Any]):
    """A tuple of token positions; one int, any iterable of ints (a pandas index too) or None are accepted."""

    info_text = "token positions: an int, an iterable of ints, or None"

    def validate(self, _obj: Any, value: Any) -> tuple[int, ...]:
        if value is None:
            return ()
        items = value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]
        try:
            positions = tuple(operator.index(item) for item in items)
        except TypeError:
            raise traitlets.TraitError(f"selected must be {self.info_text}; got {value!r}") from None
        if any(position < 0 for position in positions):
            raise traitlets.TraitError(f"selected must be positions from 0; got {value!r}")
        return positions


class RunFeed(WorkbenchWidget):
    """The run, the selection and the unit that several views share."""

    _esm = module_source("run_feed")
    _css = style_source("run_feed")

    snapshot = traitlets.Dict(help="The run as it started, or as it ended.").tag(sync=True)
    selected = Positions((), help="Positions of the selected tokens; the inspector shows the last one.").tag(sync=True)
    forks = traitlets.List(traitlets.Int(), help="Positions at which another run of the prompt has another token.").tag(
        sync=True
    )
    unit = traitlets.Enum(UNITS, "bits", help="The unit of surprisal, entropy and divergence: bits or nats.").tag(
        sync=True
    )
    problem = traitlets.Unicode(
        "", help="Why the last run could not be started or failed before its first token; empty otherwise."
    ).tag(sync=True)
    revision = traitlets.Int(0, help="Increases whenever a run of the prompt starts, ends or is shown.")

    def __init__(self, run: RunLike | None = None) -> None:
        self._run: RunLike | None = None
        self._runs: list[RunLike] = []
        self._stream: RunStream | None = None
        self._ticker: threading.Thread | None = None
        self._before: _Shown | None = None
        self._is_sent = False
        super().__init__(snapshot=dict(IDLE))
        self.on_msg(self._answer)
        if run is not None:
            self.follow(run)

    @property
    def run(self) -> RunLike | None:
        """The run shown; None before the first."""
        return self._run

    @property
    def runs(self) -> tuple[RunLike, ...]:
        """All runs of the current prompt, oldest first; a run of another prompt clears them."""
        return tuple(self._runs)

    @property
    def tokens(self) -> Sequence[TokenRecord]:
        """The records of the run's tokens so far."""
        return () if self._run is None else self._run.tokens

    @property
    def end(self) -> TokenRecord | None:
        """The record of the end token; None if the model chose none."""
        return None if self._run is None else self._run.end

    @property
    def steps(self) -> Sequence[TokenRecord]:
        """The records of the run's tokens so far, followed by that of the end token."""
        return () if self._run is None else steps_of(self._run)

    @property
    def selected_tokens(self) -> list[TokenRecord]:
        """The records of the selected tokens, in the order of selection."""
        steps = self.steps
        return [steps[position] for position in self.selected if position < len(steps)]

    def follow(self, run: RunLike, *, selected: Any = (), or_return: bool = False) -> None:
        """Show this run from now on; the previous one is not cancelled.

        Args:
            selected: positions to select, also of tokens that are not generated yet.
            or_return: show the previous run again if this one fails before its first token; ``problem`` says why.
        """
        with LOCK:
            if self.closed:
                return
            before = self._run
            self._before = None if before is None or not or_return else _Shown(before, self.runs, self.selected)
            stream, has_ended = RunStream(run), run.done  # read before the snapshot, which may already have the end
            self._run, self._stream, self._ticker = run, stream, None
            self.problem = ""
            self.selected = ()
            self._remember(run)
            self.snapshot = stream.snapshot()
            self.selected = selected
            self._recount()
            if has_ended:
                self._return_from(run)
            else:
                self._ticker = start_ticker(run, lambda: self._publish(stream), lambda: self._finish(stream))

    def clear(self) -> None:
        """Show no run."""
        with LOCK:
            self._run = self._stream = self._before = None
            self._runs.clear()
            self.problem, self.selected = "", ()
            self.snapshot = dict(IDLE)
            self._recount()

    def branch(self, position: int, token_id: int | None = None) -> RunLike:
        """Continue the run shown from another token and show the branch; the run is stopped and stays in ``runs``.

        Args:
            position: number of its tokens to keep.
            token_id: the next token; None lets the model choose.

        Raises:
            InvalidRequestError: no run is shown, or it has fewer tokens.
            UnsupportedFieldError: the model's provider cannot branch.
        """
        with LOCK:
            run = self._run
            if run is None:
                raise InvalidRequestError("position", position, "the position of a token, but no run is shown")
            branch = run.branch(position, token_id)
            if not run.done:
                run.cancel()
            self.follow(branch, selected=position)
            return branch

    def report(self, message: str) -> None:
        """Show why a run could not start; the run shown stays."""
        with LOCK:
            self.problem = message

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the run has ended and the page has all of it; return False on a timeout."""
        ticker = self._ticker
        if ticker is not None:
            ticker.join(timeout_s)
        return ticker is None or not ticker.is_alive()

    def static_html(self) -> str:
        return twins.feed_html(self._run)

    def __repr__(self) -> str:
        return f"RunFeed(run={_run_name(self._run)})"

    def _publish(self, stream: RunStream) -> None:
        with LOCK:
            if self._stream is stream and not self.closed:
                self.send(stream.delta())

    def _finish(self, stream: RunStream) -> None:
        with LOCK:
            if self.closed:
                return
            if self._stream is stream:
                self._keep(*stream.end())
                self._return_from(stream.run)
            self._recount()

    def _return_from(self, run: RunLike) -> None:
        """Show the previous run again if that was requested and this one failed before its first token."""
        before, self._before = self._before, None
        if before is None or run.state != "failed" or run.tokens:
            return
        self.follow(before.run, selected=before.selected)
        self._runs = list(before.runs)
        self._recount()
        self.problem = error_text(run.error) if run.error else "The run failed."

    def _keep(self, whole: dict[str, Any], rest: dict[str, Any] | None) -> None:
        """Set ``snapshot`` to the whole run, and send the page only the rest if it has followed the run."""
        if rest is not None:
            self.send(rest)
        self._is_sent = rest is not None
        try:
            self.snapshot = whole
        finally:
            self._is_sent = False

    def _should_send_property(self, key: str, value: Any) -> bool:
        # Otherwise a long result would be sent twice: token by token, and once more as a whole.
        is_sent = key == "snapshot" and self._is_sent
        return not is_sent and bool(super()._should_send_property(key, value))

    def _remember(self, run: RunLike) -> None:
        if self._runs and not _is_same_prompt(self._runs[-1], run):
            self._runs.clear()
        if not any(known is run for known in self._runs):
            self._runs.append(run)
            del self._runs[:-_MOST_RUNS]

    def _recount(self) -> None:
        self.forks = [] if self._run is None else forks(self._run, self._runs)
        self.revision += 1

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        kind = message.get("kind") if isinstance(message, dict) else None
        if kind == "snapshot":
            state = dict(IDLE) if self._stream is None else self._stream.snapshot()
            self.send({"kind": "snapshot", "id": message.get("id"), "snapshot": state})
        elif kind == "alternatives":
            self.send({"kind": "alternatives", "id": message.get("id"), **self._alternatives(message)})

    def _alternatives(self, message: dict[str, Any]) -> dict[str, Any]:
        run = self._run
        if run is None or message.get("run") != run.id:
            return {"error": "this run is no longer shown"}
        try:
            start, stop = _span(message)
        except InvalidRequestError as error:
            return {"error": str(error)}
        steps = steps_of(run)[start:stop]
        items = [[wire_alternative(alternative) for alternative in token.alternatives] for token in steps]
        return {"run": run.id, "from": start, "items": items}


def _span(message: dict[str, Any]) -> tuple[int, int]:
    start, stop = message.get("from"), message.get("to")
    if not isinstance(start, int) or not isinstance(stop, int) or not 0 <= start < stop:
        raise InvalidRequestError("from, to", (start, stop), "positions with 0 <= from < to")
    return start, min(stop, start + _MOST_POSITIONS)


def _is_same_prompt(one: RunLike, other: RunLike) -> bool:
    return one.model == other.model and bool(one.prompt == other.prompt)


def _run_name(run: RunLike | None) -> str:
    return "None" if run is None else repr(run.id)
