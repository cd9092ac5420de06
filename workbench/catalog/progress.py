"""Progress of a pull: the callback's type, and a bar for terminals and notebooks."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from workbench.errors import DownloadError


class Progress(Protocol):
    """Callback for the progress of a pull, which calls it often and on its own thread, so it must be quick.

    Stages: ``wait`` (another process is pulling the same model), ``download``, ``unpack``, ``convert``, ``record``.
    ``done`` and ``total`` are bytes; ``total`` is None if it is unknown.
    """

    def __call__(self, stage: str, done: int, total: int | None, /) -> None: ...


@dataclass(frozen=True, slots=True)
class _Caller:
    """The code that waits for downloads in other threads."""

    progress: Progress | None = None
    left: threading.Event = field(default_factory=threading.Event)
    """Set when an exception, such as a KeyboardInterrupt, has ended its wait."""


_CALLER: ContextVar[_Caller] = ContextVar("caller of downloads", default=_Caller())  # noqa: B039 - its event stays unset


@contextmanager
def reported_to(progress: Progress | None) -> Iterator[None]:
    """Send the progress of downloads that start in the context to ``progress``, instead of showing a bar.

    This includes coroutines and threads of asyncio that the context starts; a provider needs no argument for it.
    With None, a bar is shown as before. If an exception leaves the context, downloads in other threads stop: otherwise
    Ctrl+C would end the wait for a download, but not the download.
    """
    caller = _Caller(progress or _CALLER.get().progress)
    token = _CALLER.set(caller)
    try:
        yield
    except BaseException:
        caller.left.set()
        raise
    finally:
        _CALLER.reset(token)


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

    In a context of `reported_to`, its callback replaces the bar, and each report raises `DownloadError` once its caller
    has stopped waiting.
    """
    caller = _CALLER.get()
    progress = progress or caller.progress
    if progress is not None or not wants_bar():
        yield _stopping(progress or silent, caller, title)
        return
    bars = _Bars(title)
    try:
        yield _stopping(bars, caller, title)
    finally:
        bars.close()


def _stopping(progress: Progress, caller: _Caller, title: str) -> Progress:
    """Return a callback that raises `DownloadError` once the caller has stopped waiting."""

    def report(stage: str, done: int, total: int | None) -> None:
        if caller.left.is_set():
            raise DownloadError(f"the download of {title} was stopped; the next one continues where it ended.")
        progress(stage, done, total)

    return report


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
