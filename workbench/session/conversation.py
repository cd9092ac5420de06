"""The agent loop: a model calls tools, approved calls are run, and their results go back to the model.

`Conversation` has the steps of the loop: the chat widget takes one per click, `Loop` all in sequence. Functions run on
the thread that calls `Conversation.result`. With `Loop` this is the caller's thread, so that an interrupt stops them.
The engine and the protocol never run a tool.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypedDict, cast

from pydantic_core import to_json

from workbench.errors import InvalidRequestError
from workbench.prompts.tools.from_functions import FunctionTool, function_tool
from workbench.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseStreamChunk,
    CompletionMessage,
    ImageMedia,
    InterleavedTextMedia,
    LogProbConfig,
    Message,
    SamplingParams,
    SystemMessage,
    ToolCall,
    ToolChoice,
    ToolDefinition,
    ToolPromptFormat,
    ToolResponseMessage,
    UserMessage,
)
from workbench.protocol.sampling import is_count
from workbench.session.run import Run

MAX_ERROR_CHARACTERS = 1_000
"""Maximum length of the text of a function's error in the message to the model."""

_DECLINED = "The user did not approve this call."

Approve: TypeAlias = Callable[[ToolCall], bool] | bool | None
"""Predicate that approves a tool call; True runs all calls, False none, None returns the first calls to the caller."""

ChatRun: TypeAlias = Run[ChatCompletionResponseStreamChunk, ChatCompletionResponse]

CallOutcome: TypeAlias = Literal["ran", "declined", "failed", "stopped"]
"""Outcome of a call: it returned a result, was not approved, raised an error, or was stopped before either."""

AnswerChoice: TypeAlias = ToolChoice | Literal["none"] | None
"""A tool choice of the protocol, or ``none`` for answers without tools."""


class AnswerSettings(TypedDict, total=False):
    """Arguments of `Workbench.chat_completion` that are the same for every answer of a conversation."""

    model: str | None
    sampling_params: SamplingParams | None
    tool_prompt_format: ToolPromptFormat | None
    logprobs: LogProbConfig | None
    shields: list[str] | None


class StartAnswer(Protocol):
    """A function that starts the model's answer to messages; ``settings`` apply to this answer, such as its model.

    The setting ``offers_tools=False`` excludes tools from the request.
    """

    def __call__(self, messages: list[Message], tool_choice: ToolChoice | None, **settings: Any) -> ChatRun: ...


@dataclass(frozen=True, slots=True)
class ConversationResult:
    """Result of `Workbench.converse`."""

    messages: list[Message]
    """Messages of the caller, answers of the model and results of the calls that were run, in order."""
    runs: list[ChatRun] = field(repr=False)
    """Runs, one for each answer of the model."""
    ended: Literal["answered", "unapproved", "max_rounds"]
    """Reason for the end: the model answered without a tool call, its calls were not approved because ``approve`` is
    None, or it made calls after the last round."""

    @property
    def message(self) -> CompletionMessage:
        """Last answer of the model; its ``tool_calls`` were not run."""
        return cast("CompletionMessage", self.messages[-1])

    @property
    def text(self) -> str:
        """Text of the model's last answer."""
        return self.runs[-1].text


class _Result(NamedTuple):
    message: ToolResponseMessage
    outcome: CallOutcome


@dataclass(frozen=True, slots=True)
class Tail:
    """Last turns of a conversation, which `Conversation.restore` appends again."""

    turns: list[Message]
    outcomes: dict[int, CallOutcome]
    """Outcomes of calls by the index of their results in the conversation."""


def _renamed(old: str, new: str) -> Callable[..., Any]:
    def method(self: Conversation, *args: Any, **settings: Any) -> Any:
        warnings.warn(f"Conversation.{old} is now Conversation.{new}", DeprecationWarning, stacklevel=2)
        return getattr(self, new)(*args, **settings)

    return method


class Conversation:
    """A conversation with functions that advances step by step. It is not thread-safe.

    The steps are `say`, `start_answer`, `add_answer` when the answer has ended, `result` and `set_result` for each of
    its calls, and `start_answer` again. `result` changes nothing, so it may run on another thread.

    Args:
        start: function that starts the model's answer to messages.
        functions: functions that can be run, by name.
        turns: earlier messages.
        tool_choice: tool choice of the first answer to a user. ``required`` does not apply after a result, because a
            model that must call again could never answer.
        tools: name, description and JSON schema of the parameters of each tool, for display.
    """

    def __init__(
        self,
        start: StartAnswer,
        functions: Mapping[str, FunctionTool],
        turns: Sequence[Message] = (),
        tool_choice: AnswerChoice = ToolChoice.auto,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.system: str | None = None
        """Content of the system message; None for no system message."""
        self.tool_choice: AnswerChoice = tool_choice
        """Tool choice from the next answer on; it can be changed."""
        self.tools = tools
        self._start = start
        self._functions = functions
        self._turns = list(turns)
        self._outcomes: dict[int, CallOutcome] = {}
        self._calls: list[ToolCall] = []
        self._results: dict[int, _Result] = {}

    @property
    def messages(self) -> list[Message]:
        """Messages for the model: the system message, if any, and the turns, including the results so far."""
        system: list[Message] = [SystemMessage(content=self.system)] if self.system else []
        return [*system, *self.turns]

    @property
    def turns(self) -> list[Message]:
        """Messages without the system message."""
        return [*self._turns, *(self._results[index].message for index in sorted(self._results))]

    @property
    def outcomes(self) -> dict[int, CallOutcome]:
        """Outcomes of the calls, by the index of their results in ``turns``."""
        outcomes = (self._results[index].outcome for index in sorted(self._results))
        return {**self._outcomes, **dict(enumerate(outcomes, len(self._turns)))}

    @property
    def open_calls(self) -> dict[int, ToolCall]:
        """Calls of the last answer that have no result yet, by their index in it."""
        return {index: call for index, call in enumerate(self._calls) if index not in self._results}

    def say(self, text: str) -> None:
        """Add a user message, which replaces one without an answer; decline calls that are still open."""
        for index in self.open_calls:
            self.decline(index)
        self._fold()
        while self._turns and isinstance(self._turns[-1], UserMessage):
            self._turns.pop()
        self._turns.append(UserMessage(content=text))

    def rewind(self, turn: int) -> None:
        """Remove a turn, by its index in ``turns``, and all later ones."""
        self._fold()
        del self._turns[turn:]
        self._outcomes = {index: outcome for index, outcome in self._outcomes.items() if index < turn}

    def tail(self, turn: int) -> Tail:
        """Return a turn, by its index in ``turns``, and all later ones."""
        return Tail(self.turns[turn:], {index: outcome for index, outcome in self.outcomes.items() if index >= turn})

    def restore(self, tail: Tail) -> None:
        """Append removed turns again."""
        self._fold()
        self._turns += tail.turns
        self._outcomes |= tail.outcomes

    def start_answer(self, **settings: Any) -> ChatRun:
        """Start the model's next answer. Every call of the last one must have its result."""
        self._fold()
        if self.tool_choice == "none":
            return self._start(self.messages, None, offers_tools=False, **settings)
        after_result = bool(self._turns) and isinstance(self._turns[-1], ToolResponseMessage)
        return self._start(self.messages, ToolChoice.auto if after_result else self.tool_choice, **settings)

    def add_answer(self, run: ChatRun) -> CompletionMessage:
        """Wait for the answer of a run and add it, without tool calls if it was cancelled.

        Raises:
            WorkbenchError: the error that the run failed with; nothing is added.
        """
        message = run.result().completion_message
        if run.state == "cancelled":
            message = message.model_copy(update={"tool_calls": []})
        self._fold()
        self._turns.append(message)
        self._calls = list(message.tool_calls)
        return message

    def can_run(self, call: ToolCall) -> bool:
        """Return whether the call's function can be run; other results are added with `set_result`."""
        return str(call.tool_name) in self._functions

    def result(self, call: ToolCall) -> ToolResponseMessage | Exception:
        """Run a call on this thread and return its result or exception; `set_result` accepts both."""
        try:
            return _result_message(call, _as_content(self._functions[str(call.tool_name)](call.arguments)))
        except Exception as error:  # noqa: BLE001 - any error goes to the model, which may correct its call
            return error

    def set_result(
        self, index: int, result: ToolResponseMessage | str | BaseException, outcome: CallOutcome | None = None
    ) -> None:
        """Add the result of an open call, by its index in the last answer.

        Args:
            outcome: how the call ended; None means ``failed`` for an exception and ``ran`` otherwise.
        """
        if outcome is None:
            outcome = "failed" if isinstance(result, BaseException) else "ran"
        message = result if isinstance(result, ToolResponseMessage) else _result_message(self._calls[index], result)
        self._results[index] = _Result(message, outcome)

    def decline(self, index: int) -> None:
        """Answer an open call with the message that it was not approved."""
        self.set_result(index, _DECLINED, "declined")

    def _fold(self) -> None:
        """Move the results so far into the turns."""
        turns, self._outcomes = self.turns, self.outcomes
        self._turns, self._calls, self._results = turns, [], {}

    ask = _renamed("ask", "start_answer")
    take = _renamed("take", "add_answer")
    settle = _renamed("settle", "set_result")


class Loop:
    """One conversation with functions, from a question to its answer.

    Args:
        start: function that starts the model's answer to messages.
        tools: functions that the model may call, by name.
    """

    def __init__(self, start: StartAnswer, tools: dict[str, FunctionTool], approve: Approve, max_rounds: int) -> None:
        if approve is not None and not isinstance(approve, bool) and not callable(approve):
            raise InvalidRequestError("approve", approve, "True, False, None, or a function of a ToolCall")
        if not is_count(max_rounds):
            raise InvalidRequestError("max_rounds", max_rounds, "a whole number, 0 or above")
        self._start = start
        self._tools = tools
        self._approve = approve
        self._max_rounds = max_rounds

    def run(self, messages: list[Message], tool_choice: ToolChoice | None) -> ConversationResult:
        """Repeat answers and approved calls to the end; an interrupt stops the running answer or call."""
        conversation = Conversation(self._start, self._tools, messages, tool_choice)
        runs = list[ChatRun]()
        while True:
            runs.append(conversation.start_answer())
            if not conversation.add_answer(runs[-1]).tool_calls:
                return ConversationResult(conversation.messages, runs, "answered")
            if self._approve is None:
                return ConversationResult(conversation.messages, runs, "unapproved")
            if len(runs) > self._max_rounds:
                return ConversationResult(conversation.messages, runs, "max_rounds")
            for index, call in conversation.open_calls.items():
                approved = self._approve(call) if callable(self._approve) else self._approve
                if approved:
                    conversation.set_result(index, conversation.result(call))
                else:
                    conversation.decline(index)


def function_tools(
    functions: Sequence[object], field: str = "tools", *, skip_definitions: bool = False
) -> dict[str, FunctionTool]:
    """Return functions by their names.

    Raises:
        InvalidRequestError: an item is not a function, is async, or has the name of another.
    """
    if not isinstance(functions, list | tuple):
        raise InvalidRequestError(field, functions, "a list of functions")
    tools: dict[str, FunctionTool] = {}
    for index, function in enumerate(functions):
        if skip_definitions and isinstance(function, ToolDefinition):
            continue
        tool = function_tool(function, f"{field}[{index}]")
        if tool.is_async:
            raise InvalidRequestError(f"{field}[{index}]", function, "a plain function, not an async one")
        if tool.name in tools:
            raise InvalidRequestError(
                f"{field}[{index}]", function, f"a function with a unique name, not another {tool.name!r}"
            )
        tools[tool.name] = tool
    return tools


def _result_message(call: ToolCall, content: InterleavedTextMedia | BaseException) -> ToolResponseMessage:
    """Return the result of a call as a message; for an error, its type and the beginning of its text."""
    if isinstance(content, BaseException):
        text = _replace_surrogates(f"{type(content).__name__}: {content}")
        content = text if len(text) <= MAX_ERROR_CHARACTERS else f"{text[: MAX_ERROR_CHARACTERS - 3]}..."
    return ToolResponseMessage(call_id=call.call_id, tool_name=call.tool_name, content=content)


def _as_content(result: object) -> InterleavedTextMedia:
    """Return text and images unchanged, anything else as JSON, and values that JSON lacks as ``str`` prints them."""
    if isinstance(result, str):
        return _replace_surrogates(result)
    if isinstance(result, ImageMedia):
        return result
    if isinstance(result, list) and any(isinstance(part, ImageMedia) for part in result):
        return [part if isinstance(part, str | ImageMedia) else str(part) for part in result]
    try:
        return to_json(result, fallback=str, inf_nan_mode="constants").decode()
    except ValueError:  # circular, or bytes that are not UTF-8
        return _replace_surrogates(repr(result))


def _replace_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
