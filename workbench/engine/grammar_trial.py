"""Compiling a grammar on trial, in a process that may crash or run too long in the place of this one.

llguidance's own limits do not bound every grammar: a long chain of rules overflows its stack, and some pairs of regular
expressions keep it busy for minutes. Neither can be stopped within a process, so each new grammar is compiled once in a
process of its own, on a smaller stack, within limits on its time and memory that the system keeps.

This file is that process's program too, started by its path: it imports nothing of the package.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

CPU_S = 0.5
"""Compute time that a grammar may take to compile. Not wall time: a busy machine refuses nothing."""

_WALL_S = 30.0
"""After this a process that computes nothing, for whatever reason, is given up."""

_STACK_BYTES = 2**20
"""Well below the stack of the threads that compile what has passed."""

_MEMORY_BYTES = 2**30


def trial(grammar: str) -> str | None:
    """Why the grammar cannot be compiled here, where the attempt ends a process; None where it can or is just wrong.

    Args:
        grammar: as `llguidance.LLMatcher` takes it.

    Raises:
        OSError: the process could not be started.
    """
    paths = os.pathsep.join(path for path in sys.path if path)
    try:
        attempt = subprocess.run(  # noqa: S603 - this interpreter and this file
            [sys.executable, "-P", __file__],
            input=grammar.encode(),
            capture_output=True,
            timeout=_WALL_S,
            check=False,
            env=os.environ | {"PYTHONPATH": paths},
        )
    except subprocess.TimeoutExpired:
        return "it could not be compiled in time"
    if attempt.returncode == 0:
        return None
    if attempt.returncode == -_timer_signal():
        return f"it takes more than {CPU_S:g} s to compile"
    if attempt.returncode < 0:
        return "it is nested too deeply, or its rules form too long a chain of references"
    raise OSError(attempt.stderr.decode(errors="replace").strip()[-300:] or f"exit code {attempt.returncode}")


def _timer_signal() -> int:
    import signal

    return signal.SIGPROF


def _main() -> None:
    import resource
    import signal

    from llguidance import LLMatcher

    grammar = sys.stdin.buffer.read().decode()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    threading.stack_size(_STACK_BYTES)
    compiling = threading.Thread(target=LLMatcher.validate_grammar, args=(grammar,))
    signal.setitimer(signal.ITIMER_PROF, CPU_S)  # its signal's default is the end of the process
    compiling.start()
    compiling.join()


if __name__ == "__main__":
    _main()
