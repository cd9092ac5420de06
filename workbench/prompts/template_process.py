"""Chat templates, rendered in a sandbox inside a process that may be killed in the place of this one.

A template comes with a model, from anywhere. Jinja's sandbox keeps it from the interpreter, but not from computing
without end: two nested loops, or one power, cannot be stopped within a process. So one process, shared by all models,
renders within limits on compute time, memory and output; it starts at the first chat, is replaced when a template ends
it, and ends with this one.

This file is that process's program too, started by its path: it imports nothing of the package.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

CPU_S = 1.0
"""Compute time of one rendering. Not wall time: a busy machine refuses nothing."""

_MEMORY_BYTES = 2**28
_KEPT_TEMPLATES = 32


class TemplateError(Exception):
    """The template refused the conversation, failed, or went beyond its limits; says which in words."""


class TemplateProcess:
    """A process that renders; safe from any thread, one rendering at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def render(
        self, template: str, variables: Mapping[str, Any], respelled: Mapping[str, str], max_characters: int
    ) -> str:
        """The text that the template makes of the variables.

        Args:
            variables: JSON values by name.
            respelled: characters that texts of the variables have in place of others. What a template looks for in
                such a text is spelled the same way first, so that it finds what it would have found.
            max_characters: of the text; a template that writes more is stopped.

        Raises:
            TemplateError: there is no such text.
        """
        request = {
            "template": template,
            "variables": variables,
            "respelled": respelled,
            "max_characters": max_characters,
        }
        with self._lock:
            line = self._answer(json.dumps(request).encode() + b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise TemplateError(answer["error"])
        return str(answer["text"])

    def close(self) -> None:
        """End the process; the next rendering starts another."""
        with self._lock:
            self._end()

    def _answer(self, request: bytes) -> bytes:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        line = b""
        try:
            process.stdin.write(request)
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            pass
        finally:  # an interrupt too leaves an answer behind, which the next request must not take for its own
            if not line.endswith(b"\n"):
                self._end()
        if not line.endswith(b"\n"):
            raise TemplateError(f"it was stopped: it takes more than {CPU_S:g} s or {_MEMORY_BYTES >> 20} MiB")
        return line

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._end()
            paths = os.pathsep.join(path for path in sys.path if path)
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter and this file
                [sys.executable, "-P", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": paths},
                start_new_session=True,  # Ctrl+C is for the notebook's kernel, which interrupts its whole group
            )
            self._owner = os.getpid()
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():  # after a fork it is still the parent's
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what was not written yet is for nobody
                    pipe.close()
        process.wait()


PROCESS = TemplateProcess()
atexit.register(PROCESS.close)


# ------------------------------------------------------------------------------------------ the process's own program


class _Text(str):
    """A text of the request: what it is asked about is spelled as itself is."""

    __slots__ = ()
    table: Mapping[int, str] = {}

    __hash__ = str.__hash__

    def __str__(self) -> str:
        return self  # filters ask for it before they look into a value


def _asked(name: str) -> Callable[..., Any]:
    method = getattr(str, name)

    def ask(self: _Text, *values: Any) -> Any:
        return _marked(method(self, *map(_respelled, values)))

    return ask


def _respelled(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_respelled, value))
    return value.translate(_Text.table) if isinstance(value, str) else value


def _marked(value: Any) -> Any:
    """The value with every text in it as a `_Text`."""
    if isinstance(value, str):
        return _Text(value)
    if isinstance(value, list | tuple):
        return [_marked(item) for item in value]
    return {_Text(key): _marked(item) for key, item in value.items()} if isinstance(value, dict) else value


for _name in (
    *("__contains__", "__eq__", "__ne__", "__getitem__", "startswith", "endswith", "find", "rfind", "index", "rindex"),
    *("count", "split", "rsplit", "splitlines", "partition", "rpartition", "replace", "removeprefix", "removesuffix"),
    *("strip", "lstrip", "rstrip", "lower", "upper", "title", "capitalize"),
):
    setattr(_Text, _name, _asked(_name))


def _environment() -> Any:
    """Jinja's sandbox with what chat templates expect to find, as transformers' own renderer has it."""
    import datetime as dt

    import jinja2
    import jinja2.ext
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """``{% generation %}`` marks the assistant's text for training; it renders as what stands in it."""

        tags = {"generation"}  # noqa: RUF012 - declared so by its base

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: object) -> None:
        raise TemplateError(str(message))

    def strftime_now(form: str) -> str:
        return dt.datetime.now().strftime(form)  # noqa: DTZ005 - the user's own day

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        del ensure_ascii  # a respelled character must not be written as an escape
        known = {key: options[key] for key in ("indent", "separators", "sort_keys") if key in options}
        return json.dumps(value, ensure_ascii=False, **known)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"], cache_size=0
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    return environment


def _rendered(template: Any, request: dict[str, Any]) -> str:
    _Text.table = {ord(character): other for character, other in request["respelled"].items()}
    limit, pieces, characters = request["max_characters"], [], 0
    for piece in template.generate(_marked(request["variables"])):
        pieces.append(piece)
        characters += len(piece)
        if characters > limit:
            raise TemplateError(f"it writes more than {limit:,} characters")
    return "".join(pieces)


def _answers(requests: Iterator[str]) -> Iterator[dict[str, str]]:
    import functools
    import signal

    import jinja2

    environment = _environment()
    compiled = functools.lru_cache(_KEPT_TEMPLATES)(environment.from_string)
    for line in requests:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, CPU_S)  # its signal's default is the end of the process
        try:
            answer = {"text": _rendered(compiled(request["template"]), request)}
        except TemplateError as error:
            answer = {"error": str(error)}
        except jinja2.TemplateSyntaxError as error:
            answer = {"error": f"it cannot be read: {error.message} (line {error.lineno})"}
        except Exception as error:  # noqa: BLE001 - whatever a template does wrong is told
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        signal.setitimer(signal.ITIMER_PROF, 0)
        yield answer


def _main(requests: TextIO, answers: TextIO) -> None:
    import resource

    limits = {resource.RLIMIT_AS: _MEMORY_BYTES}
    limits |= dict.fromkeys((resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC), 0)
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))
    for answer in _answers(iter(requests.readline, "")):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _main(sys.stdin, sys.stdout)
