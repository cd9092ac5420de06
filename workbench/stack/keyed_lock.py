"""Taking turns: what concerns one key happens one at a time, whichever thread or event loop it comes from."""

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
    """Locks by key, granted in the order of asking.

    An ``asyncio.Lock`` belongs to one event loop, and a ``threading.Lock`` held while waiting would stop the loop that
    has to release it.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[Future[None]]] = {}
        self._lock = threading.Lock()

    @asynccontextmanager
    async def of(self, key: Hashable) -> AsyncIterator[None]:
        """Wait until everyone who asked for the key before is done with it."""
        mine: Future[None] = Future()
        with self._lock:
            queue = self._waiting.setdefault(key, deque())
            queue.append(mine)
            if queue[0] is mine:
                mine.set_result(None)
        try:
            # Shielded, because a cancelled future could not be given its turn any more.
            await asyncio.shield(asyncio.wrap_future(mine))
            yield
        finally:
            self._leave(key, mine)

    def _leave(self, key: Hashable, mine: Future[None]) -> None:
        with self._lock:
            queue = self._waiting[key]
            had_turn = queue[0] is mine
            queue.remove(mine)
            if not queue:
                del self._waiting[key]
            elif had_turn:
                queue[0].set_result(None)


async def run_uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await something that must not stop half-way: a cancellation is passed on once it has ended."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen: the one who waited for it is gone
        raise
