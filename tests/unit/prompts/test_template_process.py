"""A template computes what it likes, in a process that ends where it likes too much."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from workbench.prompts.template_process import Limits, TemplateError, TemplateProcess


@pytest.fixture(scope="module")
def process() -> Iterator[TemplateProcess]:
    process = TemplateProcess()
    yield process
    process.close()


def rendered(process: TemplateProcess, template: str, max_characters: int = 10_000, **variables: Any) -> str:
    return process.render(template, variables, Limits(characters=max_characters)).text


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
    "{{ messages.append(1) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
)


@pytest.mark.parametrize("bomb", BOMBS)
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
    with pytest.raises(TemplateError, match=r"cannot be read.*line 2"):
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
