"""Streams that close their generator on the event loop that reads it, whichever thread drops them.

Python finalizes a dropped async generator on whichever thread the garbage collector runs, together with the generators
that it reads from. The collector's thread may then close one while the loop's thread is inside it
(``ValueError: async generator already executing``), or run its ``finally`` where there is no loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext, suppress
from typing import Generic, Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")


@runtime_checkable
class _Closable(Protocol):
    def aclose(self) -> Awaitable[object]: ...


_owners: set[asyncio.Task[None]] = set()
"""Tasks that own a generator; an event loop itself refers to its tasks only weakly."""


class Stream(AsyncIterator[Item]):
    """An async iterator over ``source`` that may be dropped at any point.

    From the first item on, a task on the reader's loop owns the source. The task closes it when the stream is dropped,
    by any thread, and when the loop cancels its tasks; `aclose` closes it at once.

    Raises:
        RuntimeError: an item is requested while another one is awaited.
    """

    def __init__(self, source: AsyncIterator[Item]) -> None:
        self._owner = _Owner(source)

    async def __anext__(self) -> Item:
        return await self._owner.read()

    async def aclose(self) -> None:
        """Close the source and end the stream."""
        await self._owner.close()

    def __del__(self) -> None:
        self._owner.abandon()


class _Owner(Generic[Item]):
    """The source and the task that closes it. It outlives the stream, so it has no reference to it."""

    def __init__(self, source: AsyncIterator[Item]) -> None:
        self._source = source
        self._in_use = asyncio.Lock()
        """Locked while the source is read or closed."""
        self._abandoned = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    async def read(self) -> Item:
        if self._in_use.locked():
            raise RuntimeError("the stream is being read or closed already")
        if self._ended:
            raise StopAsyncIteration
        if self._task is None:
            self._task = asyncio.create_task(self._own())
            _owners.add(self._task)
            self._task.add_done_callback(_owners.discard)
        try:
            async with self._in_use:
                return await anext(self._source)
        except BaseException:  # a generator that has raised is finished
            await self._end(self._task)
            raise

    async def close(self) -> None:
        async with self._in_use:
            self._ended = True
            await close(self._source)
        if self._task is not None:
            await self._end(self._task)

    def abandon(self) -> None:
        """End the task; thread-safe."""
        if self._task is None or self._task.done():
            return
        try:
            self._task.get_loop().call_soon_threadsafe(self._abandoned.set)
        except RuntimeError:  # the loop was closed without cancelling its tasks, so nothing can run there
            self._task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - as asyncio does
            _owners.discard(self._task)

    async def _own(self) -> None:
        with suppress(asyncio.CancelledError):  # the loop is shutting down
            await self._abandoned.wait()
        async with self._in_use:
            self._ended = True
            await close(self._source)

    async def _end(self, task: asyncio.Task[None]) -> None:
        """Wait for the end of the task, so that a stream that was read to its end leaves no task behind."""
        self._ended = True
        self._abandoned.set()
        if task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait({task})


def closed_after(source: AsyncIterator[object]) -> AbstractAsyncContextManager[object]:
    """Return a context manager that closes ``source``, if it can be closed, so that no work outlives its reader."""
    return aclosing(source) if isinstance(source, _Closable) else nullcontext()


async def close(source: AsyncIterator[object]) -> None:
    """Close an async iterator, if it can be closed."""
    async with closed_after(source):
        pass
