"""Where torch computes: never on a caller's thread.

OpenMP keeps a team of worker threads for every thread that ever computed in parallel. With more workers than cores it
puts all of them to sleep between two operations instead of letting them wait awake, and a decode step, which is a
thousand short operations, takes twice as long. So the inference thread has the one lasting team, and whatever else
computes does it on a thread that ends, and takes its team with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import torch

from workbench.machine import thread_count

T = TypeVar("T")


def run_on_fresh_thread(function: Callable[[], T]) -> T:
    """The function's result, or its error, computed on a thread of its own that has ended when this returns."""
    future: Future[T] = Future()

    def run() -> None:
        torch.set_num_threads(thread_count())
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller
            future.set_exception(error)

    thread = threading.Thread(target=run, name="compute-apart", daemon=True)
    thread.start()
    try:
        return future.result()
    finally:
        thread.join()
