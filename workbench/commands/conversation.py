"""The state of a chat in the terminal: its turns and sampling parameters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequestError, WorkbenchError
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
    """The turns of one chat. A turn that fails is removed; one that was stopped keeps the text so far."""

    def __init__(
        self,
        bench: Workbench,
        model: str | None,
        params: SamplingParams,
        system: str | None = None,
        tools: list[ToolDefinition] | None = None,
        tool_choice: ToolChoice | None = None,
        shields: list[str] | None = None,
    ) -> None:
        self.params = params
        self.system = system
        self.open_calls: list[ToolCall] = []
        """Calls of the last answer without a result."""
        self._bench = bench
        self._model = model
        self._tools = tools
        self._tool_choice = tool_choice
        self._shields = shields
        self._turns: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """Messages for the model: the system message, if any, and the turns."""
        from workbench.protocol import SystemMessage

        return [*([SystemMessage(content=self.system)] if self.system else []), *self._turns]

    def reset(self) -> None:
        """Remove the turns; the system message and the parameters stay."""
        self._turns.clear()
        self.open_calls.clear()

    def say(self, text: str, write: Callable[[str], None]) -> bool:
        """Add a user message and the answer, printed as it arrives; return False if Ctrl+C stopped it."""
        from workbench.protocol import UserMessage

        return self._answer(UserMessage(content=text), write)

    def give_result(self, text: str, write: Callable[[str], None]) -> bool:
        """Add the result of the first open call; after the last one the model continues, as in `say`."""
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
            # After a result the choice is auto, because a model that must call again could never answer.
            tool_choice=ToolChoice.auto if turn.role == "ipython" else self._tool_choice,
            shields=self._shields,
        )
        complete = _stream(run, write)
        message: CompletionMessage = run.result().completion_message
        self._turns += [turn, message]
        self.open_calls = list(message.tool_calls)
        return complete

    def set_params(self, assignments: str) -> None:
        """Change sampling parameters, such as ``temperature=0.8 strategy=top_p``; values are JSON or plain words."""
        fields = self.params.model_dump(mode="json")
        for assignment in assignments.split():
            name, equals, value = assignment.partition("=")
            if not equals:
                raise InvalidRequestError("/params", assignment, "given as NAME=VALUE, for example temperature=0.8")
            fields[name] = _parsed(value)
        self.params = type(self.params)(**fields)

    def save(self, path: Path) -> None:
        """Write the messages as JSON in the protocol's form; raise `InvalidRequestError` if that fails."""
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
    except WorkbenchError:
        if run.text:
            write("\n")  # the message begins on a line of its own
        raise
    return True


def _shown(delta: str | ToolCallDelta) -> str:
    """Return the text to print for a delta: text unchanged, and each call on a line of its own once it has ended."""
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
