"""The state of a chat in the terminal: the turns so far, the sampling in force, and how a turn is added."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequestError
from workbench.paths import reason

if TYPE_CHECKING:
    from workbench.protocol import (
        CompletionMessage,
        Message,
        SamplingParams,
        ToolCall,
        ToolCallDelta,
        ToolChoice,
        ToolDefinition,
    )
    from workbench.session.workbench import ChatRun, Workbench


class Conversation:
    """Turns of one chat. A turn that fails leaves no trace; one that was stopped keeps what was said."""

    def __init__(
        self,
        bench: Workbench,
        model: str | None,
        params: SamplingParams,
        system: str | None = None,
        tools: list[ToolDefinition] | None = None,
        tool_choice: ToolChoice | None = None,
    ) -> None:
        self.params = params
        self.system = system
        self.open_calls: list[ToolCall] = []
        """Calls of the last answer that have no result yet."""
        self._bench = bench
        self._model = model
        self._tools = tools
        self._tool_choice = tool_choice
        self._turns: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """What the model is shown: the system message, if any, and the turns."""
        from workbench.protocol import SystemMessage

        return [*([SystemMessage(content=self.system)] if self.system else []), *self._turns]

    def reset(self) -> None:
        """Forget the turns; the system message and the parameters stay."""
        self._turns.clear()
        self.open_calls.clear()

    def say(self, text: str, write: Callable[[str], None]) -> bool:
        """Add the user's turn and the answer, written as it comes; returns False where Ctrl+C stopped the answer."""
        from workbench.protocol import UserMessage

        return self._answer(UserMessage(content=text), write)

    def give_result(self, text: str, write: Callable[[str], None]) -> bool:
        """Answer the first open call; once none is open the model goes on, as after `say`."""
        from workbench.protocol import ToolResponseMessage

        if not self.open_calls:
            raise InvalidRequestError("/result", text, "used after the model has called a tool")
        call = self.open_calls[0]
        turn = ToolResponseMessage(call_id=call.call_id, tool_name=call.tool_name, content=text)
        if len(self.open_calls) == 1:
            return self._answer(turn, write)
        self._turns.append(turn)
        self.open_calls.pop(0)
        return True

    def _answer(self, turn: Message, write: Callable[[str], None]) -> bool:
        from workbench.protocol import ToolChoice

        run = self._bench.chat_completion(
            [*self.messages, turn],
            model=self._model,
            sampling_params=self.params,
            tools=self._tools,
            # After a result the model is free to answer in words, as it never could be otherwise.
            tool_choice=ToolChoice.auto if turn.role == "ipython" else self._tool_choice,
        )
        complete = _stream(run, write)
        message: CompletionMessage = run.result().completion_message
        self._turns += [turn, message]
        self.open_calls = list(message.tool_calls)
        return complete

    def set_params(self, assignments: str) -> None:
        """Change sampling parameters: ``temperature=0.8 strategy=top_p``; values are JSON or plain words."""
        fields = self.params.model_dump(mode="json")
        for assignment in assignments.split():
            name, equals, value = assignment.partition("=")
            if not equals:
                raise InvalidRequestError("/params", assignment, "given as NAME=VALUE, for example temperature=0.8")
            fields[name] = _parsed(value)
        self.params = type(self.params)(**fields)

    def save(self, path: Path) -> None:
        """Write the messages as JSON, each as the protocol has it; raises `InvalidRequestError` where that fails."""
        document = [message.model_dump(mode="json") for message in self.messages]
        try:
            path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            allowed = f"a writable file ({reason(error)})"
            raise InvalidRequestError("/save", str(path), allowed) from None


def _stream(run: ChatRun, write: Callable[[str], None]) -> bool:
    try:
        for chunk in run:
            write(_shown(chunk.event.delta))
    except KeyboardInterrupt:
        run.cancel()
        return False
    return True


def _shown(delta: str | ToolCallDelta) -> str:
    """Text as it is, a whole call on a line of its own; what is under way is shown once it is whole or broken."""
    if isinstance(delta, str):
        return delta
    if isinstance(delta.content, str):
        return delta.content if delta.parse_status == "failure" else ""
    call = delta.content
    return f"\n[call {call.tool_name} {json.dumps(call.arguments, ensure_ascii=False)}]"


def _parsed(value: str) -> object:
    try:
        parsed: object = json.loads(value)
    except ValueError:
        return value
    return parsed
