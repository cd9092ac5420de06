"""Rendering of chat templates in a sandbox inside a separate process, which can be killed.

A template comes with a model, from anywhere. Jinja's sandbox keeps it from the interpreter, but not from computing
without end: two nested loops, or one power, cannot be stopped within a process. So one process, shared by all models,
renders within limits on CPU time, memory and output. It starts at the first chat, is replaced if a template ends it,
and ends with this process. If it ends or hangs during a rendering, the caller gets an error at once.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Literal, TypeAlias

from workbench.child_processes import LIMITS_ARE_ENFORCED, POLL_S, Watch, detached, is_out_of_time
from workbench.errors import TemplateProcessError

_PROGRAM = "workbench.prompts.template_program"
_START_S = 60.0
_WAIT_S = 60.0
_WAIT_PER_CPU_S = 20
"""Seconds of wall time per second of CPU time, at least `_WAIT_S`, after which a rendering is given up: a busy machine
refuses nothing, and a process that hangs is not waited for."""
_END_S = 0.5
"""Time in which the end of a process should close its pipes; they may be open in other processes."""
_EXTERNAL_SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
_SUBJECT = "the process that renders chat templates"

_Answers: TypeAlias = "SimpleQueue[bytes | Exception]"


class TemplateError(Exception):
    """The template refused the conversation, failed, or exceeded a limit; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Limits:
    cpu_s: float = 1.0
    """CPU time. Not wall time: a busy machine refuses nothing."""
    memory_bytes: int = 2**28
    characters: int = 2**18

    @classmethod
    def of(cls, messages: int, characters: int) -> Limits:
        """Return limits that grow with the conversation: some templates read every message for every message."""
        least = cls()
        return cls(
            cpu_s=least.cpu_s + 0.02 * messages + characters / 10**5,
            memory_bytes=least.memory_bytes + 64 * characters,
            characters=max(least.characters, 16 * characters),
        )

    def exceeded(self, limit: Literal["cpu", "memory"]) -> TemplateError:
        """Return the error of a template that is over a limit."""
        used = f"{self.cpu_s:g} s of CPU time" if limit == "cpu" else f"{self.memory_bytes >> 20} MiB of memory"
        return TemplateError(f"it takes more than {used}")


@dataclass(frozen=True, slots=True)
class Rendering:
    text: str
    own: Sequence[tuple[int, int]]
    """Runs of the template's own characters, as start and end."""
    lost: Sequence[tuple[int, int]]
    """Runs of characters of unknown origin, as start and end."""
    shown: frozenset[int]
    """Indexes of the messages of which more than white space is shown."""

    def shows(self, message: int) -> bool:
        """Return whether a message is shown, or may be: characters of unknown origin may be its."""
        return message in self.shown or any(map(str.isalnum, "".join(self.text[slice(*span)] for span in self.lost)))


class TemplateProcess:
    """A process that renders templates one at a time; safe from any thread, and in both processes after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        _INSTANCES.add(self)

    def render(self, template: str, variables: Mapping[str, Any], limits: Limits) -> Rendering:
        """Return the rendering of the template with the variables, which are JSON values by name.

        The variables ``messages`` and ``tools`` come from the request; all others count as the template's own.

        Raises:
            TemplateError: the template refused the conversation, failed, or exceeded a limit.
            TemplateProcessError: the process could not be started or reached, or was ended from outside.
        """
        request = {
            "template": template,
            "variables": variables,
            "cpu_s": limits.cpu_s,
            "memory_bytes": limits.memory_bytes,
            "max_characters": limits.characters,
        }
        with self._lock:
            answer = self._answer(json.dumps(request).encode() + b"\n", limits)
        if "error" in answer:
            raise TemplateError(answer["error"])
        own, lost = ([(start, end) for start, end in answer[kind]] for kind in ("own", "lost"))
        return Rendering(answer["text"], own, lost, frozenset(answer["shown"]))

    def close(self) -> None:
        """End the process; the next rendering starts another."""
        with self._lock:
            self._end()

    def _answer(self, request: bytes, limits: Limits) -> dict[str, Any]:
        process = self._running()
        line = b""
        try:
            line = _exchange(process, request, max(_WAIT_S, _WAIT_PER_CPU_S * limits.cpu_s), limits)
            if not line.endswith(b"\n"):
                raise _end_of(process, limits)
        finally:  # an interrupt, too, leaves an answer behind, which the next request would read as its own
            if not line.endswith(b"\n"):
                self._end()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        """Return the process; start it if it does not run or its pipes are closed."""
        process = self._process
        if process is not None and process.poll() is None and not any(pipe.closed for pipe in _pipes(process)):
            return process
        self._end()
        paths = [path for path in sys.path if path] + [str(Path(__file__).parents[2])]
        try:
            self._process = process = subprocess.Popen(  # noqa: S603 - this interpreter and a module of ours
                [sys.executable, "-P", "-m", _PROGRAM],
                bufsize=0,  # nothing is left in a buffer that a fork would copy
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                **detached(),  # Ctrl+C is for the notebook's kernel, which interrupts its whole group
            )
        except OSError as error:
            raise TemplateProcessError(f"{_SUBJECT} cannot be started: {error}") from error
        line, texts = b"", SimpleQueue[bytes]()
        assert process.stderr is not None
        threading.Thread(target=_drain, args=(process.stderr, texts), name="template-errors", daemon=True).start()
        try:
            line = _exchange(process, b"", _START_S)
            if not line.endswith(b"\n"):
                raise TemplateProcessError(f"{_SUBJECT} failed to start: {_start_error(process, texts)}")
        finally:
            if not line.endswith(b"\n"):
                self._end()
        return process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in _pipes(process):
            with contextlib.suppress(OSError):
                pipe.close()

    def _abandon(self) -> None:
        """Drop the process and the lock in a forked child: both belong to the parent."""
        self._lock = threading.Lock()
        process, self._process = self._process, None
        if process is not None:
            for pipe in _pipes(process):  # if open here, they would keep the process running without its parent
                with contextlib.suppress(OSError):
                    pipe.close()
            process.returncode = 0  # it is not a child of this process


def _pipes(process: subprocess.Popen[bytes]) -> list[Any]:
    """Return the pipes for requests and answers; the one for errors belongs to the thread that reads it."""
    return [pipe for pipe in (process.stdin, process.stdout) if pipe is not None]


def _exchange(process: subprocess.Popen[bytes], request: bytes, wait_s: float, limits: Limits | None = None) -> bytes:
    """Return the line that answers a request; less than a line if the process ended.

    A thread writes and reads, because Windows has no wait with a time limit for pipes.

    Args:
        limits: limits of the rendering, which are watched from here where the system does not enforce them.
    """
    answers: _Answers = SimpleQueue()
    watched = None if LIMITS_ARE_ENFORCED else limits
    watch = Watch.begin(process.pid, watched.cpu_s, watched.memory_bytes) if watched else None
    threading.Thread(target=_talk, args=(process, request, answers), name="template-pipes", daemon=True).start()
    deadline = time.monotonic() + wait_s
    while (answer := _next(answers, process)) is None:
        if time.monotonic() > deadline:
            raise TemplateProcessError(f"{_SUBJECT} did not answer within {wait_s:g} s and was stopped")
        if watched and watch and (limit := watch.exceeded()):
            raise watched.exceeded(limit)
    if isinstance(answer, Exception):
        raise TemplateProcessError(f"{_SUBJECT} cannot be reached: its pipes were closed ({answer})") from answer
    return answer


def _next(answers: _Answers, process: subprocess.Popen[bytes]) -> bytes | Exception | None:
    """Return the answer, nothing if the process has ended without one, or None if none has arrived for a while."""
    has_ended = process.poll() is not None
    try:
        return answers.get(timeout=_END_S if has_ended else POLL_S)
    except Empty:
        return b"" if has_ended else None


def _talk(process: subprocess.Popen[bytes], request: bytes, answers: _Answers) -> None:
    """Write the request to the process and put its answer, up to the end of the line, or the error of its pipes."""
    assert process.stdin is not None
    assert process.stdout is not None
    unsent, line = memoryview(request), bytearray()
    try:
        while unsent:
            unsent = unsent[process.stdin.write(unsent) :]
        while not line.endswith(b"\n") and (chunk := process.stdout.read(2**16)):
            line += chunk
        answers.put(bytes(line))
    except BrokenPipeError:
        answers.put(b"")
    except (OSError, ValueError) as error:
        answers.put(error)


def _drain(errors: IO[bytes], texts: SimpleQueue[bytes]) -> None:
    with errors:
        texts.put(errors.read())


def _start_error(process: subprocess.Popen[bytes], texts: SimpleQueue[bytes]) -> str:
    """Return the last line of a dead process's error output; if it has none, how the process ended."""
    try:
        written = texts.get(timeout=_END_S).decode(errors="replace").strip()
    except Empty:  # the pipe is open in another process
        written = ""
    return written.splitlines()[-1] if written else _ending(process)


def _end_of(process: subprocess.Popen[bytes], limits: Limits) -> Exception:
    ending = _ending(process)
    if process.returncode is not None and is_out_of_time(process.returncode):
        return limits.exceeded("cpu")
    if ending in _EXTERNAL_SIGNALS:
        return TemplateProcessError(f"{_SUBJECT} was ended by {ending} while rendering; the next chat starts a new one")
    return TemplateError(f"the process that rendered it ended: {ending}")


def _ending(process: subprocess.Popen[bytes]) -> str:
    try:
        status = process.wait(_END_S)
    except subprocess.TimeoutExpired:
        return "it closed its pipes"
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name


_INSTANCES: weakref.WeakSet[TemplateProcess] = weakref.WeakSet()
PROCESS = TemplateProcess()
atexit.register(PROCESS.close)


def _after_fork() -> None:
    for process in list(_INSTANCES):
        process._abandon()  # noqa: SLF001 - of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
