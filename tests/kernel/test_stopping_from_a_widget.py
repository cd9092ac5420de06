"""Stop, pressed while a cell waits for the run: the cell gets what was there by then, and the next cell works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kernel.conftest import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("smollm2_path"), pytest.mark.timeout(300)]

OPENING = """
import workbench as wb
from workbench.widgets import StreamView
bench = wb.Workbench()
bench.load()
settings = {"sampling_params": wb.SamplingParams(max_tokens=4000)}
view = StreamView(bench, mode="completion", settings=lambda: settings)
print(view.comm.comm_id)
"""
WAITING = """
run = view.start("Once upon a time")
first = next(iter(run))
print("waiting", flush=True)
response = run.result()
print(run.state, 0 < len(run.tokens) < 4000, response.completion_message.content == run.text != "")
"""


def test_stop_ends_a_run_that_a_cell_waits_for(kernel: Kernel) -> None:
    opened = kernel.run(OPENING)
    assert opened.error is None, opened
    comm_id = opened.stdout.strip()
    for _ in range(2):
        cell = kernel.start(WAITING)
        kernel.wait_for(cell, "waiting\n")
        kernel.click(comm_id, {"kind": "stop", "id": 1})
        shown = kernel.finish(cell, timeout_s=60)
        assert shown.error is None, shown
        assert shown.stdout == "cancelled True True\n"
    asked = "bench.completion('The capital of France is', sampling_params=wb.SamplingParams(max_tokens=8))"
    assert "Paris" in kernel.run(f"{asked}.result()").text
