"""The program that renders chat templates within limits; `workbench.prompts.template_process` starts it.

It reports that it is ready, then reads requests and writes answers, each as one line of JSON.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

import jinja2

from workbench.child_processes import set_limit, set_timer
from workbench.prompts.jinja_environment import Refusal, environment, known
from workbench.prompts.provenance import LOST, OTHER, TEMPLATE, Traced, marks_of, message_index, message_mark

_CACHED_TEMPLATES = 32
_RUNS = re.compile(r"(.)\1*", re.DOTALL)
_OWN_FIELDS = frozenset({"role", "type"})
"""Fields of a message, and of a part of its content, whose values come from the workbench and not from the user."""


def _marked(value: Any, mark: str) -> Any:
    """Return a JSON value of the request with the mark on every text in it."""
    if isinstance(value, str):
        return Traced(value, mark * len(value))
    if isinstance(value, dict):
        return {_marked(key, mark): _marked(item, mark) for key, item in value.items()}
    return [_marked(item, mark) for item in value] if isinstance(value, list) else value


def _message(message: Mapping[str, Any], mark: str) -> dict[Any, Any]:
    """Return a message, or a part of its content, with the mark on all texts that come from the user."""
    return {known(key): known(value) if key in _OWN_FIELDS else _field(value, mark) for key, value in message.items()}


def _field(value: Any, mark: str) -> Any:
    parts = isinstance(value, list) and all(isinstance(part, dict) and "type" in part for part in value)
    return [_message(part, mark) for part in value] if parts else _marked(value, mark)


def _variables(variables: Mapping[str, Any]) -> dict[str, Any]:
    messages = [_message(message, message_mark(index)) for index, message in enumerate(variables.get("messages") or [])]
    tools = _marked(variables.get("tools"), OTHER)
    return {name: known(value) for name, value in variables.items()} | {"messages": messages, "tools": tools}


def _rendered(template: jinja2.Template, request: Mapping[str, Any]) -> dict[str, Any]:
    limit, parts, characters = request["max_characters"], [], 0
    for part in template.generate(_variables(request["variables"])):
        parts.append(part)
        characters += len(part)
        if characters > limit:
            raise Refusal(f"it writes more than {limit:,} characters")
    text, marks = "".join(map(str.__str__, parts)), "".join(map(marks_of, parts))
    text.encode()  # raises for a lone surrogate, which no tokenizer encodes
    runs = [(run[0][0], *run.span()) for run in _RUNS.finditer(marks)]
    shown = {message_index(mark) for mark, start, end in runs if not text[start:end].isspace()} - {None}
    own, lost = ([span for mark, *span in runs if mark == kind] for kind in (TEMPLATE, LOST))
    return {"text": text, "own": own, "lost": lost, "shown": sorted(shown)}


def _answer(render: Callable[[Mapping[str, Any]], dict[str, Any]], request: Mapping[str, Any]) -> dict[str, Any]:
    memory = request["memory_bytes"]
    set_limit("RLIMIT_AS", memory)
    set_timer(request["cpu_s"])
    try:
        return render(request)
    except Refusal as error:
        return {"error": str(error)}
    except jinja2.TemplateSyntaxError as error:
        return {"error": f"it has a syntax error: {error.message} (line {error.lineno})"}
    except MemoryError:
        return {"error": f"it takes more than {memory >> 20} MiB of memory"}
    except Exception as error:  # noqa: BLE001 - every fault of a template is reported
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    finally:
        set_timer(0)


def _answers(requests: Iterator[str]) -> Iterator[dict[str, Any]]:
    compiled = functools.lru_cache(_CACHED_TEMPLATES)(environment().from_string)
    yield {"ready": True}
    for line in requests:
        yield _answer(lambda request: _rendered(compiled(request["template"]), request), json.loads(line))


def _main(requests: TextIO, answers: TextIO) -> None:
    for kind in ("RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NPROC"):
        set_limit(kind, 0)
    for answer in _answers(iter(requests.readline, "")):
        if answer.get("ready"):  # from here on, errors are reported in answers
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _main(sys.stdin, sys.stdout)
