"""Work in the background: one step at a time, and one that begins after each wake."""

from __future__ import annotations

import threading

from workbench.widgets.background import Background

PATIENCE_S = 60


def test_steps_never_overlap_and_one_begins_after_each_wake() -> None:
    running, most, begun = 0, 0, 0
    lock = threading.Lock()

    def step() -> None:
        nonlocal running, most, begun
        with lock:
            running, begun = running + 1, begun + 1
            most = max(most, running)
        threading.Event().wait(0.0005)
        with lock:
            running -= 1

    work = Background(step, "steps")
    missed = []

    def wake_often() -> None:
        for _ in range(40):
            before = begun
            work.wake()
            if not work.wait(PATIENCE_S) or begun <= before:
                missed.append(before)

    wakers = [threading.Thread(target=wake_often) for _ in range(4)]
    for waker in wakers:
        waker.start()
    for waker in wakers:
        waker.join(PATIENCE_S)
    assert (missed, most, running) == ([], 1, 0)


def test_a_wake_during_a_step_is_followed_by_another_one() -> None:
    begun, may_end = threading.Semaphore(0), threading.Semaphore(0)

    def step() -> None:
        begun.release()
        assert may_end.acquire(timeout=PATIENCE_S)

    work = Background(step, "steps")
    work.wake()
    assert begun.acquire(timeout=PATIENCE_S)
    for _ in range(3):
        work.wake()
    assert not work.wait(0.01)
    may_end.release()
    assert begun.acquire(timeout=PATIENCE_S)
    may_end.release()
    assert work.wait(PATIENCE_S)
    assert not begun.acquire(blocking=False)  # three wakes are one step


def test_a_step_that_wakes_itself_goes_on() -> None:
    left = 5

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            work.wake()

    work = Background(step, "steps")
    assert work.wait(PATIENCE_S)
    work.wake()
    assert work.wait(PATIENCE_S)
    assert left == 0
