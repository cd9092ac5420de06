"""The comparison view: models or settings side by side on one prompt, with the first difference marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import traitlets

from workbench.analysis.comparison import Comparison
from workbench.errors import ClosedError, InvalidRequestError, ModelNotFoundError
from workbench.protocol import Message, SamplingParams, UserMessage
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK
from workbench.widgets.chosen_sides import ChosenSides
from workbench.widgets.code import compare_code
from workbench.widgets.compare_sides import Models, Params, seeded, sides_of, titles
from workbench.widgets.compared_runs import ComparedRuns
from workbench.widgets.composing import close_on_error, logprobs_with, replace_open_widget, takes_arguments_of
from workbench.widgets.contract import RunLike, SessionLike
from workbench.widgets.html.comparison import compare_html
from workbench.widgets.stream_view import ALTERNATIVES, MODES
from workbench.widgets.wire.comparison import settings_in_words
from workbench.widgets.wire.run import error_text


class CompareView(ChosenSides, ComparedRuns):
    """Runs of one prompt side by side, named A, B and so on; each is compared with A.

    The model, precision and settings of up to four sides can be chosen in the page for the next run.

    Args:
        session: a `Workbench`.
        prompt: the text of the prompt box; None leaves it empty.
        models: identifiers, one for all sides or one for each.
        sampling_params: one for all sides or one for each. Sides that sample without a seed share one, so that they
            differ only in what is compared: 1 in the first run, 2 in the second.
        mode: ``chat`` sends the prompt as a user message, ``completion`` continues it as plain text.
        alternatives: number of alternatives to record at each position.

    Raises:
        InvalidRequestError: there are fewer than two or more than six sides, or an argument is invalid.
        ModelNotFoundError: a model is not served; nothing was started.
    """

    _esm = module_source("compare_view")
    _css = style_source("compare_view")
    code = traitlets.Unicode("", help="The Python call that makes this comparison; empty if there is none.").tag(
        sync=True
    )
    prompt = traitlets.Unicode("", help="The text of the prompt box.").tag(sync=True)

    def __init__(
        self,
        session: SessionLike,
        prompt: str | None = None,
        *,
        models: Models = None,
        sampling_params: Params = None,
        mode: str = "chat",
        alternatives: int = ALTERNATIVES,
    ) -> None:
        if mode not in MODES:
            raise InvalidRequestError("mode", mode, "chat or completion")
        self._logprobs = logprobs_with(alternatives)
        self._mode, self._alternatives = mode, alternatives
        sides = sides_of(models, sampling_params)
        super().__init__(session, sides, prompt=prompt or "")
        self.observe(self._show_next, "prompt")
        self._show_next()
        self.on_msg(self._answer)

    def start(self, prompt: str | None = None) -> Comparison:
        """Start a run for each side; runs in progress are stopped first.

        Args:
            prompt: replaces the text of the prompt box; None keeps it.

        Raises:
            ClosedError: this view was closed.
            InvalidRequestError: the prompt is blank or a setting is refused; no run was started.
        """
        with LOCK:
            if self.closed:
                raise ClosedError("this view was closed; make a new one")
            if prompt is not None:
                self.prompt = prompt
            if not self.prompt.strip():
                raise InvalidRequestError(
                    "prompt", self.prompt, "a string that is not blank", in_form="Write a prompt first."
                )
            self.stop()
            models = self._take_choices()
            comparison = self._compared(models, self._launch(models))
            self._show_sides([{"model": model, "precision": ""} for model in models])
            self._follow_runs(comparison)
            return comparison

    def stop(self) -> None:
        """Stop all runs within one decode step."""
        for run in self.runs:
            if not run.done:
                run.cancel()

    def static_html(self) -> str:
        return compare_html(self._comparison, self.sides, self.prompt, self.feeds[0].unit)

    def __repr__(self) -> str:
        return f"CompareView(sides={len(self.sides)}, divergence={self.divergence})"

    def _release(self) -> None:
        self.stop()
        for part in (*self.feeds, *self.controls):
            part.close()

    def _seeded_params(self) -> list[SamplingParams]:
        # The seed is the number of the run, so that a recorded trace can be replayed.
        return [seeded(one.value, self.differences["number"] + 1) for one in self.controls]

    def _show_next(self, _change: Any = None) -> None:
        """Show the choices for the first run; from then on the runs shown stay until the next."""
        with LOCK:
            # While a side is added or removed, the two lists differ in length.
            if self._comparison is None and not self.closed and len(self.choices) == len(self.controls):
                with suppress(ModelNotFoundError):  # the model was unregistered; starting reports it
                    self._show_sides(self.choices)

    def _show_sides(self, choices: Sequence[Mapping[str, str]]) -> None:
        models = [choice["model"] for choice in choices]
        precisions = [choice["precision"] or self._session.card(choice["model"]).precision for choice in choices]
        settings, common = settings_in_words([one.value for one in self.controls])
        params = self._seeded_params()
        # A precision that is not served has no name for the Python call.
        code = (
            ""
            if any(choice["precision"] for choice in choices)
            else compare_code(
                self.prompt, models=models, params=params, mode=self._mode, alternatives=self._alternatives
            )
        )
        self._set_sides(titles(models, precisions, settings), common, code=code)

    def _launch(self, models: list[str]) -> list[RunLike]:
        with ExitStack() as started:  # after one is refused, the others must not continue
            runs = []
            for model, params in zip(models, self._seeded_params(), strict=True):
                runs.append(self._ask(model, params))
                started.callback(runs[-1].cancel)
            started.pop_all()
        return runs

    def _ask(self, model: str, params: SamplingParams) -> RunLike:
        if self._mode == "completion":
            return self._session.completion(self.prompt, model=model, sampling_params=params, logprobs=self._logprobs)
        messages: list[Message] = [UserMessage(content=self.prompt)]
        return self._session.chat_completion(messages, model=model, sampling_params=params, logprobs=self._logprobs)

    def _compared(self, models: list[str], runs: list[RunLike]) -> Comparison:
        is_chat = self._mode == "chat"
        templates = [self._session.card(model).template_sha256 for model in models] if is_chat else None
        return Comparison(runs, templates=templates)

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        kind = message.get("kind") if isinstance(message, dict) else None
        if kind == "look":
            self._send_whole(message)
        elif kind in ("run", "stop", "choose", "add", "remove"):
            self.send({"kind": "reply", "id": message.get("id"), "error": self._done(message)})

    def _done(self, message: dict[str, Any]) -> str | None:
        """Perform the action of a button; return the text of an error."""
        try:
            if message["kind"] == "stop":
                self.stop()
            elif message["kind"] == "choose":
                self.choose(message.get("side", -1), str(message.get("model")), str(message.get("precision") or ""))
            elif message["kind"] == "add":
                self.add_side()
            elif message["kind"] == "remove":
                self.remove_side(message.get("side", -1))
            else:
                self.start()
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            return error_text(problem)
        return None


@takes_arguments_of(CompareView)
def compare(session: SessionLike, prompt: str | None = None, **arguments: Any) -> CompareView:
    """Run one prompt on several models or settings, side by side; see `CompareView` for the arguments.

    Without a prompt nothing runs yet: choose prompt and sides in the page, which starts with two sides of the first
    model. An earlier view with the same arguments is closed.
    """
    if prompt is None and arguments["models"] is None and arguments["sampling_params"] is None:
        arguments["models"] = [None, None]
    opened = CompareView(session, prompt, **arguments)
    if prompt is not None:
        with ExitStack() as made:
            close_on_error(made, opened).start()
            made.pop_all()
    replace_open_widget(session, opened, (prompt, arguments))
    return opened
