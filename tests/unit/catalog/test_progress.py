from __future__ import annotations

import io
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stderr
from contextvars import copy_context

import pytest

from workbench.catalog import progress
from workbench.errors import DownloadError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("WORKBENCH_PROGRESS", raising=False)
    return Terminal()


def tell_everything(told: progress.Progress) -> None:
    told("wait", 0, None)
    for done in (0, 5, 10):
        told("download", done, 10)
    told("record", 0, None)


def test_a_terminal_sees_one_bar_per_stage(terminal: Terminal) -> None:
    with redirect_stderr(terminal), progress.shown("tiny", None) as told:
        tell_everything(told)
    assert "tiny: download: 100%" in terminal.getvalue()
    assert "tiny: record" in terminal.getvalue()


@pytest.mark.parametrize("reason", ["switched off", "no terminal", "own callback"])
def test_nothing_is_written_where_nobody_looks(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    if reason == "switched off":
        monkeypatch.setenv("WORKBENCH_PROGRESS", "0")
    if reason == "no terminal":
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    given = progress.silent if reason == "own callback" else None
    with redirect_stderr(terminal), progress.shown("tiny", given) as told:
        tell_everything(told)
    assert not terminal.getvalue()


def test_a_bar_is_closed_when_the_pull_fails(terminal: Terminal) -> None:
    def fail() -> None:
        with progress.shown("tiny", None) as told:
            told("download", 1, 10)
            raise KeyError

    with redirect_stderr(terminal), pytest.raises(KeyError):
        fail()
    assert terminal.getvalue().endswith("\n")


def test_a_download_in_another_thread_stops_when_nobody_waits_for_it_any_more() -> None:
    reports: list[int] = []
    with ThreadPoolExecutor(1) as threads:
        go_on, has_begun = threading.Event(), threading.Event()

        def download() -> None:
            with progress.shown("tiny", None) as report:
                report("download", 1, 10)
                has_begun.set()
                assert go_on.wait(60)
                report("download", 2, 10)

        def wait_for_it() -> None:
            with progress.reported_to(lambda _stage, done, _total: reports.append(done)):
                running.append(threads.submit(copy_context().run, download))
                assert has_begun.wait(60)
                raise KeyboardInterrupt

        running: list[Future[None]] = []
        with pytest.raises(KeyboardInterrupt):
            wait_for_it()
        go_on.set()
        with pytest.raises(DownloadError, match="tiny was stopped"):
            running[0].result(60)
    assert reports == [1]


def test_a_context_without_a_callback_keeps_that_around_it() -> None:
    reports: list[int] = []
    outer = progress.reported_to(lambda _stage, done, _total: reports.append(done))
    with outer, progress.reported_to(None), progress.shown("tiny", None) as report:
        report("download", 3, 10)
    assert reports == [3]
