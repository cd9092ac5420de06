"""Stop, pressed while a cell waits for the run: the cell gets what was there by then, and the next cell works."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.conftest import running_kernel

if TYPE_CHECKING:
    from tests.kernel.conftest import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("smollm2_path"), pytest.mark.timeout(300)]

BEFORE = "7.3.0"
"""The release of ipykernel before the one that is pinned: it sends clicks to widgets otherwise."""

OPENING = """
import ipykernel, workbench as wb
from workbench.widgets import StreamView
bench = wb.Workbench()
bench.load()
settings = {"sampling_params": wb.SamplingParams(max_tokens=4000)}
view = StreamView(bench, mode="completion", settings=lambda: settings)
print(ipykernel.__version__, view.comm.comm_id)
"""
WAITING = """
run = view.start("Once upon a time")
first = next(iter(run))
print("waiting", flush=True)
response = run.result()
print(run.state, 0 < len(run.tokens) < 4000, response.completion_message.content == run.text != "")
"""


@pytest.fixture(params=["pinned", BEFORE])
def stopping(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Kernel, str]]:
    """A kernel on either release, and that release."""
    if request.param == "pinned":
        with running_kernel() as kernel:
            yield kernel, version("ipykernel")
        return
    asked = ["install", "--quiet", "--no-deps", "--target", str(tmp_path), f"ipykernel=={BEFORE}"]
    pip = subprocess.run([sys.executable, "-m", "pip", *asked], capture_output=True, text=True, check=False, timeout=90)
    if pip.returncode != 0:
        pytest.skip(f"ipykernel {BEFORE} cannot be installed: {pip.stderr.strip()[-200:]}")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    with running_kernel(PYTHONPATH=os.pathsep.join(paths)) as kernel:
        yield kernel, BEFORE


def test_stop_ends_a_run_that_a_cell_waits_for(stopping: tuple[Kernel, str]) -> None:
    kernel, release = stopping
    opened = kernel.run(OPENING)
    assert opened.error is None, opened
    shown_release, comm_id = opened.stdout.split()
    assert shown_release == release
    for _ in range(2):
        cell = kernel.start(WAITING)
        kernel.wait_for(cell, "waiting")
        kernel.click(comm_id, {"kind": "stop", "id": 1})
        shown = kernel.finish(cell, timeout_s=60)
        assert shown.error is None, shown
        assert shown.stdout == "cancelled True True\n"
    asked = "bench.completion('The capital of France is', sampling_params=wb.SamplingParams(max_tokens=8))"
    assert "Paris" in kernel.run(f"{asked}.result()").text
