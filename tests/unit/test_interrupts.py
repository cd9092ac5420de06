"""Waits end with what they wait for, or with an interrupt, also where they return to the interpreter meanwhile."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from workbench import interrupts
from workbench.interrupts import InterruptibleCondition, result_of


@pytest.fixture(params=[None, 0.001], ids=["whole", "in slices"], autouse=True)
def slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_SLICE_S", request.param)


def soon(function: object, *args: object) -> None:
    threading.Timer(0.02, function, args).start()  # type: ignore[arg-type]


def test_the_result_of_a_future_is_waited_for() -> None:
    future: Future[int] = Future()
    soon(future.set_result, 7)
    assert result_of(future) == 7


def test_the_error_of_a_future_is_raised_also_one_of_time() -> None:
    future: Future[int] = Future()
    soon(future.set_exception, TimeoutError("its own"))
    with pytest.raises(TimeoutError, match="its own"):
        result_of(future)


def test_a_condition_is_waited_for_until_it_holds_and_no_longer_than_asked() -> None:
    changed, happened = InterruptibleCondition(), threading.Event()

    def happen() -> None:
        with changed:
            happened.set()
            changed.notify_all()

    with changed:
        assert not changed.wait_for(happened.is_set, 0.01)
        soon(happen)
        assert changed.wait_for(happened.is_set)


def wait_for_a_future() -> None:
    result_of(Future[int]())


def wait_for_a_condition() -> None:
    changed = InterruptibleCondition()
    with changed:
        changed.wait_for(lambda: False, 60)


@pytest.mark.parametrize("wait", [wait_for_a_future, wait_for_a_condition])
def test_an_interrupt_ends_a_wait_in_slices_although_the_system_does_not(
    wait: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal that another thread gets ends no wait of this one, as on Windows."""
    monkeypatch.setattr(interrupts, "_SLICE_S", 0.001)
    soon(signal.raise_signal, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        wait()
