"""The state of a chat in the terminal: the turns so far, the sampling in force, and how a turn is added."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequestError

if TYPE_CHECKING:
    from workbench.protocol import Message, SamplingParams
    from workbench.session import ChatRun, Workbench


class Conversation:
    """Turns of one chat. A turn that fails leaves no trace; one that was stopped keeps what was said."""

    def __init__(self, bench: Workbench, model: str | None, params: SamplingParams, system: str | None) -> None:
        self.params = params
        self.system = system
        self._bench = bench
        self._model = model
        self._turns: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """What the model is shown: the system message, if any, and the turns."""
        from workbench.protocol import SystemMessage

        return [*([SystemMessage(content=self.system)] if self.system else []), *self._turns]

    def reset(self) -> None:
        """Forget the turns; the system message and the parameters stay."""
        self._turns.clear()

    def say(self, text: str, write: Callable[[str], None]) -> bool:
        """Add the user's turn and the answer, written as it comes; returns False where Ctrl+C stopped the answer."""
        from workbench.protocol import UserMessage

        turn = UserMessage(content=text)
        run = self._bench.chat_completion([*self.messages, turn], model=self._model, sampling_params=self.params)
        complete = _stream(run, write)
        self._turns += [turn, run.result().completion_message]
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
        """Write the messages as JSON, each as the protocol has it."""
        document = [message.model_dump(mode="json") for message in self.messages]
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _stream(run: ChatRun, write: Callable[[str], None]) -> bool:
    try:
        for chunk in run:
            delta = chunk.event.delta
            # A tool call has no text of its own; without tools in the request there is none.
            write(delta if isinstance(delta, str) else "")
    except KeyboardInterrupt:
        run.cancel()
        return False
    return True


def _parsed(value: str) -> object:
    try:
        parsed: object = json.loads(value)
    except ValueError:
        return value
    return parsed
