"""A stream reads as its source does, and closes it once, on the loop that read it, however it is left."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.tasks import other_tasks_ended
from workbench.providers.streams import Stream, close, closed_after


class Source:
    """Numbers, with a note of who closed them."""

    def __init__(self, error: Exception | None = None) -> None:
        self.closed_by: list[tuple[str, asyncio.AbstractEventLoop]] = []
        self._error = error

    async def numbers(self, count: int = 3) -> AsyncIterator[int]:
        try:
            for number in range(count):
                await asyncio.sleep(0)
                yield number
            if self._error is not None:
                raise self._error
        finally:
            await asyncio.sleep(0)
            self.closed_by.append((threading.current_thread().name, asyncio.get_running_loop()))


def here() -> tuple[str, asyncio.AbstractEventLoop]:
    return threading.current_thread().name, asyncio.get_running_loop()


async def test_it_gives_what_its_source_gives_and_leaves_no_task() -> None:
    source = Source()
    assert [number async for number in Stream(source.numbers())] == [0, 1, 2]
    assert source.closed_by == [here()]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_of_the_source_is_raised_at_its_place_and_ends_the_stream() -> None:
    source, read = Source(ValueError("broken")), list[int]()
    stream = Stream(source.numbers())

    async def read_all() -> None:
        async for number in stream:
            read.append(number)

    with pytest.raises(ValueError, match="broken"):
        await read_all()
    assert read == [0, 1, 2]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("read", [0, 1, 3])
async def test_closing_closes_the_source_at_once_and_once(read: int) -> None:
    source = Source()
    stream = Stream(source.numbers())
    for _ in range(read):
        await anext(stream)
    await stream.aclose()
    await stream.aclose()
    assert source.closed_by == ([here()] if read else []), "a generator that did not begin has nothing to end"
    assert await anext(stream, None) is None
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_two_cannot_read_one_stream_at_once() -> None:
    stream = Stream(Source().numbers())
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already"):
        await anext(stream)
    assert await first == 0
    assert [number async for number in stream] == [1, 2]


async def test_a_reader_that_is_cancelled_ends_the_source_in_its_own_task() -> None:
    source = Source()
    stream = Stream(source.numbers())
    await anext(stream)
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert len(source.closed_by) == 1
    assert await anext(stream, None) is None
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_dropped_on_another_thread_it_is_closed_on_its_own_loop() -> None:
    source = Source()
    held: list[Any] = [Stream(source.numbers())]
    await anext(held[0])
    held.append(held)  # a circle, which only the collector can find
    del held
    await asyncio.to_thread(gc.collect)
    await other_tasks_ended()
    assert source.closed_by == [here()]


def test_a_loop_that_ends_closes_what_was_left_on_it() -> None:
    source, left = Source(), []

    async def leave() -> None:
        left.append(Stream(source.numbers()))
        await anext(left[0])

    asyncio.run(leave())
    assert len(source.closed_by) == 1


def test_a_loop_that_was_closed_without_a_word_is_no_fault_of_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    left = [Stream(Source().numbers())]
    assert loop.run_until_complete(anext(left[0])) == 0
    loop.close()
    left.clear()
    gc.collect()
    assert caplog.records == []


async def test_whatever_cannot_be_closed_is_left_alone() -> None:
    class Plain:
        def __aiter__(self) -> AsyncIterator[int]:
            return self

        async def __anext__(self) -> int:
            return 1

    plain = Plain()
    await close(plain)
    async with closed_after(plain):
        assert await anext(Stream(plain)) == 1
