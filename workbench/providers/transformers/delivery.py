"""Engine events on their way to an event loop, which is woken once for all that come together.

Requests that run together end their step together. To wake the loop for each of them would cost more than what it
then does, and would take the processor away from the next step.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from workbench.engine.requests import Event


class Delivery:
    """Brings events from any thread to queues of one event loop, in the order in which they were put."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._under_way: deque[tuple[asyncio.Queue[Event], Event]] = deque()
        self._is_due = False

    def put(self, arrived: asyncio.Queue[Event], event: Event) -> None:
        """Hand an event over; from any thread.

        Raises:
            RuntimeError: the loop is closed; nobody will read the event.
        """
        loop = self._loop()
        if loop is None or loop.is_closed():
            raise RuntimeError("the event loop that waited for this run is closed")
        self._under_way.append((arrived, event))
        if not self._is_due:  # two threads may both find it so: to be woken twice is harmless
            self._is_due = True
            loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_due = False  # before the first is taken: what is put from here on wakes the loop again
        while self._under_way:
            arrived, event = self._under_way.popleft()
            arrived.put_nowait(event)


_deliveries: weakref.WeakKeyDictionary[AbstractEventLoop, Delivery] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def delivery_to_running_loop() -> Delivery:
    """The one delivery to the event loop that runs on this thread."""
    loop = asyncio.get_running_loop()
    with _lock:
        found = _deliveries.get(loop)
        if found is None:
            found = _deliveries[loop] = Delivery(loop)
        return found
