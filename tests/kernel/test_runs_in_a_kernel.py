from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kernel.conftest import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("smollm2_path", "bench")]

LONG = "bench.completion('Once upon a time', sampling_params=wb.SamplingParams(max_tokens=4000))"

TELL_WHEN_WAITING = """
import sys, threading, time
started = threading.Event()
def tell():
    started.wait()  # starting a thread is waiting, too
    while sys._current_frames()[threading.main_thread().ident].f_code.co_name not in ('wait', 'select'):
        time.sleep(0.01)
    print('it waits', flush=True)
threading.Thread(target=tell).start()
started.set()
"""
"""What a cell says from another thread once its own one stands still: in a lock, or in the event loop's selector."""


@pytest.fixture(scope="module")
def bench(kernel: Kernel) -> None:
    """``wb`` and ``bench``, as in a notebook's first cell; the model is loaded."""
    opened = kernel.run("import workbench as wb; bench = wb.Workbench(); bench.load(); None")
    assert opened.error is None, opened


def test_a_cell_that_starts_a_run_returns_before_the_answer(kernel: Kernel) -> None:
    shown = kernel.run(f"run = {LONG}\nprint(run.done)")
    assert shown.stdout == "False\n"
    assert kernel.run("run.cancel(); run.wait(60), run.state").text == "(True, 'cancelled')"


def test_a_later_cell_reads_the_result(kernel: Kernel) -> None:
    kernel.run("run = bench.completion('The capital of France is', sampling_params=wb.SamplingParams(max_tokens=8))")
    assert "Paris" in kernel.run("run.result().completion_message.content").text


def test_a_run_can_be_awaited_at_the_top_of_a_cell(kernel: Kernel) -> None:
    code = "await bench.completion('The capital of France is', sampling_params=wb.SamplingParams(max_tokens=8))"
    assert "Paris" in kernel.run(f"response = {code}\nresponse.completion_message.content").text


def test_a_run_can_be_looped_over_with_async_for(kernel: Kernel) -> None:
    code = """
    run = bench.completion('The capital of France is', sampling_params=wb.SamplingParams(max_tokens=8))
    deltas = [chunk.delta async for chunk in run]
    ''.join(deltas) == run.text
    """
    assert kernel.run(code).text == "True"


@pytest.mark.parametrize("wait", ["run.result()", "await run", "[chunk for chunk in run]"])
def test_interrupting_a_cell_that_waits_stops_the_run_and_the_next_cell_works(kernel: Kernel, wait: str) -> None:
    kernel.run(f"run = {LONG}")
    cell = kernel.start(f"{TELL_WHEN_WAITING}\n{wait}")
    kernel.wait_for(cell, "it waits")
    kernel.interrupt()
    assert kernel.finish(cell).error in ("KeyboardInterrupt", "CancelledError")
    assert kernel.run("run.wait(60), run.state").text == "(True, 'cancelled')"
    assert (
        "Paris"
        in kernel.run(
            "bench.completion('The capital of France is', sampling_params=wb.SamplingParams(max_tokens=8)).result()"
        ).text
    )


def test_an_error_reaches_the_cell_with_its_type(kernel: Kernel) -> None:
    shown = kernel.run("bench.completion('x', model='no-such-model').result()")
    assert shown.error == "ModelNotFoundError"
