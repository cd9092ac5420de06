from __future__ import annotations

import asyncio
import threading

import pytest

from workbench.engine.requests import Event, Failed
from workbench.providers.transformers.delivery import Delivery, delivery_to_running_loop


def event(number: int) -> Failed:
    return Failed(ValueError(number))


async def test_events_of_several_threads_all_arrive_each_queues_in_order() -> None:
    delivery = delivery_to_running_loop()
    queues: list[asyncio.Queue[Event]] = [asyncio.Queue() for _ in range(4)]
    sent = [[event(number) for number in range(500)] for _ in queues]

    def send(arrived: asyncio.Queue[Event], events: list[Failed]) -> None:
        for one in events:
            delivery.put(arrived, one)

    threads = [threading.Thread(target=send, args=pair) for pair in zip(queues, sent, strict=True)]
    for thread in threads:
        thread.start()
    heard = [[await arrived.get() for _ in range(500)] for arrived in queues]
    assert heard == sent


async def test_events_that_come_together_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, woken = asyncio.get_running_loop(), 0
    wake = loop.call_soon_threadsafe

    def counting(*args: object) -> object:
        nonlocal woken
        woken += 1
        return wake(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
    delivery, arrived = delivery_to_running_loop(), asyncio.Queue[Event]()
    for round_ in (1, 2):
        for number in range(8):
            delivery.put(arrived, event(number))
        for _ in range(8):
            await arrived.get()
        assert woken == round_


async def test_one_loop_has_one_delivery() -> None:
    assert delivery_to_running_loop() is delivery_to_running_loop()


def test_a_closed_loop_is_an_error_for_every_sender_not_for_the_first_alone() -> None:
    loop = asyncio.new_event_loop()
    delivery, arrived = Delivery(loop), asyncio.Queue[Event]()
    delivery.put(arrived, event(0))  # not delivered any more
    loop.close()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="closed"):
            delivery.put(arrived, event(1))
