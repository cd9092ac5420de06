"""A run as the protocol's chunks: looped over from any thread or event loop, and awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from workbench.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseStreamChunk,
    CompletionResponse,
    CompletionResponseStreamChunk,
    StopReason,
    ToolCallDelta,
)
from workbench.providers.streams import Stream

StreamChunk: TypeAlias = CompletionResponseStreamChunk | ChatCompletionResponseStreamChunk
Chunk = TypeVar("Chunk", bound=StreamChunk)
Response = TypeVar("Response", bound=CompletionResponse | ChatCompletionResponse)


class RunStream(Generic[Chunk, Response]):
    """Stream interface of a run: iterate over its chunks, or await its response."""

    error: BaseException | None
    _changed: threading.Condition
    _chunks: list[Chunk]
    """So far; only ever appended to."""

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
        position = 0
        while True:
            try:
                fresh = self._wait_beyond(position)
            except KeyboardInterrupt:
                self.cancel()
                raise
            if not fresh:
                break
            yield from fresh
            position += len(fresh)
        if self.error is not None:
            raise self.error

    def _wait_beyond(self, position: int) -> list[Chunk]:
        """The chunks from ``position`` on, at least one unless the run has ended."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._chunks) > position or self.done)
            return self._chunks[position:]

    def __aiter__(self) -> Stream[Chunk]:
        """Iterate over the chunks with ``async for``, in any event loop."""
        return Stream(self._read())

    async def _read(self) -> AsyncIterator[Chunk]:
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
                fresh = self._chunks[position:]
                for chunk in fresh:
                    yield chunk
                position += len(fresh)
                if ended and position == len(self._chunks):
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
            async for _ in self:
                pass
        except asyncio.CancelledError:
            self.cancel()  # whoever awaited it was cancelled
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
            except Exception:  # noqa: BLE001 - a broken listener must end neither the run nor whoever subscribes it
                self._remove(callback)

    def _remove(self, callback: Callable[[Any], None]) -> None:
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)


def delta_of(chunk: StreamChunk) -> str | ToolCallDelta:
    """Return the text or the piece of a tool call that a chunk adds."""
    return chunk.delta if isinstance(chunk, CompletionResponseStreamChunk) else chunk.event.delta


def stop_reason_of(chunk: StreamChunk) -> StopReason | None:
    """Return why generation stopped; None unless the chunk is the last."""
    return chunk.stop_reason if isinstance(chunk, CompletionResponseStreamChunk) else chunk.event.stop_reason
