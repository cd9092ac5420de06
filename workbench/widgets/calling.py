"""Approved calls, each on a thread of its own, so that the page stays responsive and Stop can be pressed.

A function cannot be ended from outside: the result of an abandoned call is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from workbench.protocol import ToolCall, ToolResponseMessage
from workbench.widgets.base import LOCK
from workbench.widgets.contract import ConversationLike


class Calling:
    """The running calls of a conversation's last answer; to be used behind the lock.

    Args:
        done: called behind the lock after a result was added.
    """

    def __init__(self, conversation: ConversationLike, done: Callable[[], None]) -> None:
        self.running: set[int] = set()
        """Indexes of the calls that are running."""
        self._conversation = conversation
        self._done = done
        self._epoch = 0

    def start(self, index: int, call: ToolCall) -> None:
        """Run the function of a call on a thread of its own."""
        self.running.add(index)
        work = threading.Thread(
            target=self._run, args=(index, call, self._epoch), name=f"workbench-{call.tool_name}", daemon=True
        )
        work.start()

    def abandon(self) -> None:
        """Drop the results of all running calls."""
        self._epoch += 1
        self.running.clear()

    def _run(self, index: int, call: ToolCall, epoch: int) -> None:
        result: ToolResponseMessage | BaseException
        try:
            result = self._conversation.result(call)
        except BaseException as error:  # noqa: BLE001 - sys.exit in a function must not leave the chat waiting for ever
            result = error
        with LOCK:
            if self._epoch == epoch:
                self.running.discard(index)
                self._conversation.set_result(index, result)
                self._done()
