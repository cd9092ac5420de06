"""The edit view: change the numbers inside a model, and see the edited run beside the original.

Every run of the edits starts two runs: one that answers anew, whose first difference is marked, and one that is given
the tokens of the original, whose distributions can be compared at each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import traitlets

from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.protocol import SamplingParams, UserMessage
from workbench.protocol.sampling import is_count
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.background import Newest, wait_for_token
from workbench.widgets.base import LOCK, Part
from workbench.widgets.compared_runs import RunComparison
from workbench.widgets.composing import close_on_error, replace_open_widget
from workbench.widgets.contract import InsideRun, SteeringSession
from workbench.widgets.edit_changes import Change, ablation, patch, steering, text_labels
from workbench.widgets.feed_view import FeedView
from workbench.widgets.html.edits import edits_html
from workbench.widgets.run_feed import RunFeed
from workbench.widgets.wire.attention import prompt_labels
from workbench.widgets.wire.run import error_text, failure

NO_RUN = "No run yet."
WAITING = "Waiting for the first token …"
NOT_HERE = "Edits are not available: only models in this process can be changed inside."
MODES = ("ablate", "patch", "steer")
READ_TOKENS = 1
"""Number of tokens that are generated after a second prompt: the numbers inside are those of its reading."""
_MOST_RUNS = 12
_BESIDE = "C is the edited model given the tokens of A, so that its distributions can be compared at every token."


class EditView(FeedView):
    """Changes inside the model of a run, chosen in the page, and the edited run beside the original.

    Args:
        run: the run to edit, with a feed of its own.
        feed: a feed to share with other widgets.
        session: the ``Workbench``, which reads the texts of steering and a second prompt; None offers neither.
        active: False reads nothing until the trait is set to True.
    """

    _esm = module_source("edit_view")
    _css = style_source("edit_view")
    _twin_shows = ("changes", "message", "comparison.differences")

    comparison = Part("The original beside the edited runs.")
    active = traitlets.Bool(True, help="Whether runs are read; False saves the work while the view is hidden.")
    message = traitlets.Unicode(NO_RUN, help="Why the run cannot be edited, or an error; empty otherwise.").tag(
        sync=True
    )
    busy = traitlets.Unicode("", help="What is being computed; empty if nothing is.").tag(sync=True)
    mode = traitlets.Enum(MODES, "ablate", help="The kind of change offered: ablate, patch or steer.").tag(sync=True)
    prompt = traitlets.List(traitlets.Unicode(), help="Texts of the prompt's tokens, before those of the run.").tag(
        sync=True
    )
    shape = traitlets.List(traitlets.Int(), help="Numbers of layers and of heads in each; empty if unknown.").tag(
        sync=True
    )
    changes = traitlets.List(traitlets.Unicode(), help="The changes in effect, in words.").tag(sync=True)
    others: traitlets.List[dict[str, str]] = traitlets.List(
        help="Runs of the same model whose numbers can be patched in: id and text of each."
    ).tag(sync=True)
    source = traitlets.Dict(help="The run to patch from: its id and the texts of its tokens; empty if none.").tag(
        sync=True
    )
    can_ask = traitlets.Bool(False, help="Whether a second prompt can be read, and texts for steering.").tag(sync=True)

    def __init__(
        self,
        run: InsideRun | None = None,
        *,
        feed: RunFeed | None = None,
        session: SteeringSession | None = None,
        active: bool = True,
    ) -> None:
        self._session = session
        self._seen: InsideRun | None = None
        self._known: list[InsideRun] = []
        self._changes: list[Change] = []
        self._work, self._reading = Newest("workbench-edits"), Newest("workbench-edit-view")
        with ExitStack() as made:
            comparison = close_on_error(made, RunComparison())
            super().__init__(feed, run, comparison=comparison, active=active, can_ask=session is not None)
            made.pop_all()
        self.feed.observe(self._update, "snapshot")
        self.observe(self._update, "active")
        self.on_msg(self._answer)
        self._update()

    @property
    def edited(self) -> Any:
        """The edited run shown; None before the first."""
        return self.comparison.runs[1] if self.comparison.runs else None

    def ablate(
        self, part: str, layer: int, head: int | None = None, *, method: str = "zero", position: int | None = None
    ) -> None:
        """Add a change that removes the output of a part of a layer.

        Args:
            part: ``layer``, ``attention``, ``mlp`` or ``head``.
            method: ``zero``, or ``mean`` for the mean over the text.
            position: the only token to change, counted from the first one of the prompt; None for all.
        """
        self._add(ablation(self._run(), part, layer, head, method, position))

    def patch(
        self, source: InsideRun, layer: int, position: int, *, to_layer: int | None = None, to: int | None = None
    ) -> None:
        """Add a change that sets the stream after a layer at one token to that of another run of the model.

        Args:
            layer, position: where the numbers are taken.
            to_layer, to: layer and position that are set; the same ones by default.
        """
        target = layer if to_layer is None else to_layer, position if to is None else to
        self._add(patch(self._run(), source, layer, position, to_layer=target[0], to=target[1]))

    def steer(self, towards: str, away: str, layer: int, factor: float = 1.0) -> None:
        """Add a change that steers towards some texts and away from others, one a line, or set its factor."""
        self._add(steering(self._session, self._run(), towards, away, layer, factor))

    def remove(self, index: int) -> None:
        """Remove one of the changes."""
        with LOCK:
            if not is_count(index) or index >= len(self._changes):
                allowed = f"an index from 0 to {len(self._changes) - 1}"
                raise InvalidRequestError("index", index, allowed, in_form="That change was removed before.")
            del self._changes[index]
            self._show_changes()

    def start(self) -> None:
        """Start the edited runs, which are shown beside the original.

        Raises:
            InvalidRequestError: there is no change.
        """
        with LOCK:
            run = self._run()
            if not self._changes:
                raise InvalidRequestError("changes", [], "at least one", in_form="Add a change first.")
            self.stop()
            self.message, self.busy = "", "Computing the changes …"
            self._work.start(partial(self._start, run, tuple(self._changes)))

    def stop(self) -> None:
        """Stop the edited runs within one decode step."""
        for run in self.comparison.runs[1:]:
            if not run.done:
                run.cancel()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the edited runs have ended and are compared; return False on a timeout."""
        return bool(self._reading.wait(timeout_s) and self._work.wait(timeout_s) and self.comparison.wait(timeout_s))

    def static_html(self) -> str:
        return edits_html(self.changes, self.message, self.comparison.static_html())

    def __repr__(self) -> str:
        return f"EditView(changes={len(self.changes)}, divergence={self.comparison.divergence})"

    def _is_settled(self) -> bool:
        return not self.busy and super()._is_settled() and self.comparison.differences["state"] != "running"

    def _release(self) -> None:
        self.stop()
        self.feed.unobserve(self._update, "snapshot")
        self.comparison.close()
        super()._release()

    def _run(self) -> InsideRun:
        run: InsideRun | None = self.feed.run
        if run is None or not self.shape:
            raise InvalidRequestError("run", None, "a run to edit", in_form=self.message or NO_RUN)
        return run

    def _add(self, change: Change) -> None:
        with LOCK:
            keys = [None if one.key is None else one.key for one in self._changes]
            if change.key is not None and change.key in keys:
                self._changes[keys.index(change.key)] = change
            else:
                self._changes.append(change)
            self._show_changes()

    def _show_changes(self) -> None:
        self.changes = [one.label for one in self._changes]

    def _update(self, _change: Any = None) -> None:
        with LOCK:
            if not self.active or self.closed:
                return
            run: InsideRun | None = self.feed.run
            if run is not self._seen:
                self._forget(self._seen, run)
                self._seen = run
                with self.hold_sync():
                    self.shape, self.prompt = [], []
                    self.message = NO_RUN if run is None else WAITING
            if run is not None and not self.shape:
                self._reading.start(partial(self._begin, run))

    def _forget(self, before: InsideRun | None, run: InsideRun | None) -> None:
        """Drop the changes of a run if another model or prompt is shown: they name its layers and tokens."""
        if before is None or run is None or before.model != run.model or before.prompt != run.prompt:
            self._changes.clear()
            self._show_changes()
        if run is not None and not any(one is run for one in self._known):
            self._remember(run)
        if run is not None and self.source and not any(one.id == self.source["id"] for one in self._usable(run)):
            self.source = {}

    def _remember(self, run: InsideRun) -> None:
        self._known = [*self._known, run][-_MOST_RUNS:]

    def _usable(self, run: InsideRun) -> list[InsideRun]:
        return [one for one in self._known if one.model == run.model]

    def _in_view(self, run: InsideRun) -> bool:
        return self._seen is run and self.active and not self.closed

    def _begin(self, run: InsideRun) -> None:
        """Show the layers and the prompt of a run; called on a thread of its own."""
        wait_for_token(run, lambda: self._in_view(run))
        try:
            insides = run.insides
            shape = [insides.points.layers, (insides.points.sizes.get("z") or (0,))[0]]
            prompt = [] if run.reads else prompt_labels(insides)
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            self._report(run, _reason("The run cannot be edited", problem))
            return
        with LOCK:
            if self._in_view(run):
                with self.hold_sync():
                    self.shape, self.prompt, self.message = shape, prompt, ""
                    self._show_others(run)

    def _show_others(self, run: InsideRun) -> None:
        others = [one for one in reversed(self._usable(run)) if one is not run]
        self.others = [{"id": one.id, "text": f"{one.id}: {_start_of(one.prompt)}"} for one in [*others, run]]

    def _start(self, run: InsideRun, changes: Sequence[Change]) -> None:
        """Compute the changes and start the edited runs; called on a thread of its own."""
        try:
            edits = [edit for change in changes for edit in change.make(run)]
            with ExitStack() as started:
                edited = run.edit(*edits)
                started.callback(edited.cancel)
                given = run.sampling_params.model_copy(update={"max_tokens": len(run.tokens)})
                measured = run.edit(*edits, keep_tokens=True, sampling_params=given)
                started.callback(measured.cancel)
                with LOCK:
                    if not self._in_view(run):
                        return
                    self.comparison.show([run, edited, measured], _sides(run, len(changes)), _BESIDE)
                    self.busy = ""
                started.pop_all()
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            self._report(run, _reason("The changes could not be computed", problem))

    def _report(self, run: InsideRun, message: str) -> None:
        with LOCK:
            if self._in_view(run):
                with self.hold_sync():
                    self.message, self.busy = message, ""

    def _read_prompt(self, text: str) -> None:
        """Read a second prompt as the run's own was read, and choose it as the source."""
        run = self._run()
        if self._session is None:
            raise InvalidRequestError("session", None, "a workbench", in_form="Open this view with bench.edit(run).")
        if not text.strip():
            raise InvalidRequestError("prompt", text, "a string that is not blank", in_form="Write a prompt first.")
        params = SamplingParams(max_tokens=READ_TOKENS)
        other: Any = (
            self._session.completion(text, model=run.model, sampling_params=params)
            if isinstance(run.prompt, str)
            else self._session.chat_completion([UserMessage(content=text)], model=run.model, sampling_params=params)
        )
        self._remember(other)
        self._choose_source(other)

    def _choose_source(self, other: InsideRun) -> None:
        run = self._run()
        self.busy = "Reading the other run …"
        self._reading.start(partial(self._read_source, run, other))

    def _read_source(self, run: InsideRun, other: InsideRun) -> None:
        """Show the tokens of the run to patch from; called on a thread of its own."""
        try:
            wait_for_token(other, lambda: self._in_view(run))
            if other.state == "failed" and other.error is not None:
                self._report(run, _reason("The other run failed", other.error))
                return
            source = {"id": other.id, "labels": text_labels(other)}
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            self._report(run, _reason("The other run could not be read", problem))
            return
        with LOCK:
            if self._in_view(run):
                with self.hold_sync():
                    self.source, self.busy, self.message = source, "", ""
                    self._show_others(run)

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        kind = message.get("kind") if isinstance(message, dict) else None
        if kind in ("ablate", "patch", "steer", "remove", "run", "stop", "source", "read"):
            self.send({"kind": "reply", "id": message.get("id"), "error": self._done(kind, message)})

    def _done(self, kind: str, message: dict[str, Any]) -> str | None:
        """Perform an action of the page; return the text of an error."""
        try:
            if kind == "ablate":
                where = {"method": message.get("method", "zero"), "position": message.get("position")}
                self.ablate(str(message.get("part")), message.get("layer", -1), message.get("head"), **where)
            elif kind == "patch":
                target = {"to_layer": message.get("to_layer", -1), "to": message.get("to", -1)}
                self.patch(self._named(message), message.get("layer", -1), message.get("position", -1), **target)
            elif kind == "steer":
                texts = str(message.get("towards", "")), str(message.get("away", ""))
                self.steer(*texts, message.get("layer", -1), message.get("factor", 1.0))
            elif kind == "remove":
                self.remove(message.get("index", -1))
            elif kind == "source":
                self._choose_source(self._named(message))
            elif kind == "read":
                self._read_prompt(str(message.get("prompt", "")))
            else:
                (self.start if kind == "run" else self.stop)()
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            return error_text(problem)
        return None

    def _named(self, message: dict[str, Any]) -> InsideRun:
        """Return the known run that a message names."""
        named = [one for one in self._known if one.id == message.get("source")]
        if not named:
            known = ", ".join(one.id for one in self._known)
            in_form = "Choose a run to patch from first."
            raise InvalidRequestError("source", message.get("source"), f"one of {known}", in_form=in_form)
        return named[-1]


def edit(session: Any, run: InsideRun) -> EditView:
    """Change what a model computes in a run; see `EditView`. An earlier view of the same prompt is closed."""
    with ExitStack() as made:
        opened = close_on_error(made, EditView(run, session=session))
        made.pop_all()
    replace_open_widget(session, opened, (run.model, run.prompt))
    return opened


def _sides(run: InsideRun, count: int) -> list[dict[str, Any]]:
    edits = f"{count} change{'' if count == 1 else 's'}"
    titles = ("original", edits, f"{edits}, given the tokens of A")
    return [
        {"letter": letter, "model": run.model, "settings": title, **({"beside": True} if letter == "C" else {})}
        for letter, title in zip("ABC", titles, strict=True)
    ]


def _reason(what: str, problem: BaseException) -> str:
    if isinstance(problem, UnsupportedFieldError) and problem.field == "model":
        return NOT_HERE
    return failure(what, problem)


def _start_of(prompt: Any) -> str:
    """Return the beginning of a prompt, or of the last message of a chat."""
    text = prompt if isinstance(prompt, str) else str(getattr(prompt[-1], "content", "")) if prompt else ""
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"
