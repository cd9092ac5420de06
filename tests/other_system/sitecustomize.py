"""Shows the workbench's own modules another system: what Windows or macOS lacks is hidden from them alone.

Python imports this file at its start where its folder is on PYTHONPATH, also in processes that the workbench starts.
``SIMULATED_SYSTEM`` is ``win32`` or ``darwin``. The workbench then sees that ``sys.platform``, cannot import modules
that the system lacks, and finds neither the system's missing functions, constants and signals nor `ctypes.CDLL(None)`.
Python itself, torch, Jupyter and pytest see the system as it is. Paths and encodings stay those of this system.
"""

from __future__ import annotations

import asyncio
import builtins
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

SYSTEM = os.environ.get("SIMULATED_SYSTEM", "")
_OURS = str(Path(__file__).parents[2] / "workbench") + os.sep

_MODULES = {"win32": "crypt fcntl grp nis posix pty pwd readline resource spwd syslog termios tty", "darwin": "spwd"}

_OS = {
    "win32": (
        "EX_OK O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC WNOHANG chown chroot confstr ctermid "
        "fchdir fchmod fchown fdatasync fork forkpty fpathconf fstatvfs getegid geteuid getgid getgroups getloadavg "
        "getpgid getpgrp getpriority getresuid getsid getuid initgroups killpg lchown lockf major memfd_create mkfifo "
        "mknod nice openpty pathconf pipe2 posix_fallocate posix_spawn posix_spawnp pread preadv pwrite pwritev readv "
        "register_at_fork sched_get_priority_max sched_getaffinity sched_setaffinity sched_setscheduler sched_yield "
        "sendfile set_blocking setegid seteuid setgid setgroups setpgid setpriority setsid setuid splice statvfs sync "
        "sysconf tcgetpgrp tcsetpgrp ttyname uname wait wait3 wait4 waitid writev"
    ),
    "darwin": (
        "O_DIRECT O_TMPFILE eventfd getresuid memfd_create pipe2 posix_fallocate pwritev sched_getaffinity "
        "sched_setaffinity sched_setscheduler setresuid splice"
    ),
}
_SIGNALS = {
    "win32": (
        "ITIMER_PROF ITIMER_REAL ITIMER_VIRTUAL SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP "
        "SIGTSTP SIGUSR1 SIGUSR2 SIGVTALRM alarm getitimer pause pthread_kill pthread_sigmask setitimer siginterrupt "
        "sigpending sigtimedwait sigwait sigwaitinfo"
    ),
    "darwin": "SIGPWR SIGSTKFLT pidfd_send_signal sigtimedwait sigwaitinfo",
}


class _Library(ctypes.CDLL):
    """`ctypes.CDLL` as on Windows, where no library has the functions of the whole process."""

    def __init__(self, name: str | None, *args: Any, **options: Any) -> None:
        if name is None:
            raise TypeError("argument of type 'NoneType' is not iterable")
        super().__init__(name, *args, **options)


class _Process(subprocess.Popen[Any]):
    """`subprocess.Popen` as on Windows, which refuses what only POSIX has and takes flags of its own."""

    def __init__(self, *args: Any, creationflags: int = 0, **options: Any) -> None:
        for name in ("preexec_fn", "start_new_session", "pass_fds", "process_group", "user", "group", "umask"):
            if name in options:
                raise ValueError(f"{name} is not supported on Windows platforms")
        super().__init__(*args, start_new_session=bool(creationflags), **options)


def _windows_library(name: str) -> object:
    assert name == "kernel32"
    return SimpleNamespace(SwitchToThread=ctypes.CDLL(None).sched_yield)


class _Seen(ModuleType):
    """A module as the workbench sees it; what is set is set in the real one."""

    def __init__(self, module: ModuleType, hidden: Sequence[str], replaced: Mapping[str, object]) -> None:
        super().__init__(module.__name__, module.__doc__)
        vars(self).update(_module=module, _hidden=frozenset(hidden), _replaced=dict(replaced))

    def __getattr__(self, name: str) -> Any:
        if name in self._replaced:
            return self._replaced[name]
        if name in self._hidden:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self._module, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in self._replaced:
            self._replaced[name] = value
        else:
            setattr(self._module, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._module, name)


_SEEN = {
    "win32": (
        _Seen(os, _OS["win32"].split(), {"name": "nt"}),
        _Seen(sys, (), {"platform": "win32"}),
        _Seen(signal, _SIGNALS["win32"].split(), {"SIGBREAK": signal.Signals(21)}),
        _Seen(socket, ("AF_UNIX", "SO_REUSEPORT", "fromfd", "socketpair"), {}),
        _Seen(subprocess, (), {"Popen": _Process}),
        _Seen(ctypes, (), {"CDLL": _Library, "WinDLL": _windows_library}),
    ),
    "darwin": (
        _Seen(os, _OS["darwin"].split(), {}),
        _Seen(sys, (), {"platform": "darwin"}),
        _Seen(signal, _SIGNALS["darwin"].split(), {}),
    ),
}


def _is_ours(scope: Mapping[str, object] | None) -> bool:
    return str((scope or {}).get("__file__")).startswith(_OURS)


def _simulate(system: str) -> None:
    seen = {module.__name__: module for module in _SEEN[system]}
    absent = frozenset(_MODULES[system].split())
    real_import, real_handler = builtins.__import__, asyncio.SelectorEventLoop.add_signal_handler

    def import_(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the name that Python calls it with
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if not _is_ours(globals):
            return real_import(name, globals, locals, fromlist or (), level)
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        module = real_import(name, globals, locals, fromlist or (), level)
        return seen.get(module.__name__, module)

    def add_signal_handler(loop: Any, *args: Any) -> None:
        if system == "win32" and _is_ours(sys._getframe(1).f_globals):
            raise NotImplementedError
        real_handler(loop, *args)

    builtins.__import__ = import_
    asyncio.SelectorEventLoop.add_signal_handler = add_signal_handler  # type: ignore[assignment,method-assign]


if SYSTEM:
    _simulate(SYSTEM)
