from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest


@pytest.mark.usefixtures("smollm2_path")
def test_a_cold_process_gives_its_first_token_in_less_than_eight_seconds() -> None:
    command = [sys.executable, "-m", "workbench", "complete", "The capital of France is", "--max-tokens", "8"]
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
            assert process.stdout is not None
            assert process.stdout.read(1)
            seconds.append(time.perf_counter() - started)
    print(f"\ncold process to first token: {statistics.median(seconds):.2f} s (median of {len(seconds)})")
    assert statistics.median(seconds) < 8
