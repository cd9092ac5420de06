"""A chat: turns, their tokens, and functions that run once a person has approved the call.

The conversation itself is the session's (`workbench.conversing.Conversation`); this widget moves it on at the clicks
of a person.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import traitlets

from workbench.errors import ClosedError, InvalidRequestError
from workbench.protocol import (
    CompletionMessage,
    Message,
    SamplingParams,
    ToolChoice,
    ToolDefinition,
    UserMessage,
)
from workbench.widgets import static_chat
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK, Part
from workbench.widgets.calling import Calling
from workbench.widgets.chat_wire import Transcript, Turn
from workbench.widgets.composing import Choosing, logprobs_with, take_the_place, until_made
from workbench.widgets.contract import RunLike, SessionLike
from workbench.widgets.model_picker import ModelPicker
from workbench.widgets.prompt_view import PromptView
from workbench.widgets.run_feed import RunFeed
from workbench.widgets.sampling_controls import SamplingControls
from workbench.widgets.stream_view import ALTERNATIVES
from workbench.widgets.token_inspector import TokenInspector
from workbench.widgets.tool_call_microscope import ToolCallMicroscope
from workbench.widgets.wire import in_words

STATES = ("idle", "answering", "deciding", "calling")
DETAILS = ("none", "calls", "prompt")
_STOPPED = "The user stopped this call before it had a result."

Tools = Sequence[ToolDefinition | Callable[..., Any]]


class ChatView(Choosing):
    """Holds a conversation with a model; ``messages``, ``run`` and ``sampling_params`` can be read at any time.

    Args:
        session: makes the conversation and its runs.
        system: instructions that stand above the turns.
        tools: functions, each run only when its call was approved; and definitions, whose results a person types in.
        tool_choice: whether the answer to a user may be a call (``auto``) or has to be one (``required``).
        model: identifier of the model to begin with; None takes the first one served.
        sampling_params: where the controls stand; None is top-p sampling with temperature 0.7.
        alternatives: how many other tokens are kept at each position.
    """

    _esm = module_source("chat_view")
    _css = style_source("chat_view")
    _twin_shows = ("feed.snapshot", "turns")

    feed = Part("The run feed of the answer whose tokens are shown.")
    inspector = Part("Everything about the selected token.")
    microscope = Part("How the calls of the answer came about whose tokens are shown; looks while it is open.")
    prompt_view = Part("What the model was given for that answer; looks while it is open.")
    detail = traitlets.Enum(DETAILS, "none", help="What is open below that answer: none, calls or prompt.").tag(
        sync=True
    )
    turns: traitlets.List[Turn] = traitlets.List(help="The conversation as it is shown, a dictionary a turn.").tag(
        sync=True
    )
    state = traitlets.Enum(
        STATES, "idle", help="What is waited for: idle, answering, deciding (a person) or calling (a function)."
    ).tag(sync=True)
    system = traitlets.Unicode("", help="Instructions that stand above the turns, from the next answer on.").tag(
        sync=True
    )
    draft = traitlets.Unicode("", help="What is being typed.").tag(sync=True)

    def __init__(
        self,
        session: SessionLike,
        *,
        system: str | None = None,
        tools: Tools | None = None,
        tool_choice: ToolChoice | None = ToolChoice.auto,
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        alternatives: int = ALTERNATIVES,
    ) -> None:
        if system is not None and not isinstance(system, str):
            raise InvalidRequestError("system", system, "a text, or None")
        self._logprobs = logprobs_with(alternatives)
        self._conversation = session.conversation(tools=tools, tool_choice=tool_choice)
        self._calling = Calling(self._conversation, self._after_call)
        self._transcript = Transcript(self._conversation, calling=self._calling.places)
        self._rests = threading.Event()
        self._rests.set()
        with ExitStack() as made:
            feed = until_made(made, RunFeed())
            super().__init__(
                feed=feed,
                picker=until_made(made, ModelPicker(session, value=model)),
                controls=until_made(made, SamplingControls(sampling_params)),
                inspector=until_made(made, TokenInspector(feed=feed)),
                microscope=until_made(made, ToolCallMicroscope(feed=feed, active=False)),
                prompt_view=until_made(made, PromptView(feed=feed, active=False)),
                system=system or "",
            )
            made.pop_all()
        self.feed.observe(self._after_run, "snapshot")
        self.observe(self._open_detail, "detail")
        self.on_msg(self._answer)

    # ------------------------------------------------------------------------------------------------ reading

    @property
    def messages(self) -> list[Message]:
        """The conversation as the model is shown it; an answer is there once it has ended."""
        with LOCK:
            self._conversation.system = self.system or None
            return self._conversation.messages

    @property
    def run(self) -> RunLike | None:
        """The run of the last answer, also while it goes on; None before the first."""
        pending = self._transcript.pending
        return next(reversed(self._transcript.runs), None) if pending is None else pending

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the model has answered, or asks for calls that somebody has to decide on; True if it is so."""
        return self._rests.wait(timeout_s)

    # ------------------------------------------------------------------------------------------------- acting

    def say(self, text: str, *, turn: int | None = None) -> RunLike:
        """Add a user's turn and start the answer; calls that are still open are declined.

        Args:
            turn: place of an earlier turn of the user in ``messages`` without the system's; it is replaced, and what
                came after it is forgotten.

        Raises:
            ClosedError: the widget was closed.
            InvalidRequestError: the text is empty, an answer or a call goes on, or there is no such turn.
        """
        with LOCK:
            self._check_open()
            if not _says_something(text):
                raise InvalidRequestError("text", text, "some text: write a message first")
            if self.state in ("answering", "calling"):
                raise InvalidRequestError("text", text, "sent once the answer has ended; Stop ends it")
            if turn is not None:
                self._rewind(turn)
            self._conversation.say(text)
            self._transcript.pending = None
            return self._ask()

    def stop(self) -> None:
        """Stop the answer within one step, or give up on open calls; the model is told, and asked no further."""
        with LOCK:
            run = self._transcript.pending
            if self.state == "answering" and run is not None:
                run.cancel()
            elif self.state in ("deciding", "calling"):
                self._calling.give_up()
                for place in self._conversation.open_calls:
                    self._conversation.settle(place, _STOPPED)
                self._show("idle")

    def decide(self, place: int, *, approved: bool, result: str | None = None) -> None:
        """Approve or decline an open call of the last answer, by its place in it.

        Args:
            result: what to tell the model instead of running a function; needed where there is none to run.

        Raises:
            InvalidRequestError: there is no such open call, or nothing to tell.
        """
        with LOCK:
            self._check_open()
            call = self._conversation.open_calls.get(place)
            if call is None or place in self._calling.places:
                waiting = sorted(set(self._conversation.open_calls) - self._calling.places)
                raise InvalidRequestError("place", place, f"that of a call that waits: {waiting or 'there is none'}")
            if not approved:
                self._conversation.decline(place)
            elif result is not None:
                self._conversation.settle(place, str(result))
            elif self._conversation.can_run(call):
                self._calling.start(place, call)
            else:
                raise InvalidRequestError("result", result, f"a text: {call.tool_name} is no function that can be run")
            self._go_on()

    def show(self, run_id: str) -> None:
        """Show the tokens of an earlier answer, by the id of its run."""
        with LOCK:
            if self.state == "answering":
                raise InvalidRequestError("run_id", run_id, "chosen once the answer has ended")
            found = [run for run in self._transcript.runs if run.id == run_id]
            if not found:
                known = ", ".join(run.id for run in self._transcript.runs) or "none so far"
                raise InvalidRequestError("run_id", run_id, f"that of an answer: {known}")
            self.feed.follow(found[0])

    def static_html(self) -> str:
        with LOCK:
            return static_chat.chat_html(self.system, self._transcript.wire(), self._transcript.runs)

    def __repr__(self) -> str:
        return f"ChatView(model={self.model!r}, messages={len(self.messages)}, state={self.state!r})"

    # ------------------------------------------------------------------------------------------------- inside

    def _release(self) -> None:
        self._calling.give_up()
        run = self._transcript.pending
        if run is not None and not run.done:
            run.cancel()
        for part in (self.microscope, self.prompt_view, self.inspector, self.controls, self.picker, self.feed):
            part.close()
        self._rests.set()

    def _is_settled(self) -> bool:
        pending = self._transcript.pending
        return pending is None or pending.done

    def _open_detail(self, change: Any) -> None:
        self.microscope.active = change.new == "calls"
        self.prompt_view.active = change.new == "prompt"

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError("this chat was closed; make a new one")

    def _rewind(self, turn: int) -> None:
        turns = self._conversation.turns
        places = [index for index, message in enumerate(turns) if isinstance(message, UserMessage)]
        if turn not in places:
            raise InvalidRequestError("turn", turn, f"the place of a turn of the user: {places or 'there is none'}")
        self._conversation.rewind(turn)
        answers = sum(isinstance(message, CompletionMessage) for message in self._conversation.turns)
        del self._transcript.runs[answers:]

    def _ask(self) -> RunLike:
        self._conversation.system = self.system or None
        try:
            run: RunLike = self._conversation.ask(
                model=self.model, sampling_params=self.sampling_params, logprobs=self._logprobs
            )
        except Exception:
            self._show("idle")
            raise
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
        """Put a branch of an answer in its place, as choosing an alternative asks; what came after is forgotten."""
        known = [*self._transcript.runs, *([] if self._transcript.pending is None else [self._transcript.pending])]
        if shown is None or shown in known or shown.parent not in known:
            return
        place = known.index(shown.parent)
        if place < len(self._transcript.runs):
            turns = enumerate(self._conversation.turns)
            answers = [index for index, message in turns if isinstance(message, CompletionMessage)]
            self._conversation.rewind(answers[place])
            del self._transcript.runs[place:]
        self._calling.give_up()
        self._transcript.pending = shown
        self._show("answering")

    def _after_call(self) -> None:
        """Go on after an approved function has ended; called behind the lock, on the function's thread."""
        try:
            self._go_on()
        except Exception as problem:  # noqa: BLE001 - nobody waits for this thread; the page has to tell it
            self.feed.report(in_words(problem))

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
            self.turns = self._transcript.wire()
            self.state = state
        (self._rests.set if state in ("idle", "deciding") else self._rests.clear)()

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        actions: dict[Any, Callable[[dict[str, Any]], Any]] = {
            "say": self._say_from_page,
            "stop": lambda _: self.stop(),
            "decide": lambda m: self.decide(m["place"], approved=m.get("approved") is True, result=m.get("result")),
            "show": lambda m: self.show(m["run"]),
        }
        action = actions.get(message.get("kind")) if isinstance(message, dict) else None
        if action is None:
            return
        error: str | None = None
        try:
            action(message)
        except Exception as problem:  # noqa: BLE001 - whatever it is, the person who clicked must read it
            error = in_words(problem)
        self.send({"kind": "reply", "id": message.get("id"), "error": error})

    def _say_from_page(self, message: dict[str, Any]) -> None:
        """The system prompt as it stood in the page when Send was pressed; its own update may still be on the way."""
        if isinstance(message.get("system"), str):
            self.system = message["system"]
        self.say(message.get("text", ""), turn=message.get("turn"))


def _says_something(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip())


def chat(
    session: SessionLike,
    *,
    system: str | None = None,
    tools: Tools | None = None,
    tool_choice: ToolChoice | None = ToolChoice.auto,
    model: str | None = None,
    sampling_params: SamplingParams | None = None,
    alternatives: int = ALTERNATIVES,
) -> ChatView:
    """Open a chat on a session, with the arguments of `ChatView`; one that was opened with the same ones is closed."""
    opened = ChatView(
        session,
        system=system,
        tools=tools,
        tool_choice=tool_choice,
        model=model,
        sampling_params=sampling_params,
        alternatives=alternatives,
    )
    names = [getattr(tool, "__name__", str(tool)) for tool in tools or ()]  # a function defined anew is another object
    take_the_place(session, opened, (system, names, tool_choice, model, sampling_params, alternatives))
    return opened
