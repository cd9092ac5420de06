"""A template computes what it likes, in a process that ends where it likes too much."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.budget import some
from tests.systems import needs_fork
from workbench.errors import TemplateProcessError
from workbench.prompts import template_process
from workbench.prompts.template_process import Limits, TemplateError, TemplateProcess


@pytest.fixture(scope="module")
def process() -> Iterator[TemplateProcess]:
    process = TemplateProcess()
    yield process
    process.close()


def rendered(process: TemplateProcess, template: str, max_characters: int = 10_000, **variables: Any) -> str:
    return process.render(template, variables, Limits(cpu_s=0.2, characters=max_characters)).text


BOMBS = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a power": "{{ 2 ** (10 ** 9) }}",
    "a long text": "{{ 'a' * 10 ** 7 }}",
    "an endless text": "{{ 'a' * 10 ** 10 }}",
    "a wide text": "{{ 'a' | center(10 ** 10) }}",
    "a format": "{{ '%1000000000d' % 1 }}",
    "a doubled text": "{% set n = namespace(a='x') %}{% for i in range(99) %}{% set n.a = n.a + n.a %}{% endfor %}",
    "many short texts": "{% for i in range(99999) %}{{ 'x' * 99 }}{% endfor %}",
    "a list": "{{ ([1] * 10 ** 9) | length }}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "many brackets": "{{ " + "(" * 20_000 + "}}",
}
ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(x) }}",
    "{{ dict.__base__.__subclasses__() }}",
    "{{ 'a'.strip.__func__.__globals__ }}",
    "{{ ('a'.split | attr('__func__')).__globals__ }}",
    "{{ '{0.__func__.__globals__}'.format('a'.join) }}",
    "{{ namespace(_x=1) }}",
    "{{ messages.append(1) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
)


@pytest.mark.parametrize("bomb", some([*BOMBS], at_least=2))
def test_a_template_without_end_is_stopped_and_the_next_one_renders(process: TemplateProcess, bomb: str) -> None:
    with pytest.raises(TemplateError):
        rendered(process, BOMBS[bomb])
    assert rendered(process, "{{ x }}!", x="hello") == "hello!"


@pytest.mark.parametrize("template", ESCAPES)
def test_a_template_stays_in_its_sandbox(process: TemplateProcess, template: str) -> None:
    with pytest.raises(TemplateError):
        rendered(process, template, messages=[], x=1)


def test_what_a_template_raises_is_told_in_its_own_words(process: TemplateProcess) -> None:
    with pytest.raises(TemplateError, match=r"^Only user turns$"):
        rendered(process, "{{ raise_exception('Only user turns') }}")
    with pytest.raises(TemplateError, match=r"has a syntax error.*line 2"):
        rendered(process, "\n{% for %}")


def test_a_text_of_any_characters_comes_back(process: TemplateProcess) -> None:
    text = (
        "".join(
            map(chr, (*range(0xD800), *range(0xE000, 0x11000), *range(0xEFFF0, 0xF0010), *range(0x10FFF0, 0x110000)))
        )
        + "\r\n\0"
    )
    assert rendered(process, "{{ x }}", max_characters=10**6, x=text) == text


def test_many_threads_get_each_their_own_text(process: TemplateProcess) -> None:
    wrong: list[str] = []

    def work(index: int) -> None:
        for turn in range(30):
            text = f"{index}.{turn}"
            if rendered(process, "{{ x }}" + " " * index, x=text).strip() != text:
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "bomb, told",
    [
        ("nested loops", r"more than 0.2 s of CPU time$"),
        ("a list", r"more than 256 MiB of memory$"),
        ("a long text", r"more than 10,000 characters$"),
    ],
)
def test_the_limit_that_was_hit_is_named(process: TemplateProcess, bomb: str, told: str) -> None:
    with pytest.raises(TemplateError, match=told):
        rendered(process, BOMBS[bomb])


QUADRATIC = (
    "{% for m in messages %}{% set ns = namespace(n=0) %}{% for o in messages %}"
    "{% if o.role == m.role and o.content == m.content %}{% set ns.n = ns.n + 1 %}{% endif %}"
    "{% endfor %}{{ m.role ~ ns.n }}{% endfor %}"
)


def test_limits_grow_with_the_conversation(process: TemplateProcess) -> None:
    turns = [{"role": role, "content": "text " * 20} for _ in range(200) for role in ("user", "assistant")]
    with pytest.raises(TemplateError, match="CPU time"):
        process.render(QUADRATIC, {"messages": turns}, Limits(cpu_s=0.05))
    assert process.render(QUADRATIC, {"messages": turns}, Limits.of(400, 10**5)).text.startswith("user200assistant200")


def test_a_process_that_was_killed_is_replaced() -> None:
    process = TemplateProcess()
    assert rendered(process, "{{ 1 }}") == "1"
    running = process._process
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert rendered(process, "{{ 2 }}") == "2"
    process.close()
    process.close()
    assert rendered(process, "{{ 3 }}") == "3"
    process.close()


BUSY = "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"
LONG = Limits(cpu_s=60)


def killed_soon(process: TemplateProcess, number: signal.Signals) -> threading.Thread:
    """Sends the signal once the process renders."""
    rendered(process, "{{ 1 }}")
    running = process._process
    assert running is not None
    thread = threading.Timer(0.3, os.kill, (running.pid, number))
    thread.start()
    return thread


def test_a_process_that_is_killed_while_it_renders_is_told_of_at_once(process: TemplateProcess) -> None:
    killer = killed_soon(process, signal.SIGKILL)
    with pytest.raises(TemplateProcessError, match="was ended by SIGKILL while rendering"):
        process.render(BUSY, {}, LONG)
    killer.join()
    assert rendered(process, "{{ 1 }}") == "1"


def test_a_process_that_stands_still_is_not_waited_for(
    process: TemplateProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_process, "_WAIT_S", 1.0)
    monkeypatch.setattr(template_process, "_WAIT_PER_CPU_S", 0)
    stopper = killed_soon(process, signal.SIGSTOP)
    with pytest.raises(TemplateProcessError, match="did not answer within 1 s"):
        process.render(BUSY, {}, LONG)
    stopper.join()
    assert rendered(process, "{{ 1 }}") == "1"


def test_a_pipe_that_was_closed_is_told_of_or_opened_anew(process: TemplateProcess) -> None:
    for name in ("stdin", "stdout"):
        rendered(process, "{{ 1 }}")
        getattr(process._process, name).close()
        assert rendered(process, "{{ 2 }}") == "2"
    pipe: Any = process._process.stdin  # type: ignore[union-attr]
    os.close(pipe.fileno())
    with pytest.raises(TemplateProcessError, match="pipes were closed"):
        rendered(process, "{{ 3 }}")
    assert rendered(process, "{{ 4 }}") == "4"


@pytest.mark.parametrize(
    "module, source, told",
    [
        ("jinja2", "raise RuntimeError('broken here')", r"failed to start: RuntimeError: broken here$"),
        ("jinja2", "import os; os._exit(3)", r"failed to start: exit status 3$"),
        ("jinja2", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"failed to start: SIGKILL$"),
    ],
)
def test_a_process_that_dies_at_its_start_is_no_fault_of_the_template(
    module: str, source: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TemplateProcessError, match=told):
        rendered(TemplateProcess(), "{{ 1 }}")


def test_a_process_that_cannot_be_started_is_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(TemplateProcessError, match="cannot be started"):
        rendered(TemplateProcess(), "{{ 1 }}")


REFUSED = """
RLIMIT_AS = RLIMIT_CORE = RLIMIT_FSIZE = RLIMIT_NPROC = 1
RLIM_INFINITY = -1
def getrlimit(kind): return (-1, -1)
def setrlimit(kind, limits): raise ValueError('current limit exceeds maximum limit')
"""


@pytest.mark.parametrize(
    "source",
    [
        "raise ImportError('no such module')",
        REFUSED,
        "RLIM_INFINITY = -1\ndef getrlimit(kind): raise OSError('not here')\n",
    ],
    ids=["no module", "refused", "unknown kinds"],
)
def test_a_limit_that_the_system_does_not_know_or_refuses_is_skipped(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "resource.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    process = TemplateProcess()
    assert rendered(process, "{{ x }}", x="y") == "y"
    with pytest.raises(TemplateError, match="CPU time"):
        process.render(BOMBS["nested loops"], {}, Limits(cpu_s=0.1))
    process.close()


def ran(program: str) -> str:
    """What a program prints within a minute, with its standard input closed."""
    start = "import os, sys, threading, time\nfrom workbench.prompts.template_process import PROCESS, Limits\n"
    closed = f"{start}os.close(0)\n{program}"
    done = subprocess.run([sys.executable, "-c", closed], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_a_process_whose_standard_input_is_closed_renders() -> None:
    assert ran("print(PROCESS.render('{{ 1 + 1 }}', {}, Limits()).text)") == "2\n"


@needs_fork
def test_after_a_fork_in_the_middle_of_a_rendering_both_processes_render() -> None:
    program = """
busy = "{% for i in range(999) %}{% for j in range(999) %}{% endfor %}{% endfor %}whole"
texts = []
PROCESS.render("{{ 0 }}", {}, Limits())
thread = threading.Thread(target=lambda: texts.append(PROCESS.render(busy, {}, Limits(cpu_s=50)).text))
thread.start()
while not PROCESS._lock.locked():
    time.sleep(0.001)
child = os.fork()
if child == 0:
    os._exit(7 if PROCESS.render("{{ 6 + 1 }}", {}, Limits()).text == "7" else 1)
thread.join()
texts.append(PROCESS.render("again", {}, Limits()).text)
print(texts, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert ran(program) == "['whole', 'again'] 7\n"


def test_it_ends_with_the_process_that_started_it() -> None:
    """Even where that one is killed: its standard input closes then."""
    program = (
        "import os, signal\n"
        "from workbench.prompts.template_process import PROCESS, Limits\n"
        "PROCESS.render('{{ 1 }}', {}, Limits())\n"
        "print(PROCESS._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    pid = int(ended.stdout)
    for _ in range(10_000):
        if not _is_running(pid):
            return
        threading.Event().wait(0.01)
    pytest.fail("the process outlived the one that started it")


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - the process may end meanwhile
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
