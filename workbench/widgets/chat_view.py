"""The chat view: turns, their tokens, and functions that run only after their calls are approved.

Each answer is drawn as formatted text or as tokens; `workbench.widgets.chat_moves` has the actions of the buttons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Literal, TypeAlias

import traitlets

from workbench.errors import InvalidRequestError
from workbench.protocol import SamplingParams, ToolChoice, ToolDefinition
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK, Part
from workbench.widgets.chat_moves import TOOL_CHOICES, ChatMoves
from workbench.widgets.composing import close_on_error, logprobs_with, replace_open_widget, takes_arguments_of
from workbench.widgets.contract import SessionLike
from workbench.widgets.html.chat import chat_html
from workbench.widgets.model_picker import ModelPicker
from workbench.widgets.prompt_view import PromptView
from workbench.widgets.run_feed import RunFeed
from workbench.widgets.sampling_controls import SamplingControls
from workbench.widgets.stream_view import ALTERNATIVES
from workbench.widgets.token_inspector import TokenInspector
from workbench.widgets.tool_call_microscope import ToolCallMicroscope
from workbench.widgets.wire.chat import tool_wire, turns_wire
from workbench.widgets.wire.run import error_text

DETAILS = ("none", "calls", "prompt")
VIEWS = ("auto", "reading", "tokens")

Tools = Sequence[ToolDefinition | Callable[..., Any]]
AnswerChoice: TypeAlias = ToolChoice | Literal["auto", "required", "none"] | None


class ChatView(ChatMoves):
    """A chat with a model; ``messages``, ``run`` and ``sampling_params`` can be read at any time.

    Args:
        session: a `Workbench`.
        system: the system prompt.
        tools: functions, each run only after its call is approved, and definitions, whose results a person types in.
        tool_choice: whether the first answer to a message may call a tool (``auto``), must call one (``required``) or
            is made without tools (``none``). The answer to a result may always call, except with ``none``.
        model: identifier of the initial model; None takes the first one served.
        sampling_params: initial settings; None is top-p sampling with temperature 0.7.
        alternatives: number of alternatives to record at each position.
        shields: names of shields that check each message and each sentence of an answer.
    """

    _esm = module_source("chat_view")
    _css = style_source("chat_view")
    _twin_shows = ("feed.snapshot", "turns")

    inspector = Part("Details of the selected token.")
    microscope = Part("The tool calls of the answer whose tokens are shown; updated while open.")
    prompt_view = Part("The prompt of the answer whose tokens are shown; updated while open.")
    detail = traitlets.Enum(
        DETAILS, "none", help="The panel open below the answer whose tokens are shown: none, calls or prompt."
    ).tag(sync=True)
    draft = traitlets.Unicode("", help="The text of the message box.").tag(sync=True)
    view = traitlets.Enum(
        VIEWS,
        "auto",
        help="How the answer whose tokens are shown is drawn: reading, tokens, or auto (tokens until it ends).",
    ).tag(sync=True)
    tools: traitlets.List[dict[str, str]] = traitlets.List(
        help="Name, description and parameters (a JSON schema) of each tool."
    ).tag(sync=True)
    height = traitlets.Int(0, help="Height of the conversation in pixels; 0 fits the content, up to a limit.").tag(
        sync=True
    )

    def __init__(
        self,
        session: SessionLike,
        *,
        system: str | None = None,
        tools: Tools | None = None,
        tool_choice: AnswerChoice = ToolChoice.auto,
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        alternatives: int = ALTERNATIVES,
        shields: Sequence[str] | None = None,
    ) -> None:
        if system is not None and not isinstance(system, str):
            raise InvalidRequestError("system", system, "a string or None")
        if tool_choice is not None and tool_choice not in TOOL_CHOICES:
            raise InvalidRequestError("tool_choice", tool_choice, f"one of {', '.join(TOOL_CHOICES)}")
        if shields is not None and not _is_names(shields):
            raise InvalidRequestError("shields", shields, "a list of names of served shields, or None")
        logprobs = logprobs_with(alternatives)
        conversation = session.conversation(tools=tools, tool_choice=tool_choice)
        with ExitStack() as made:
            feed = close_on_error(made, RunFeed())
            super().__init__(
                conversation,
                logprobs,
                feed=feed,
                picker=close_on_error(made, ModelPicker(session, value=model)),
                controls=close_on_error(made, SamplingControls(sampling_params)),
                inspector=close_on_error(made, TokenInspector(feed=feed)),
                microscope=close_on_error(made, ToolCallMicroscope(feed=feed, active=False)),
                prompt_view=close_on_error(made, PromptView(feed=feed, active=False)),
                system=system or "",
                tools=[tool_wire(tool) for tool in conversation.tools],
                tool_choice=str(tool_choice or "auto"),
                shields=list(shields or ()),
            )
            made.pop_all()
        self.observe(self._open_detail, "detail")
        self.on_msg(self._answer)

    def static_html(self) -> str:
        with LOCK:
            transcript = self._transcript
            runs = transcript.runs if transcript.pending is None else [*transcript.runs, transcript.pending]
            return chat_html(self.system, turns_wire(transcript), runs)

    def __repr__(self) -> str:
        return f"ChatView(model={self.model!r}, messages={len(self.messages)}, state={self.state!r})"

    # ------------------------------------------------------------------------------------------------- inside

    def _release(self) -> None:
        super()._release()
        for part in (self.microscope, self.prompt_view, self.inspector, self.controls, self.picker, self.feed):
            part.close()

    def _is_settled(self) -> bool:
        pending = self._transcript.pending
        return pending is None or pending.done

    def _open_detail(self, change: Any) -> None:
        self.microscope.active = change.new == "calls"
        self.prompt_view.active = change.new == "prompt"

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        actions: dict[Any, Callable[[dict[str, Any]], Any]] = {
            "say": lambda m: self.say(m.get("text", ""), turn=m.get("turn")),
            "stop": lambda _: self.stop(),
            "regenerate": lambda _: self.regenerate(),
            "version": lambda m: self.choose_version(m["version"], turn=m["turn"]),
            "new": lambda _: self.new_chat(),
            "undo": lambda _: self.undo_new_chat(),
            "decide": lambda m: self.decide(m["place"], approved=m.get("approved") is True, result=m.get("result")),
            "show": lambda m: self.show(m["run"]),
        }
        action = actions.get(message.get("kind")) if isinstance(message, dict) else None
        if action is None:
            return
        error: str | None = None
        try:
            action(message)
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            error = error_text(problem)
        self.send({"kind": "reply", "id": message.get("id"), "error": error})


def _is_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) and name for name in value)


@takes_arguments_of(ChatView)
def chat(session: SessionLike, **arguments: Any) -> ChatView:
    """Open a chat on a session and close an earlier one with the same arguments; see `ChatView` for the arguments."""
    opened = ChatView(session, **arguments)
    tools = arguments.pop("tools") or ()
    names = [getattr(tool, "__name__", str(tool)) for tool in tools]  # a redefined function is another object
    replace_open_widget(session, opened, (names, arguments))
    return opened
