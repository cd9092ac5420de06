"""Locks by key that work across threads and event loops, and work that a cancellation must not interrupt."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Hashable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class KeyedLock:
    """Locks by key, acquired in the order of the calls.

    An ``asyncio.Lock`` is bound to one event loop, and a coroutine that waits for a ``threading.Lock`` blocks the loop
    that may have to release it.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[Future[None]]] = {}
        self._lock = threading.Lock()

    @asynccontextmanager
    async def of(self, key: Hashable) -> AsyncIterator[None]:
        """Hold the lock of a key in the context; earlier callers come first."""
        mine: Future[None] = Future()
        with self._lock:
            queue = self._waiting.setdefault(key, deque())
            queue.append(mine)
            if queue[0] is mine:
                mine.set_result(None)
        try:
            # Shielded, because a result can no longer be set on a cancelled future.
            await asyncio.shield(asyncio.wrap_future(mine))
            yield
        finally:
            self._leave(key, mine)

    def _leave(self, key: Hashable, mine: Future[None]) -> None:
        with self._lock:
            queue = self._waiting[key]
            was_first = queue[0] is mine
            queue.remove(mine)
            if not queue:
                del self._waiting[key]
            elif was_first:
                queue[0].set_result(None)


async def run_uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await work to its end; a cancellation is raised only afterwards."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it: its caller was cancelled
        raise
