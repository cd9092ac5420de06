"""A child process is apart from the terminal, and the system or its parent keeps it within its limits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.systems import SYSTEM
from workbench.child_processes import LIMITS_ARE_ENFORCED, Watch, detached, has_crashed, is_out_of_time

LIMITED = "from workbench.child_processes import set_limit, set_timer\n"
BUSY = "while True: pass"


@contextmanager
def running(program: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that has said that it is there."""
    command = [sys.executable, "-c", f"print('.', flush=True)\n{program}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def exit_code(program: str) -> int:
    return subprocess.run([sys.executable, "-c", LIMITED + program], check=False, stderr=subprocess.DEVNULL).returncode


def exceeded(watch: Watch) -> str:
    """The first limit that a process is found to be over."""
    while (limit := watch.exceeded()) is None:
        pass
    return limit


def test_a_watch_finds_who_computes_too_long() -> None:
    with running(BUSY) as process:
        assert exceeded(Watch.begin(process.pid, 0.05, 2**40)) == "cpu"


def test_a_watch_counts_from_its_beginning() -> None:
    with running("input()") as process:
        assert Watch.begin(process.pid, 0.05, 2**40).exceeded() is None


def test_a_watch_finds_who_takes_too_much_memory() -> None:
    with running("taken = b'x' * 2**26\ninput()") as process:
        assert exceeded(Watch.begin(process.pid, 60, 2**26)) == "memory"
        assert Watch.begin(process.pid, 60, 2**34).exceeded() is None


def test_a_process_that_has_ended_is_over_no_limit() -> None:
    with running("") as process:
        watch = Watch.begin(process.pid, 0, 0)
    assert watch.exceeded() is None
    assert Watch.begin(process.pid, 0, 0).exceeded() is None


@pytest.mark.skipif(not LIMITS_ARE_ENFORCED, reason="this system enforces no limits")
def test_limits_that_a_process_sets_itself_hold_and_are_told_apart() -> None:
    code = exit_code(f"set_timer(0.05)\n{BUSY}")
    assert is_out_of_time(code)
    assert has_crashed(code)
    code = exit_code("set_limit('RLIMIT_AS', 2**28)\ntaken = bytearray(2**30)")
    assert code == 1, "a MemoryError"


def test_a_limit_that_no_system_has_is_passed_over() -> None:
    assert exit_code("set_limit('RLIMIT_OF_ANOTHER_WORLD', 1)\nset_timer(0)") == 0


@pytest.mark.parametrize("code, crashed", [(0, False), (1, False), (-11, True), (0xC00000FD, True), (0xC0000005, True)])
def test_a_crash_is_one_on_every_system(code: int, crashed: bool) -> None:
    assert has_crashed(code) is crashed
    assert not is_out_of_time(code)


@pytest.mark.skipif(SYSTEM == "win32", reason="Windows has no sessions")
def test_a_detached_process_is_in_a_session_of_its_own() -> None:
    command = [sys.executable, "-c", "import os; print(os.getsid(0) == os.getpid())"]
    assert subprocess.run(command, check=True, capture_output=True, **detached()).stdout == b"True\n"
