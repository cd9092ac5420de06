"""Processes that keep cores busy while contestants are measured, as a browser beside them would."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from workbench.errors import GenerationError

_PROGRAM = Path(__file__).with_name("busy_loop.py")


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Keep ``count`` cores busy in the context, by one process each; the system chooses the cores.

    The processes end with the context, and by themselves when this process ends in any way, since they read its pipe.

    Raises:
        GenerationError: one of them ended early, so that figures were measured on a machine less busy than stated.
    """
    with ExitStack() as stack:
        processes = [stack.enter_context(_busy_process()) for _ in range(count)]
        yield
        for process in processes:
            if process.poll() is not None:
                raise GenerationError(
                    f"a process that kept a core busy ended early, with exit code {process.returncode}; measure again"
                )


@contextmanager
def _busy_process() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-I", "-S", str(_PROGRAM)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own
        try:
            assert process.stdout is not None
            process.stdout.readline()  # written when its loop begins
            yield process
        finally:
            process.kill()
