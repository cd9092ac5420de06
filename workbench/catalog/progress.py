"""Progress of a pull: the callback's type, and a bar for terminals and notebooks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol


class Progress(Protocol):
    """Callback for the progress of a pull, which calls it often and on its own thread, so it must be quick.

    Stages: ``wait`` (another process is pulling the same model), ``download``, ``unpack``, ``convert``, ``record``.
    ``done`` and ``total`` are bytes; ``total`` is None if it is unknown.
    """

    def __call__(self, stage: str, done: int, total: int | None, /) -> None: ...


_REPORTED_TO: ContextVar[Progress | None] = ContextVar("progress of downloads", default=None)


@contextmanager
def reported_to(progress: Progress | None) -> Iterator[None]:
    """Send the progress of downloads that start in the context to ``progress``, instead of showing a bar.

    This includes coroutines and threads of asyncio that the context starts; a provider needs no argument for it.
    None changes nothing.
    """
    token = _REPORTED_TO.set(progress or _REPORTED_TO.get())
    try:
        yield
    finally:
        _REPORTED_TO.reset(token)


def silent(stage: str, done: int, total: int | None) -> None:
    """Show nothing."""


def wants_bar() -> bool:
    """Return whether to show a bar: in a terminal or a notebook, unless ``WORKBENCH_PROGRESS`` is ``0``."""
    if os.environ.get("WORKBENCH_PROGRESS", "") == "0":
        return False
    return sys.stderr.isatty() or _in_notebook()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


@contextmanager
def shown(title: str, progress: Progress | None) -> Iterator[Progress]:
    """Yield ``progress``; if it is None, yield a bar that closes with the context, or `silent` if none is wanted.

    In a context of `reported_to`, its callback replaces the bar.
    """
    progress = progress or _REPORTED_TO.get()
    if progress is not None or not wants_bar():
        yield progress or silent
        return
    bars = _Bars(title)
    try:
        yield bars
    finally:
        bars.close()


class _Bars:
    """One tqdm bar for each stage, which closes when the next stage starts."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._stage = ""
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage != self._stage:
            self._open(stage, total)
        if total is not None:
            self._bar.total = total
        self._bar.update(done - self._bar.n)

    def _open(self, stage: str, total: int | None) -> None:
        from tqdm.auto import tqdm

        self.close()
        self._stage = stage
        self._bar = tqdm(desc=f"{self._title}: {stage}", total=total, unit="B", unit_scale=True, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._stage = None, ""
