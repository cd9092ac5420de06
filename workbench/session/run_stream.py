"""Iteration over the protocol's chunks of a run, from any thread or event loop, and awaiting its response."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

from workbench.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseStreamChunk,
    CompletionResponse,
    CompletionResponseStreamChunk,
)
from workbench.providers.chunks import ChunkMaker
from workbench.providers.requests import Request
from workbench.providers.streams import Stream
from workbench.records import Emission

Chunk = TypeVar("Chunk", bound=CompletionResponseStreamChunk | ChatCompletionResponseStreamChunk)
Response = TypeVar("Response", bound=CompletionResponse | ChatCompletionResponse)


class RunStream(Generic[Chunk, Response]):
    """Stream interface of a run: iterate over its chunks, or await its response."""

    request: Request
    error: BaseException | None
    _changed: threading.Condition
    _emissions: list[Emission]
    """Emissions so far; only appended to."""

    @property
    def done(self) -> bool:
        raise NotImplementedError

    def cancel(self) -> None:
        raise NotImplementedError

    def _response(self) -> Response:
        raise NotImplementedError

    def subscribe(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Chunk]:
        """Iterate over the protocol's chunks from the first, waiting for new ones; raise the run's error at the end.

        Interrupting the wait cancels the run; leaving the loop does not.
        """
        maker = ChunkMaker.of(self.request)
        position = 0
        while True:
            try:
                fresh = self._wait_beyond(position)
            except KeyboardInterrupt:
                self.cancel()
                raise
            if not fresh:
                break
            for emission in fresh:
                yield from maker.chunks(emission)
            position += len(fresh)
        if self.error is not None:
            raise self.error

    def _wait_beyond(self, position: int) -> list[Emission]:
        """Return the emissions from ``position`` on, at least one unless the run has ended."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._emissions) > position or self.done)
            return self._emissions[position:]

    def __aiter__(self) -> Stream[Chunk]:
        """Iterate over the chunks with ``async for``, in any event loop."""
        return Stream(self._read(ChunkMaker.of(self.request).chunks))

    async def _read(self, chunks: Callable[[Emission], Iterable[Chunk]]) -> AsyncIterator[Chunk]:
        """Yield what ``chunks`` makes of each emission."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake(_: object) -> None:
            loop.call_soon_threadsafe(changed.set)

        unsubscribe = self.subscribe(wake)
        position = 0
        try:
            while True:
                changed.clear()
                ended = self.done
                fresh = self._emissions[position:]
                for emission in fresh:
                    for chunk in chunks(emission):
                        yield chunk
                position += len(fresh)
                if ended and position == len(self._emissions):
                    break
                if not ended:
                    await changed.wait()
        finally:
            unsubscribe()
        if self.error is not None:
            raise self.error

    def __await__(self) -> Generator[Any, None, Response]:
        return self._finished().__await__()

    async def _finished(self) -> Response:
        try:
            async for _ in Stream(self._read(lambda _: ())):
                pass
        except asyncio.CancelledError:
            self.cancel()  # the awaiting task was cancelled
            raise
        return self._response()


class Listeners:
    """Callbacks of a run; one that raises is removed."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[Any], None]] = []
        self._lock = threading.Lock()

    def add(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        """Add a callback and return a function that removes it."""
        with self._lock:
            self._callbacks.append(callback)
        return partial(self._remove, callback)

    def call(self, run: Any, *callbacks: Callable[[Any], None]) -> None:
        """Call these callbacks with the run, or all if none is given."""
        for callback in callbacks or tuple(self._callbacks):
            try:
                callback(run)
            except Exception:  # noqa: BLE001 - a broken listener must end neither the run nor its caller
                self._remove(callback)

    def _remove(self, callback: Callable[[Any], None]) -> None:
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)
