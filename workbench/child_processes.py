"""Child processes: options that keep them apart from the terminal, and limits on what they use.

Linux enforces limits on CPU time and memory that a process sets for itself. macOS ignores those on memory, and Windows
has neither; there the parent process must `Watch` what the child uses.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from dataclasses import dataclass
from typing import Any, Literal

LIMITS_ARE_ENFORCED = sys.platform == "linux"
"""Whether the system ends a process, or refuses it memory, at the limits that it has set for itself."""

POLL_S = 0.1
"""Interval at which a parent process should call `Watch.exceeded`, in seconds."""

_CREATE_NO_WINDOW = 0x08000000  # of Windows' CreateProcess: no console, and so no Ctrl+C either


def detached() -> dict[str, Any]:
    """Return options of `subprocess.Popen` for a process that no Ctrl+C reaches and that opens no window."""
    return {"creationflags": _CREATE_NO_WINDOW} if sys.platform == "win32" else {"start_new_session": True}


def has_crashed(exit_code: int) -> bool:
    """Return whether a process was ended by a signal, or on Windows by an exception such as a stack overflow."""
    return exit_code < 0 or exit_code >= 2**31


def is_out_of_time(exit_code: int) -> bool:
    """Return whether the timer of `set_timer` ended a process."""
    return sys.platform != "win32" and exit_code == -signal.SIGPROF


def set_timer(cpu_s: float) -> None:
    """End this process after ``cpu_s`` more seconds of CPU time, if the system can; 0 stops the timer."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, cpu_s)  # the default action of SIGPROF ends the process


def set_limit(kind: str, limit: int) -> None:
    """Set a resource limit of this process, such as ``RLIMIT_AS``, if the system has it and permits it."""
    if sys.platform != "win32":
        with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
            import resource

            hardest = resource.getrlimit(getattr(resource, kind))[1]
            limit = limit if hardest == resource.RLIM_INFINITY else min(limit, hardest)
            resource.setrlimit(getattr(resource, kind), (limit, hardest if limit else 0))


@dataclass(frozen=True, slots=True)
class Watch:
    """What a child process may use from now on: seconds of CPU time, and bytes of resident memory in all."""

    process_id: int
    cpu_end_s: float
    memory_bytes: int

    @classmethod
    def begin(cls, process_id: int, cpu_s: float, memory_bytes: int) -> Watch:
        """Return a watch that starts with the CPU time that the process has taken so far."""
        return cls(process_id, (_cpu_seconds(process_id) or 0.0) + cpu_s, memory_bytes)

    def exceeded(self) -> Literal["cpu", "memory"] | None:
        """Return the limit that the process is over; None if it is over none, or has ended."""
        used = _cpu_seconds(self.process_id)
        if used is None:
            return None
        if used > self.cpu_end_s:
            return "cpu"
        return "memory" if _resident_bytes(self.process_id) > self.memory_bytes else None


def _cpu_seconds(process_id: int) -> float | None:
    import psutil

    try:
        times = psutil.Process(process_id).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def _resident_bytes(process_id: int) -> int:
    import psutil

    try:
        return int(psutil.Process(process_id).memory_info().rss)
    except psutil.Error:
        return 0
