"""What concerns one key happens one at a time, in the order of asking, on any thread and event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from workbench.stack.keyed_lock import KeyedLock, run_uninterrupted


async def test_the_order_is_that_of_asking_and_other_keys_wait_for_nobody() -> None:
    turns, order = KeyedLock(), list[str]()

    async def visit(key: str, name: str) -> None:
        async with turns.of(key):
            order.append(f"{name} in")
            await asyncio.sleep(0.01)
            order.append(f"{name} out")

    async with turns.of("other"):
        await asyncio.gather(*(visit("key", name) for name in "abc"))
    assert order == ["a in", "a out", "b in", "b out", "c in", "c out"]


async def test_who_is_cancelled_while_waiting_or_inside_keeps_nobody_waiting() -> None:
    turns = KeyedLock()
    inside = asyncio.Event()

    async def visit() -> None:
        async with turns.of("key"):
            inside.set()
            await asyncio.sleep(3600)

    async with turns.of("key"):
        waiting = [asyncio.ensure_future(visit()) for _ in range(500)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    holder = asyncio.ensure_future(visit())
    await inside.wait()
    follower = asyncio.ensure_future(visit())
    await asyncio.sleep(0)
    inside.clear()
    holder.cancel()
    await inside.wait()
    follower.cancel()
    await asyncio.gather(holder, follower, return_exceptions=True)
    assert turns._waiting == {}


def test_threads_with_their_own_loops_never_meet_inside() -> None:
    turns, inside, met = KeyedLock(), list[int](), list[int]()

    async def visit(worker: int) -> None:
        for _ in range(200):
            async with turns.of("key"):
                inside.append(worker)
                await asyncio.sleep(0)
                met.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=lambda worker=n: asyncio.run(visit(worker))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == [1] * 800


async def test_what_must_not_stop_half_way_ends_before_its_cancellation_is_told() -> None:
    steps: list[str] = []

    async def work() -> None:
        steps.append("begun")
        await asyncio.sleep(0.01)
        steps.append("done")
        raise ValueError("seen by nobody")

    task = asyncio.ensure_future(run_uninterrupted(work()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["begun", "done"]
