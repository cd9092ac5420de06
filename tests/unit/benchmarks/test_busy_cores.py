from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from workbench.benchmarks import busy_cores as module
from workbench.benchmarks.busy_cores import busy_cores
from workbench.errors import GenerationError


def spinning() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if str(module._PROGRAM) in child.cmdline()]


@contextmanager
def program() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-I", "-S", str(module._PROGRAM)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == b"busy"
            yield process
        finally:
            process.kill()


def test_there_is_one_process_a_core_and_none_afterwards() -> None:
    with busy_cores(2):
        assert len(spinning()) == 2
        assert all(process.status() != psutil.STATUS_ZOMBIE for process in spinning())
    assert spinning() == []


def test_without_a_core_to_keep_busy_nothing_is_started() -> None:
    with busy_cores(0):
        assert spinning() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_they_end_with_whatever_ends_the_measurement(error: type[BaseException]) -> None:
    def measure() -> None:
        with busy_cores(1):
            assert len(spinning()) == 1
            raise error

    with pytest.raises(error):
        measure()
    assert spinning() == []


def test_a_process_that_ends_early_is_an_error_because_the_figures_were_not_of_a_busy_machine() -> None:
    def measure() -> None:
        with busy_cores(2):
            first, _ = spinning()
            first.kill()
            first.wait()

    with pytest.raises(GenerationError, match="ended early"):
        measure()
    assert spinning() == []


def test_it_ends_by_itself_when_the_process_that_measures_is_gone() -> None:
    with program() as process:
        assert process.stdin is not None
        process.stdin.close()  # as the system does for a process that was killed
        assert process.wait(60) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals of the terminal are those of POSIX")
def test_ctrl_c_leaves_its_end_to_the_process_that_measures() -> None:
    with program() as process:
        assert process.stdin is not None
        process.send_signal(signal.SIGINT)
        process.stdin.close()
        assert process.wait(60) == 0  # and not the number of the signal
