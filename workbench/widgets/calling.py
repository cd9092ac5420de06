"""Approved calls, each on a thread of its own, so that the page stays alive and Stop can be pressed.

A function cannot be ended from outside: what one gives after it was stopped is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from workbench.protocol import ToolCall, ToolResponseMessage
from workbench.widgets.base import LOCK
from workbench.widgets.contract import ConversationLike


class Calling:
    """Runs calls of a conversation's last answer; to be used behind the lock.

    Args:
        done: called behind the lock after a result was added.
    """

    def __init__(self, conversation: ConversationLike, done: Callable[[], None]) -> None:
        self.places: set[int] = set()
        """Of the calls that are being run."""
        self._conversation = conversation
        self._done = done
        self._epoch = 0

    def start(self, place: int, call: ToolCall) -> None:
        self.places.add(place)
        work = threading.Thread(
            target=self._run, args=(place, call, self._epoch), name=f"workbench-{call.tool_name}", daemon=True
        )
        work.start()

    def give_up(self) -> None:
        """Wait for none of them any longer."""
        self._epoch += 1
        self.places.clear()

    def _run(self, place: int, call: ToolCall, epoch: int) -> None:
        result: ToolResponseMessage | BaseException
        try:
            result = self._conversation.result(call)
        except BaseException as error:  # noqa: BLE001 - sys.exit in a function must not leave the chat waiting for ever
            result = error
        with LOCK:
            if self._epoch == epoch:
                self.places.discard(place)
                self._conversation.settle(place, result)
                self._done()
