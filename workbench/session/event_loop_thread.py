"""An event loop in a thread of its own, so that a notebook's cell can return while a run continues.

A notebook has an event loop, but it is blocked while a cell computes; a plain script has none.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from workbench.errors import ClosedError
from workbench.interrupts import result_of

T = TypeVar("T")


class BackgroundLoop:
    """An event loop that runs coroutines for callers on any thread until it is closed."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Schedule a coroutine; cancelling the future cancels it.

        Raises:
            ClosedError: the loop was closed.
        """
        with self._lock:  # scheduled before the stop, so that the stop cancels it
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        raise ClosedError("the workbench is closed; open a new one")

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end and return its result. Never call it on the loop's own thread."""
        future = self.start(coroutine)
        try:
            return result_of(future)
        except KeyboardInterrupt:
            future.cancel()
            raise
        except CancelledError:
            raise ClosedError("the workbench was closed during the request; open a new one") from None

    def close(self, timeout_s: float = 5.0) -> None:
        """Cancel all tasks and end the thread. Closing twice is harmless."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            while tasks := asyncio.all_tasks(
                self._loop
            ):  # a task that ends may start another, for example to close a connection
                for task in tasks:
                    task.cancel()
                self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
