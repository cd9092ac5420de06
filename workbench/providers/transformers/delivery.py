"""Delivery of engine events to an event loop, with one wake-up for all events of a step.

Requests that run together end their step together. A wake-up for each of them would cost more than the work that
follows it, and would take the processor away from the next step.
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
    """Delivers events from any thread to queues of one event loop, in the order of `put`."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._pending: deque[tuple[asyncio.Queue[Event], Event]] = deque()
        self._is_scheduled = False

    def put(self, queue: asyncio.Queue[Event], event: Event) -> None:
        """Deliver an event to a queue; thread-safe.

        Raises:
            RuntimeError: the loop is closed.
        """
        loop = self._loop()
        if loop is None or loop.is_closed():
            raise RuntimeError("the event loop that waited for this run is closed")
        self._pending.append((queue, event))
        if not self._is_scheduled:  # in a race, two threads both schedule it, which is harmless
            self._is_scheduled = True
            loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_scheduled = False  # before the first event: a later `put` schedules it again
        while self._pending:
            queue, event = self._pending.popleft()
            queue.put_nowait(event)


_deliveries: weakref.WeakKeyDictionary[AbstractEventLoop, Delivery] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def delivery_to_running_loop() -> Delivery:
    """Return the one delivery of the event loop that runs on this thread."""
    loop = asyncio.get_running_loop()
    with _lock:
        found = _deliveries.get(loop)
        if found is None:
            found = _deliveries[loop] = Delivery(loop)
        return found
