"""The actions of a chat: messages, decisions on tool calls, and other versions of an answer.

`ChatMoves` decides which action its state allows and starts the answers. `Transcript` changes the turns, and the
session's `workbench.session.conversation.Conversation` holds them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import traitlets

from workbench.errors import BusyError, ClosedError, InvalidRequestError
from workbench.protocol import LogProbConfig, Message
from workbench.widgets.base import LOCK, Part
from workbench.widgets.calling import Calling
from workbench.widgets.chat_transcript import Transcript
from workbench.widgets.composing import ModelAndSampling
from workbench.widgets.contract import ConversationLike, RunLike
from workbench.widgets.wire.chat import Turn, turns_wire
from workbench.widgets.wire.run import error_text

STATES = ("idle", "answering", "deciding", "calling")
TOOL_CHOICES = ("auto", "required", "none")
_BUSY = "an answer or a call is still running; wait for it or stop it first"
_STOPPED = "The user stopped this call before it returned a result."


class ChatMoves(ModelAndSampling):
    """A conversation with a model, advanced step by step; `ChatView` draws it.

    Args:
        conversation: made by a `Workbench`.
        logprobs: what to record for each token.
        traits: the parts, and the initial settings.
    """

    feed = Part("The run feed of the answer whose tokens are shown.")
    turns: traitlets.List[Turn] = traitlets.List(help="The conversation as shown, one dictionary per turn.").tag(
        sync=True
    )
    state = traitlets.Enum(
        STATES, "idle", help="idle, answering, deciding (calls wait for a person) or calling (functions are running)."
    ).tag(sync=True)
    system = traitlets.Unicode("", help="The system prompt, used from the next answer on.").tag(sync=True)
    tool_choice = traitlets.Enum(
        TOOL_CHOICES,
        "auto",
        help="Whether the first answer to a message may (auto), must (required) or cannot (none) call a tool.",
    ).tag(sync=True)
    shields: traitlets.List[str] = traitlets.List(
        traitlets.Unicode(), help="Names of the shields that check each message and each sentence of an answer."
    ).tag(sync=True)
    context = traitlets.Dict(
        help="Tokens used so far, `used`, and the model's context length, `length`, None if unknown."
    ).tag(sync=True)
    can_undo = traitlets.Bool(False, help="Whether `undo_new_chat` can restore the previous chat.").tag(sync=True)

    def __init__(self, conversation: ConversationLike, logprobs: LogProbConfig, **traits: Any) -> None:
        self._conversation = conversation
        self._logprobs = logprobs
        self._calling = Calling(conversation, self._after_call)
        self._transcript = Transcript(conversation, calling=self._calling.running)
        self._is_at_rest = threading.Event()
        self._is_at_rest.set()
        super().__init__(**traits)
        self.feed.observe(self._after_run, "snapshot")
        self.picker.observe(lambda _: self._show_context(), ["value", "cards"])
        self._show_context()
        self.picker.observe(self._offer_recommended, ["value", "cards"])
        self._offer_recommended()

    @property
    def messages(self) -> list[Message]:
        """The messages that the model gets; an answer is included once it has ended."""
        with LOCK:
            self._conversation.system = self.system or None
            return self._conversation.messages

    @property
    def run(self) -> RunLike | None:
        """The run of the latest answer, finished or not; None before the first."""
        return self._transcript.latest_run

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the model has answered or its calls need a decision; return False on a timeout."""
        return self._is_at_rest.wait(timeout_s)

    def say(self, text: str, *, turn: int | None = None) -> RunLike:
        """Add a user message and start the answer; open calls are declined.

        Args:
            turn: index of an earlier user message in ``messages``, not counting the system message; it is replaced and
                later messages are removed.

        Raises:
            ClosedError: the widget was closed.
            BusyError: an answer or a call is still running.
            InvalidRequestError: the text is blank, or there is no such message.
        """
        with LOCK:
            self._check_open()
            if _is_blank(text):
                raise InvalidRequestError("text", text, "a string that is not blank", in_form="Write a message first.")
            self._check_at_rest()
            if turn is not None:
                turn = self._transcript.question(turn)
                with self._idle_on_error(), self._transcript.replacing(turn):
                    return self._say(text)
            with self._idle_on_error():
                self._transcript.drop_unanswered_version()
                return self._say(text)

    def regenerate(self) -> RunLike:
        """Answer the last user message again; `choose_version` brings the previous answer back.

        Raises:
            ClosedError: the widget was closed.
            BusyError: an answer or a call is still running.
            InvalidRequestError: there is no user message.
        """
        with LOCK:
            self._check_at_rest()
            turn = self._transcript.question(None)
            with self._idle_on_error(), self._transcript.new_version(turn):
                return self._start_answer()

    def choose_version(self, version: int, *, turn: int | None = None) -> None:
        """Switch to another version of an answer, with everything that followed it.

        Args:
            version: counted from 1, the oldest.
            turn: index of the user message in ``messages``, not counting the system message; None is the last one.

        Raises:
            ClosedError: the widget was closed.
            BusyError: an answer or a call is still running.
            InvalidRequestError: there is no such message or version.
        """
        with LOCK:
            self._check_at_rest()
            turn = self._transcript.question(turn)
            self._transcript.decline_open_calls()
            self._transcript.choose_version(turn, version)
            self._show_last_run()

    def new_chat(self) -> None:
        """Remove all messages and keep the settings; `undo_new_chat` restores them until the next message.

        Raises:
            ClosedError: the widget was closed.
            BusyError: an answer or a call is still running.
        """
        with LOCK:
            self._check_at_rest()
            if self._conversation.turns:
                self._transcript.clear()
                self._show_last_run()

    def undo_new_chat(self) -> None:
        """Restore the messages that `new_chat` removed.

        Raises:
            ClosedError: the widget was closed.
            InvalidRequestError: nothing was removed, or a message was sent since.
        """
        with LOCK:
            self._check_open()
            self._transcript.undo_clear()
            self._show_last_run()

    def stop(self) -> None:
        """Stop the answer within one decode step, or abandon open calls; the model does not continue."""
        with LOCK:
            run = self._transcript.pending
            if self.state == "answering" and run is not None:
                run.cancel()
            elif self.state in ("deciding", "calling"):
                self._calling.abandon()
                for index in self._conversation.open_calls:
                    self._conversation.set_result(index, _STOPPED, "stopped")
                self._show("idle")

    def decide(self, place: int, *, approved: bool, result: str | None = None) -> None:
        """Approve or decline an open call of the last answer, by its index.

        Args:
            result: sent to the model instead of running the function; required if there is no function to run.

        Raises:
            InvalidRequestError: there is no such open call, or a result is missing.
        """
        with LOCK:
            self._check_open()
            call = self._conversation.open_calls.get(place)
            if call is None or place in self._calling.running:
                waiting = sorted(set(self._conversation.open_calls) - self._calling.running)
                raise InvalidRequestError(
                    "place", place, f"the index of a waiting call: {waiting or 'none is waiting'}"
                )
            if not approved:
                self._conversation.decline(place)
            elif result is not None:
                self._conversation.set_result(place, str(result))
            elif self._conversation.can_run(call):
                self._calling.start(place, call)
            else:
                raise InvalidRequestError("result", result, f"a string: {call.tool_name} has no function to run")
            self._continue()

    def show(self, run_id: str) -> None:
        """Show the tokens of an earlier answer, by the id of its run.

        Raises:
            BusyError: an answer is still running.
            InvalidRequestError: there is no such answer.
        """
        with LOCK:
            if self.state == "answering":
                raise BusyError(_BUSY)
            self.feed.follow(self._transcript.run(run_id))

    def _release(self) -> None:
        self._calling.abandon()
        run = self._transcript.pending
        if run is not None and not run.done:
            run.cancel()
        self._is_at_rest.set()

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError("this chat was closed; make a new one")

    def _check_at_rest(self) -> None:
        self._check_open()
        if self.state in ("answering", "calling"):
            raise BusyError(_BUSY)

    @contextmanager
    def _idle_on_error(self) -> Iterator[None]:
        """Show the turns as they are if no answer could be started."""
        try:
            yield
        except Exception:
            self._show("idle")
            raise

    def _say(self, text: str) -> RunLike:
        self._conversation.say(text)
        self._transcript.pending = None
        return self._start_answer()

    def _start_answer(self) -> RunLike:
        self._conversation.system, self._conversation.tool_choice = self.system or None, self.tool_choice
        run: RunLike = self._conversation.start_answer(
            model=self.model,
            sampling_params=self.sampling_params,
            logprobs=self._logprobs,
            shields=list(self.shields) or None,
        )
        self._transcript.cleared = None
        self._transcript.pending = run
        self._show("answering")
        self.feed.follow(run)
        return run

    def _after_run(self, change: Any) -> None:
        """Add the answer of a run that has ended; the feed calls this behind the lock."""
        if self.closed:
            return
        if self.feed.run is not None and self._transcript.adopt(self.feed.run):
            self._calling.abandon()
            self._show("answering")
        run = self._transcript.pending
        if run is None or change.new["run"] != run.id or not run.done or self.state != "answering":
            return
        if run.state == "failed":
            self._show("idle")
            return
        self._conversation.add_answer(run)
        self._transcript.runs.append(run)
        self._transcript.pending = None
        self._show("deciding" if self._conversation.open_calls else "idle")

    def _after_call(self) -> None:
        """Continue after an approved function has ended; called behind the lock, on the function's thread."""
        try:
            self._continue()
        except Exception as problem:  # noqa: BLE001 - this thread has no caller that could show it
            self.feed.report(error_text(problem))

    def _continue(self) -> None:
        """Start the next answer once every call has its result."""
        if self._calling.running:
            self._show("calling")
        elif self._conversation.open_calls:
            self._show("deciding")
        else:
            with self._idle_on_error():
                self._start_answer()

    def _show(self, state: str) -> None:
        with self.hold_sync():  # the page gets turns and state together
            self.turns = turns_wire(self._transcript)
            self.state = state
            self.can_undo = self._transcript.cleared is not None
            self._show_context()
        (self._is_at_rest.set if state in ("idle", "deciding") else self._is_at_rest.clear)()

    def _show_last_run(self) -> None:
        """Show the turns as they are, with the tokens of the last answer."""
        self._show("idle")
        if self._transcript.runs:
            self.feed.follow(self._transcript.runs[-1])
        else:
            self.feed.clear()

    def _show_context(self) -> None:
        """Show the number of tokens of the conversation so far, and the context length of the chosen model."""
        card, run = self.picker.card, self.run
        used = 0 if run is None else run.usage.prompt_tokens + run.usage.kept_tokens + run.usage.generated_tokens
        self.context = {"used": used, "length": None if card is None else card.context_length}


def _is_blank(text: object) -> bool:
    return not isinstance(text, str) or not text.strip()
