"""The stream view: a prompt, Run and Stop, and the tokens of the answer as they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import traitlets

from workbench.errors import ClosedError, InvalidRequestError, ModelNotFoundError
from workbench.protocol import LogProbConfig, Message, SamplingParams, UserMessage
from workbench.records import Breakpoint
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK
from workbench.widgets.breakpoints import NOWHERE, from_form, to_form
from workbench.widgets.contract import RunLike, SessionLike
from workbench.widgets.feed_view import FeedView
from workbench.widgets.format import COLORS
from workbench.widgets.html import twins
from workbench.widgets.run_feed import RunFeed
from workbench.widgets.wire.run import error_text

MODES = ("chat", "completion")
ALTERNATIVES = 5
NO_PAUSE = "{model} cannot pause: its provider does not support it."
NO_CHAT = "{model} has no chat template: it continues your text instead of answering it."


class Settings(Protocol):
    """The functions that a view calls for the settings of a run when it starts."""

    def __call__(self) -> dict[str, Any]: ...


class StreamView(FeedView):
    """A prompt and the text of its run, token by token; without a session it only shows a run.

    Args:
        session: a `Workbench` that makes the runs; None for a view that only shows.
        run: the run to show at first.
        feed: a feed to share with other widgets.
        prompt: the text of the prompt box.
        mode: ``chat`` sends the prompt as a user message, ``completion`` continues it as plain text.
        settings: functions that return the ``model``, ``sampling_params`` and ``logprobs`` of each new run.
        breakpoints: where new runs pause, at most one of each kind.
    """

    _esm = module_source("stream_view")
    _css = style_source("stream_view")
    _twin_shows = ("feed.snapshot",)

    prompt = traitlets.Unicode("", help="The text of the prompt box.").tag(sync=True)
    mode = traitlets.Enum(MODES, "chat", help="How the prompt is sent: chat or completion.").tag(sync=True)
    can_run = traitlets.Bool(False, help="Whether there is a session to run prompts with.").tag(sync=True)
    pauses = traitlets.Dict(NOWHERE, help="Where the next run pauses: entropy_above, text, tool_call.").tag(sync=True)
    no_pause = traitlets.Unicode("", help="Why the next run cannot pause; empty if it can.").tag(sync=True)
    no_chat = traitlets.Unicode("", help="Why the model cannot chat; empty if it can or if that is unknown.").tag(
        sync=True
    )
    color_by = traitlets.Enum(
        COLORS, "surprisal", help="What the color of a token shows: surprisal, probability, entropy or none."
    ).tag(sync=True)
    show_whitespace = traitlets.Bool(False, help="Whether spaces, line ends and invisible characters are marked.").tag(
        sync=True
    )
    show_special = traitlets.Bool(True, help="Whether control tokens are shown, which are not part of the text.").tag(
        sync=True
    )

    def __init__(
        self,
        session: SessionLike | None = None,
        *,
        run: RunLike | None = None,
        feed: RunFeed | None = None,
        prompt: str = "",
        mode: str = "chat",
        settings: Settings | None = None,
        breakpoints: Sequence[Breakpoint] = (),
    ) -> None:
        if mode not in MODES:
            raise InvalidRequestError("mode", mode, "chat or completion")
        self._session = session
        self._settings = _default_settings if settings is None else settings
        self._gave_up_chat = False
        super().__init__(feed, prompt=prompt, mode=mode, can_run=session is not None, pauses=to_form(breakpoints))
        self.on_msg(self._answer)
        if settings is None:  # a widget that passes its own may not be ready, and calls `refresh`
            self.refresh()
        if run is not None:
            self.feed.follow(run)

    @property
    def run(self) -> RunLike | None:
        """The run shown; None before the first."""
        return self.feed.run  # type: ignore[no-any-return]

    @property
    def breakpoints(self) -> list[Breakpoint]:
        """Breakpoints of the next run; can be set, with at most one of each kind."""
        return from_form(self.pauses)

    @breakpoints.setter
    def breakpoints(self, breakpoints: Sequence[Breakpoint]) -> None:
        self.pauses = to_form(breakpoints)

    def refresh(self) -> None:
        """Update what the model of the next run can do, for example after another one was chosen.

        The mode becomes completion for a model without a chat template, and chat again for one that has it.
        """
        model = self._settings()["model"]
        with LOCK:
            self.no_pause = "" if self._can(model, "pause") else NO_PAUSE.format(model=model or "This model")
            self.no_chat = NO_CHAT.format(model=model or "This model") if self._lacks_template(model) else ""
            if self.no_chat and self.mode == "chat":
                self.mode, self._gave_up_chat = "completion", True
            elif not self.no_chat and self._gave_up_chat:
                self.mode, self._gave_up_chat = "chat", False

    def _can(self, model: str | None, ability: str) -> bool:
        if self._session is None:
            return True
        try:
            return bool(getattr(self._session.capabilities(model), ability))
        except ModelNotFoundError:  # no such model is served; starting a run reports it
            return True

    def _lacks_template(self, model: str | None) -> bool:
        if self._session is None:
            return False
        try:
            card = self._session.card(model)
        except ModelNotFoundError:
            return False
        # A card without an architecture is that of a model whose files were not read, as before its download.
        return card.architecture is not None and not card.has_chat_template

    def start(self, prompt: str | None = None) -> RunLike:
        """Start a run and show it; a run in progress is stopped first.

        If it fails before its first token, the previous run is shown again.

        Args:
            prompt: replaces the text of the prompt box; None keeps it.

        Raises:
            ClosedError: this view was closed, or has no session.
            InvalidRequestError: the prompt is blank or a setting is refused.
        """
        with LOCK:
            if self.closed or self._session is None:
                raise ClosedError("this view was closed or only shows a run; make a new one with a session")
            if prompt is not None:
                self.prompt = prompt
            if not self.prompt.strip():
                raise InvalidRequestError(
                    "prompt", self.prompt, "a string that is not blank", in_form="Write a prompt first."
                )
            self.stop()
            return self._follow(self._launch(self._session))

    def stop(self) -> None:
        """Stop all runs of the prompt within one decode step; ended runs stay as they are."""
        for run in self.feed.runs:
            if not run.done:
                run.cancel()

    def pause(self) -> None:
        """Pause the run shown within one decode step; does nothing after its end. Raises as ``run.pause`` does."""
        self._shown().pause()

    def resume(self) -> None:
        """Continue a paused run."""
        self._shown().resume()

    def extend(self) -> RunLike:
        """Continue the run shown, which was stopped or cut off; see ``run.extend``, also for what it raises."""
        return self._follow(self._shown().extend())

    def again(self) -> RunLike:
        """Run the same request again, with another seed if it samples; the run shown is stopped."""
        run = self._shown().again()
        self.stop()
        return self._follow(run)

    def static_html(self) -> str:
        return twins.stream_html(self.run, self.prompt, self.color_by)

    def __repr__(self) -> str:
        return f"StreamView(run={None if self.run is None else self.run.id!r})"

    def _release(self) -> None:
        self.stop()
        super()._release()

    def next_settings(self) -> dict[str, Any]:
        """Return the settings of the next run; a completion also measures its prompt if the provider can."""
        settings = self._settings()
        if self.breakpoints:
            settings["breakpoints"] = self.breakpoints
        if self.mode == "completion" and settings.get("logprobs") and self._can(settings["model"], "prompt_logprobs"):
            settings["logprobs"] = settings["logprobs"].model_copy(update={"prompt": True})
        return settings

    def _launch(self, session: SessionLike) -> RunLike:
        settings = self.next_settings()
        if self.mode == "completion":
            return session.completion(self.prompt, **settings)
        messages: list[Message] = [UserMessage(content=self.prompt)]
        return session.chat_completion(messages, **settings)

    def _shown(self) -> RunLike:
        if self.run is None:
            raise InvalidRequestError("run", None, "started first")
        return self.run

    def _follow(self, run: RunLike) -> RunLike:
        self.feed.follow(run, or_return=True)
        return run

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        kind = message.get("kind") if isinstance(message, dict) else None
        if kind not in ("run", "stop", "pause", "resume", "extend", "again"):
            return
        error: str | None = None
        try:
            getattr(self, "start" if kind == "run" else kind)()
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            error = error_text(problem)
        self.send({"kind": "reply", "id": message.get("id"), "error": error})

    @traitlets.validate("pauses")
    def _are_breakpoints(self, proposal: Any) -> dict[str, Any]:
        return to_form(from_form(proposal["value"]))


def _default_settings() -> dict[str, Any]:
    return {
        "model": None,
        "sampling_params": SamplingParams(max_tokens=256),
        "logprobs": LogProbConfig(top_k=ALTERNATIVES),
    }
