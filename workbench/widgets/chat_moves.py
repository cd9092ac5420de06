"""What moves a chat on: messages, decisions on calls, other versions of an answer, and what comes of each.

The conversation itself is the session's (`workbench.session.conversation.Conversation`).
"""

from __future__ import annotations

import threading
from typing import Any

import traitlets

from workbench.errors import BusyError, ClosedError, InvalidRequestError
from workbench.protocol import LogProbConfig, Message
from workbench.widgets.base import LOCK, Part
from workbench.widgets.calling import Calling
from workbench.widgets.chat_transcript import Tail, Transcript
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
    context = traitlets.Dict(
        help="Tokens used so far, `used`, and the model's context length, `length`, None if unknown."
    ).tag(sync=True)
    can_undo = traitlets.Bool(False, help="Whether `undo_new_chat` can restore the previous chat.").tag(sync=True)

    def __init__(self, conversation: ConversationLike, logprobs: LogProbConfig, **traits: Any) -> None:
        self._conversation = conversation
        self._logprobs = logprobs
        self._calling = Calling(conversation, self._after_call)
        self._transcript = Transcript(conversation, calling=self._calling.places)
        self._cleared: Tail | None = None
        self._rests = threading.Event()
        self._rests.set()
        super().__init__(**traits)
        self.feed.observe(self._after_run, "snapshot")
        self.picker.observe(lambda _: self._measure(), ["value", "cards"])
        self._measure()

    # ------------------------------------------------------------------------------------------------ reading

    @property
    def messages(self) -> list[Message]:
        """The messages that the model gets; an answer is included once it has ended."""
        with LOCK:
            self._conversation.system = self.system or None
            return self._conversation.messages

    @property
    def run(self) -> RunLike | None:
        """The run of the latest answer, finished or not; None before the first."""
        pending = self._transcript.pending
        return next(reversed(self._transcript.runs), None) if pending is None else pending

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the model has answered or its calls need a decision; return False on a timeout."""
        return self._rests.wait(timeout_s)

    # ------------------------------------------------------------------------------------------------- acting

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
            if not _says_something(text):
                raise InvalidRequestError("text", text, "a string that is not blank", in_form="Write a message first.")
            self._check_rests()
            questions = self._transcript.questions
            if turn is not None:
                return self._say_again(text, self._checked_turn(turn))
            if questions:
                self._transcript.give_up_version(questions[-1])
            return self._say(text)

    def regenerate(self) -> RunLike:
        """Answer the last user message again; `choose_version` brings the previous answer back.

        Raises:
            ClosedError: the widget was closed.
            BusyError: an answer or a call is still running.
            InvalidRequestError: there is no user message.
        """
        with LOCK:
            self._check_rests()
            turn = self._checked_turn(None)
            self._decline_open_calls()
            self._transcript.begin_version(turn)
            self._transcript.rewind(turn + 1)
            try:
                return self._ask()
            except Exception:
                self._transcript.give_up_version(turn)
                self._show("idle")
                raise

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
            self._check_rests()
            turn = self._checked_turn(turn)
            self._decline_open_calls()
            self._transcript.choose_version(turn, version)
            self._show_last_run()

    def new_chat(self) -> None:
        """Remove all messages and keep the settings; `undo_new_chat` restores them until the next message.

        Raises:
            ClosedError: the widget was closed.
            BusyError: an answer or a call is still running.
        """
        with LOCK:
            self._check_rests()
            if self._conversation.turns:
                self._decline_open_calls()
                self._cleared = self._transcript.tail(0)
                self._transcript.rewind(0)
                self._show_last_run()

    def undo_new_chat(self) -> None:
        """Restore the messages that `new_chat` removed.

        Raises:
            ClosedError: the widget was closed.
            InvalidRequestError: nothing was removed, or a message was sent since.
        """
        with LOCK:
            self._check_open()
            if self._cleared is None:
                raise InvalidRequestError(
                    "new_chat",
                    "nothing to undo",
                    "undone before the next message",
                    in_form="There is no previous chat to restore.",
                )
            self._transcript.rewind(0)  # a message whose answer could not start
            self._transcript.restore(self._cleared)
            self._cleared = None
            self._show_last_run()

    def stop(self) -> None:
        """Stop the answer within one decode step, or abandon open calls; the model is not asked again."""
        with LOCK:
            run = self._transcript.pending
            if self.state == "answering" and run is not None:
                run.cancel()
            elif self.state in ("deciding", "calling"):
                self._calling.give_up()
                for place in self._conversation.open_calls:
                    self._conversation.settle(place, _STOPPED, "stopped")
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
            if call is None or place in self._calling.places:
                waiting = sorted(set(self._conversation.open_calls) - self._calling.places)
                raise InvalidRequestError(
                    "place", place, f"the index of a waiting call: {waiting or 'none is waiting'}"
                )
            if not approved:
                self._conversation.decline(place)
            elif result is not None:
                self._conversation.settle(place, str(result))
            elif self._conversation.can_run(call):
                self._calling.start(place, call)
            else:
                raise InvalidRequestError("result", result, f"a string: {call.tool_name} has no function to run")
            self._go_on()

    def show(self, run_id: str) -> None:
        """Show the tokens of an earlier answer, by the id of its run.

        Raises:
            BusyError: an answer is still running.
            InvalidRequestError: there is no such answer.
        """
        with LOCK:
            if self.state == "answering":
                raise BusyError(_BUSY)
            found = [run for run in self._transcript.runs if run.id == run_id]
            if not found:
                known = ", ".join(run.id for run in self._transcript.runs) or "there are none yet"
                raise InvalidRequestError("run_id", run_id, f"the id of an answer: {known}")
            self.feed.follow(found[0])

    # ------------------------------------------------------------------------------------------------- inside

    def _release(self) -> None:
        self._calling.give_up()
        run = self._transcript.pending
        if run is not None and not run.done:
            run.cancel()
        self._rests.set()

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError("this chat was closed; make a new one")

    def _check_rests(self) -> None:
        self._check_open()
        if self.state in ("answering", "calling"):
            raise BusyError(_BUSY)

    def _checked_turn(self, turn: int | None) -> int:
        """A turn of the user by its place; None is the last one."""
        places = self._transcript.questions
        chosen = places[-1] if turn is None and places else turn
        if chosen is None or chosen not in places:
            raise InvalidRequestError("turn", turn, f"the index of a user message: {places or 'there is none'}")
        return chosen

    def _decline_open_calls(self) -> None:
        for place in self._conversation.open_calls:
            self._conversation.decline(place)

    def _say(self, text: str) -> RunLike:
        self._conversation.say(text)
        self._transcript.pending = None
        return self._ask()

    def _say_again(self, text: str, turn: int) -> RunLike:
        """Replace a turn of the user; it comes back with all that followed where the answer cannot even start."""
        self._decline_open_calls()
        removed = self._transcript.tail(turn)
        self._transcript.rewind(turn)
        try:
            return self._say(text)
        except Exception:
            self._transcript.rewind(turn)
            self._transcript.restore(removed)
            self._show("idle")
            raise

    def _ask(self) -> RunLike:
        self._conversation.system, self._conversation.tool_choice = self.system or None, self.tool_choice
        try:
            run: RunLike = self._conversation.ask(
                model=self.model, sampling_params=self.sampling_params, logprobs=self._logprobs
            )
        except Exception:
            self._show("idle")
            raise
        self._cleared = None
        self._transcript.pending = run
        self._show("answering")
        self.feed.follow(run)
        return run

    def _after_run(self, change: Any) -> None:
        """Take the answer of a run that has ended; called behind the lock, by the feed."""
        if not self.closed:
            self._adopt(self.feed.run)
        run = self._transcript.pending
        if run is None or change.new["run"] != run.id or not run.done or self.state != "answering" or self.closed:
            return
        if run.state == "failed":
            self._show("idle")
            return
        self._conversation.take(run)
        self._transcript.runs.append(run)
        self._transcript.pending = None
        self._show("deciding" if self._conversation.open_calls else "idle")

    def _adopt(self, shown: RunLike | None) -> None:
        """Go on with a branch of an answer, as choosing an alternative asks; the answer stays as another version."""
        known = [*self._transcript.runs, *([] if self._transcript.pending is None else [self._transcript.pending])]
        if shown is None or shown in known or shown.parent not in known:
            return
        place = known.index(shown.parent)
        self._calling.give_up()
        self._decline_open_calls()
        if place < len(self._transcript.runs):
            answer = self._transcript.answers[place]
            self._transcript.begin_version(max(turn for turn in self._transcript.questions if turn < answer))
            self._transcript.rewind(answer)
        self._transcript.pending = shown
        self._show("answering")

    def _after_call(self) -> None:
        """Go on after an approved function has ended; called behind the lock, on the function's thread."""
        try:
            self._go_on()
        except Exception as problem:  # noqa: BLE001 - nobody waits for this thread; the page has to tell it
            self.feed.report(error_text(problem))

    def _go_on(self) -> None:
        """Ask again once every call has its result."""
        if self._calling.places:
            self._show("calling")
        elif self._conversation.open_calls:
            self._show("deciding")
        else:
            self._ask()

    def _show(self, state: str) -> None:
        with self.hold_sync():  # turns and state belong together
            self.turns = turns_wire(self._transcript)
            self.state = state
            self.can_undo = self._cleared is not None
            self._measure()
        (self._rests.set if state in ("idle", "deciding") else self._rests.clear)()

    def _show_last_run(self) -> None:
        """Show the turns as they are now, with the tokens of the last answer."""
        self._show("idle")
        if self._transcript.runs:
            self.feed.follow(self._transcript.runs[-1])
        else:
            self.feed.clear()

    def _measure(self) -> None:
        """Count the tokens of the conversation so far, and those that the chosen model takes."""
        card, run = self.picker.card, self.run
        used = 0 if run is None else run.usage.prompt_tokens + run.usage.kept_tokens + run.usage.generated_tokens
        self.context = {"used": used, "length": None if card is None else card.context_length}


def _says_something(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip())
