"""Runs torch computations on a thread of their own.

OpenMP keeps a team of worker threads for every thread that ever computed in parallel. With more workers than cores, its
workers sleep between two operations instead of spinning, and a decode step, which is a thousand short operations, takes
twice as long. So only the inference thread has a lasting team; all other computations run on a thread that ends, and
its team with it.
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
    """Run a function on a new thread, and return its result or raise its error once that thread has ended."""
    future: Future[T] = Future()

    def run() -> None:
        torch.set_num_threads(thread_count())
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller
            future.set_exception(error)

    thread = threading.Thread(target=run, name="fresh-compute", daemon=True)
    thread.start()
    try:
        return future.result()
    finally:
        thread.join()
