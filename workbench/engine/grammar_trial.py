"""Trial compilation of a grammar in a separate process, which may crash or take too long.

llguidance's own limits do not bound every grammar: a long chain of rules overflows its stack, and some pairs of regular
expressions take minutes. Neither can be stopped within a process, so each new grammar is first compiled in a separate
process with a smaller stack, and with limits of time and memory.

This file is also the program of that process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time

from workbench.child_processes import (
    LIMITS_ARE_ENFORCED,
    POLL_S,
    Watch,
    detached,
    has_crashed,
    is_out_of_time,
    set_limit,
    set_timer,
)

CPU_S = 0.5
"""CPU time that a grammar may take to compile; wall time would depend on the load of the machine."""

_START_CPU_S = 2.0
"""CPU time that the process may take besides, where its parent process watches it."""

_WALL_S = 30.0
"""Wall time after which a process that does not compute is killed."""

_STACK_BYTES = 2**20
"""Stack of the trial, well below that of the threads that compile afterwards."""

_MEMORY_BYTES = 2**30

_TOO_SLOW = f"it takes more than {CPU_S:g} s to compile"


def trial(grammar: str) -> str | None:
    """Return why a grammar crashes or exceeds the limits; None if it compiles or is merely invalid.

    Args:
        grammar: in the format of `llguidance.LLMatcher`.

    Raises:
        OSError: the process could not be started.
    """
    with tempfile.TemporaryFile() as source:  # a pipe might fill up before the process reads
        source.write(grammar.encode())
        source.seek(0)
        attempt = subprocess.Popen(  # noqa: S603 - this interpreter and this file
            [sys.executable, "-P", __file__],
            stdin=source,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            **detached(),
        )
    with attempt:
        try:
            errors = _awaited(attempt)
        except _ExceededError as error:
            return str(error)
        finally:
            attempt.kill()
    if attempt.returncode == 0:
        return None
    if is_out_of_time(attempt.returncode):
        return _TOO_SLOW
    if has_crashed(attempt.returncode):
        return "it is nested too deeply, or its rules form too long a chain of references"
    raise OSError(errors.decode(errors="replace").strip()[-300:] or f"exit code {attempt.returncode}")


class _ExceededError(Exception):
    """The grammar exceeds a limit; the message is the reason for its refusal."""


def _awaited(attempt: subprocess.Popen[bytes]) -> bytes:
    """Wait for the process to end, and return its error output.

    Raises:
        _ExceededError: it takes too long, or a limit is exceeded that the system does not enforce.
    """
    memory_bytes, cpu_s = _MEMORY_BYTES, _START_CPU_S + CPU_S
    watch = None if LIMITS_ARE_ENFORCED else Watch.begin(attempt.pid, cpu_s, memory_bytes)
    deadline = time.monotonic() + _WALL_S
    while True:
        try:
            return attempt.communicate(timeout=POLL_S)[1]
        except subprocess.TimeoutExpired:
            pass
        if time.monotonic() > deadline:
            raise _ExceededError("it could not be compiled in time")
        if watch and (limit := watch.exceeded()):
            raise _ExceededError(_TOO_SLOW if limit == "cpu" else f"it takes more than {memory_bytes >> 20} MiB")


def _main() -> None:
    from llguidance import LLMatcher

    grammar = sys.stdin.buffer.read().decode()
    set_limit("RLIMIT_CORE", 0)
    set_limit("RLIMIT_AS", _MEMORY_BYTES)
    threading.stack_size(_STACK_BYTES)
    compiling = threading.Thread(target=LLMatcher.validate_grammar, args=(grammar,))
    set_timer(CPU_S)
    compiling.start()
    compiling.join()


if __name__ == "__main__":
    _main()
