"""Work in the background: one piece at a time, and one that begins after each start."""

from __future__ import annotations

import threading

from workbench.widgets.background import Newest

PATIENCE_S = 60


def test_steps_never_overlap_and_one_begins_after_each_start() -> None:
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

    work = Newest("steps")
    missed = []

    def start_often() -> None:
        for _ in range(40):
            before = begun
            work.start(step)
            if not work.wait(PATIENCE_S) or begun <= before:
                missed.append(before)

    starters = [threading.Thread(target=start_often) for _ in range(4)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join(PATIENCE_S)
    assert (missed, most, running) == ([], 1, 0)


def test_a_start_during_a_step_is_followed_by_another_one() -> None:
    begun, may_end = threading.Semaphore(0), threading.Semaphore(0)

    def step() -> None:
        begun.release()
        assert may_end.acquire(timeout=PATIENCE_S)

    work = Newest("steps")
    work.start(step)
    assert begun.acquire(timeout=PATIENCE_S)
    for _ in range(3):
        work.start(step)
    assert not work.wait(0.01)
    may_end.release()
    assert begun.acquire(timeout=PATIENCE_S)
    may_end.release()
    assert work.wait(PATIENCE_S)
    assert not begun.acquire(blocking=False)  # three starts are one step


def test_a_step_that_starts_itself_goes_on() -> None:
    left = 5

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            work.start(step)

    work = Newest("steps")
    assert work.wait(PATIENCE_S)
    work.start(step)
    assert work.wait(PATIENCE_S)
    assert left == 0
