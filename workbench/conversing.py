"""The agent loop: a model asks for functions, approved calls are run, and their results go back to the model.

Everything here runs on the caller's own thread, where an interrupt reaches the function that runs. The engine and the
protocol never run a tool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

from pydantic_core import to_json

from workbench.errors import InvalidRequestError
from workbench.prompts.tools.from_functions import FunctionTool, function_tool
from workbench.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseStreamChunk,
    CompletionMessage,
    ImageMedia,
    InterleavedTextMedia,
    Message,
    ToolCall,
    ToolChoice,
    ToolResponseMessage,
)
from workbench.protocol.sampling import is_count
from workbench.run import Run

MAX_ERROR_CHARACTERS = 1_000
"""Of what a function raised that the model is told."""

Approve: TypeAlias = Callable[[ToolCall], bool] | bool | None
"""Asked before every call; True runs them all, False none, None hands the first calls back to the caller."""

Ask: TypeAlias = Callable[[list[Message], ToolChoice | None], Run[Any, ChatCompletionResponse]]


@dataclass(frozen=True, slots=True)
class Conversed:
    """What came of `Workbench.converse`."""

    messages: list[Message]
    """The conversation: the messages given, the model's answers, and the results of the calls that were run."""
    runs: list[Run[ChatCompletionResponseStreamChunk, ChatCompletionResponse]] = field(repr=False)
    """One for each answer of the model."""
    ended: Literal["answered", "unapproved", "max_rounds"]
    """Whether the model answered without a call, or asked for calls that nobody was there to approve, or once more
    after the last round."""

    @property
    def message(self) -> CompletionMessage:
        """The model's last answer; its ``tool_calls`` were not run."""
        return cast("CompletionMessage", self.messages[-1])

    @property
    def text(self) -> str:
        """Of the model's last answer."""
        return self.runs[-1].text


class Loop:
    """One conversation with functions.

    Args:
        ask: starts the model's answer to messages.
        tools: by name, the functions that may be asked for.
    """

    def __init__(self, ask: Ask, tools: dict[str, FunctionTool], approve: Approve, max_rounds: int) -> None:
        if approve is not None and not isinstance(approve, bool) and not callable(approve):
            raise InvalidRequestError("approve", approve, "True, False, None, or a function of a ToolCall")
        if not is_count(max_rounds):
            raise InvalidRequestError("max_rounds", max_rounds, "a whole number, 0 or above")
        self._ask = ask
        self._tools = tools
        self._approve = approve
        self._max_rounds = max_rounds

    def run(self, messages: list[Message], tool_choice: ToolChoice | None) -> Conversed:
        """Answer, run what is approved, tell the results, and so on; interrupting it stops what is under way."""
        messages, runs = list(messages), list[Run[Any, ChatCompletionResponse]]()
        while True:
            # A call that is required is required once: were it so after every result, no answer could ever come.
            run = self._ask(messages, ToolChoice.auto if runs else tool_choice)
            runs.append(run)
            message = run.result().completion_message
            messages.append(message)
            if not message.tool_calls:
                return Conversed(messages, runs, "answered")
            if self._approve is None:
                return Conversed(messages, runs, "unapproved")
            if len(runs) > self._max_rounds:
                return Conversed(messages, runs, "max_rounds")
            messages += [self._result(call) for call in message.tool_calls]

    def _result(self, call: ToolCall) -> ToolResponseMessage:
        approved = self._approve(call) if callable(self._approve) else self._approve
        content = self._content(call) if approved else "The user did not approve this call."
        return ToolResponseMessage(call_id=call.call_id, tool_name=call.tool_name, content=content)

    def _content(self, call: ToolCall) -> InterleavedTextMedia:
        try:
            return _as_content(self._tools[str(call.tool_name)](call.arguments))
        except Exception as error:  # noqa: BLE001 - whatever a tool raises, the model is told and may do better
            text = _whole_characters(f"{type(error).__name__}: {error}")
            return text if len(text) <= MAX_ERROR_CHARACTERS else f"{text[: MAX_ERROR_CHARACTERS - 3]}..."


def function_tools(functions: Sequence[object], field: str = "tools") -> dict[str, FunctionTool]:
    """Functions by their names; refuses by name what is none, or would need an event loop to run."""
    if not isinstance(functions, list | tuple):
        raise InvalidRequestError(field, functions, "a list of functions")
    tools: dict[str, FunctionTool] = {}
    for index, function in enumerate(functions):
        tool = function_tool(function, f"{field}[{index}]")
        if tool.is_async:
            raise InvalidRequestError(f"{field}[{index}]", function, "a plain function: converse waits for its result")
        if tool.name in tools:
            raise InvalidRequestError(f"{field}[{index}]", function, f"of a name that no other has, not {tool.name!r}")
        tools[tool.name] = tool
    return tools


def _as_content(result: object) -> InterleavedTextMedia:
    """Text and images as they are, anything else as JSON, and what JSON has not as it is printed."""
    if isinstance(result, str):
        return _whole_characters(result)
    if isinstance(result, ImageMedia):
        return result
    if isinstance(result, list) and any(isinstance(part, ImageMedia) for part in result):
        return [part if isinstance(part, str | ImageMedia) else str(part) for part in result]
    try:
        return to_json(result, fallback=str, inf_nan_mode="constants").decode()
    except ValueError:  # circular, or bytes that are no text
        return _whole_characters(repr(result))


def _whole_characters(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
