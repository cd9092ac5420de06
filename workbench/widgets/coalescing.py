"""The ticker of one active run, which limits the rate of messages to the page.

Jupyter silently drops messages above a certain rate, so a widget sends updates at fixed intervals instead of one per
token. The ticker lives exactly as long as its run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

MESSAGES_PER_S = 20
_INTERVAL_S = 1 / MESSAGES_PER_S
# The run is checked this often without a notification, because its thread may have died.
_PATIENCE_S = 1.0


class Watched(Protocol):
    """A run, or a group of runs."""

    @property
    def id(self) -> str: ...
    @property
    def done(self) -> bool: ...

    def subscribe(self, callback: Callable[[Any], None]) -> Callable[[], None]: ...


def has_ended(thread: threading.Thread | None, timeout_s: float | None) -> bool:
    """Wait until a thread has ended, if there is one; return False on a timeout."""
    if thread is not None:
        thread.join(timeout_s)
    return thread is None or not thread.is_alive()


def pump(
    run: Watched,
    publish: Callable[[], None],
    finish: Callable[[], None],
    *,
    interval_s: float = _INTERVAL_S,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
) -> None:
    """Call ``publish`` at most once in ``interval_s`` while the run goes on, then ``finish`` once; blocks.

    Args:
        run: reports changes through ``run.subscribe``.
        publish: sends an update.
        finish: sends the final state, at least ``interval_s`` after the last ``publish``.
        interval_s: shortest time between two calls.
        clock, pause, wait: functions for the time, for sleeping and for waiting; tests replace them.
    """
    news = threading.Event()
    unsubscribe = run.subscribe(lambda _run: news.set())
    last_s = clock() - interval_s
    try:
        while not _has_ended(run):
            if not wait(news, _PATIENCE_S):
                continue
            _keep_distance(last_s + interval_s - clock(), pause)
            news.clear()
            if not _has_ended(run):
                last_s = clock()
                publish()
    finally:
        unsubscribe()
        _keep_distance(last_s + interval_s - clock(), pause)
        finish()


def start_ticker(
    run: Watched, publish: Callable[[], None], finish: Callable[[], None], *, interval_s: float = _INTERVAL_S
) -> threading.Thread:
    """Run ``pump`` in a daemon thread that ends with the run."""
    pumping = partial(pump, run, publish, finish, interval_s=interval_s)
    thread = threading.Thread(target=pumping, name=f"workbench-{run.id}-view", daemon=True)
    thread.start()
    return thread


def _has_ended(run: Watched) -> bool:
    return run.done


def _keep_distance(remaining_s: float, pause: Callable[[float], None]) -> None:
    if remaining_s > 0:
        pause(remaining_s)
