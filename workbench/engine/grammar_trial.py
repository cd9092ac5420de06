"""Trial compilation of a grammar in a separate process, which may crash or take too long.

llguidance's own limits do not bound every grammar: a long chain of rules overflows its stack, and some pairs of regular
expressions take minutes. Neither can be stopped within a process, so each new grammar is first compiled in a separate
process with a smaller stack, and with limits of time and memory.

This file is also the program of that process, which runs it by path: it imports nothing of the package.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

CPU_S = 0.5
"""CPU time that a grammar may take to compile; wall time would depend on the load of the machine."""

_WALL_S = 30.0
"""Wall time after which a process that does not compute is killed."""

_STACK_BYTES = 2**20
"""Stack of the trial, well below that of the threads that compile afterwards."""

_MEMORY_BYTES = 2**30


def trial(grammar: str) -> str | None:
    """Return why a grammar crashes or exceeds the limits; None if it compiles or is merely invalid.

    Args:
        grammar: in the format of `llguidance.LLMatcher`.

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
    signal.setitimer(signal.ITIMER_PROF, CPU_S)  # its signal ends the process
    compiling.start()
    compiling.join()


if __name__ == "__main__":
    _main()
