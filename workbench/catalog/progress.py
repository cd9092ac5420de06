"""How far a pull has come: a callback that anything can be, and a bar for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Progress(Protocol):
    """A callback for the progress of a pull; it is called often, on the thread that pulls, so it must be quick.

    Stages: ``wait`` (another process is pulling the same model), ``download``, ``unpack``, ``convert``, ``record``.
    ``done`` and ``total`` are bytes; ``total`` is None where it is unknown.
    """

    def __call__(self, stage: str, done: int, total: int | None) -> None: ...


def silent(stage: str, done: int, total: int | None) -> None:
    """The progress of a program: nothing is shown."""


def wants_bar() -> bool:
    """Whether a person is looking: a terminal or a notebook, and ``WORKBENCH_PROGRESS`` is not ``0``."""
    if os.environ.get("WORKBENCH_PROGRESS", "") == "0":
        return False
    return sys.stderr.isatty() or _in_notebook()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


@contextmanager
def shown(title: str, progress: Progress | None) -> Iterator[Progress]:
    """``progress`` itself where given, else a bar for as long as the context lasts, else silence."""
    if progress is not None or not wants_bar():
        yield progress or silent
        return
    bars = _Bars(title)
    try:
        yield bars
    finally:
        bars.close()


class _Bars:
    """One tqdm bar per stage; a stage's bar is closed when the next one starts."""

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
