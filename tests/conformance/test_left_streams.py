"""A stream that its reader leaves ends on its own loop, whoever collects it: no error, no task and no thread stays."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conformance.conftest import Served
from tests.conformance.test_providers import PROMPT, completed, params
from tests.fakes.requests import completion_request
from tests.fakes.tasks import other_tasks_ended
from workbench.protocol import UserMessage

LEFT = 40
"""Streams of each provider type: 360 in all."""
LEFT_AT_A_LOOPS_END = 6


@contextmanager
def collected_elsewhere() -> Iterator[list[str]]:
    """Collect garbage all the time, on another thread; gives the faults that nobody could be told of."""
    faults: list[str] = []
    stopped = threading.Event()

    def collect() -> None:
        while not stopped.wait(0.0005):
            gc.collect()

    thread = threading.Thread(target=collect)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda it: faults.append(f"unraisable: {it.exc_value!r} in {it.object!r}"))
        patch.setattr(threading, "excepthook", lambda it: faults.append(f"in a thread: {it.exc_value!r}"))
        gc.collect()
        gc.freeze()  # what is here already need not be looked at again, so that a collection takes a moment
        thread.start()
        try:
            yield faults
        finally:
            stopped.set()
            thread.join()
            gc.unfreeze()


def noting(faults: list[str]) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    return lambda _, context: faults.append(f"in the loop: {context}")


async def leave(served: Served, draw: random.Random, index: int) -> None:
    """Read a stream for a while, and drop it where only the garbage collector finds it."""
    prompt = f"{index} {PROMPT}"  # no two alike: a trace plays each as it was recorded
    match draw.randrange(3):
        case 0:
            stream = served.router.completion(served.model, prompt, params(), stream=True)
        case 1:
            stream = served.router.chat_completion(served.model, [UserMessage(content=prompt)], params(), stream=True)
        case _:
            stream = served.router.stream(completion_request(served.model, prompt, params(), None, None))
    for _ in range(draw.randrange(6)):
        await anext(stream, None)
    circle: list[Any] = [stream]
    circle.append(circle)


def threads() -> set[threading.Thread]:
    """But for those of the pool behind `asyncio.to_thread`, which stay."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}


@pytest.mark.timeout(300)
async def test_streams_that_are_left_anywhere_leave_nothing_behind(served: Served) -> None:
    alone = (await completed(served)).completion_message
    before = threads()
    draw = random.Random(1)
    with collected_elsewhere() as faults:
        asyncio.get_running_loop().set_exception_handler(noting(faults))
        for index in range(0, LEFT, 4):
            bystander = asyncio.ensure_future(completed(served))
            for one in range(4):
                await leave(served, draw, index + one)
            assert (await bystander).completion_message == alone
        await other_tasks_ended()
    assert faults == []
    for thread in threads() - before:  # the server of the test answers each request on one that ends soon after
        await asyncio.to_thread(thread.join, 30)
    assert threads() <= before


@pytest.mark.timeout(300)
async def test_streams_that_are_left_when_their_loop_ends_leave_nothing_behind(served: Served) -> None:
    alone = (await completed(served)).completion_message

    async def use(faults: list[str], index: int) -> None:
        asyncio.get_running_loop().set_exception_handler(noting(faults))
        stream = served.router.completion(served.model, f"{PROMPT} {index}", params(), stream=True)
        await anext(stream)
        await leave(served, random.Random(index), index)

    with collected_elsewhere() as faults:
        for index in range(LEFT_AT_A_LOOPS_END):
            await asyncio.to_thread(asyncio.run, use(faults, index))
    assert faults == []
    assert (await completed(served)).completion_message == alone
