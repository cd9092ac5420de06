"""What looking inside costs: a lens beside decode steps, one that is known already, and the memory of captures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from workbench import SamplingParams, Workbench

TOKENS = 60
PROMPT = "Once upon a time, in a small village by the sea, there lived an old woman who told everyone that"


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


@pytest.mark.timeout(600)
@pytest.mark.parametrize("precision", ["int4", "bf16", "float32"])
def test_a_live_lens_takes_at_most_four_steps_and_a_known_one_no_time(smollm2_path: Any, precision: str) -> None:
    """The lens of all 30 layers is read while a run streams, as a view reads it: all that is new, again and again."""
    params = SamplingParams(max_tokens=TOKENS, logit_bias={0: -100.0, 2: -100.0})

    def streamed() -> None:
        bench.completion(PROMPT, sampling_params=params).result()

    def watched() -> None:
        run = bench.completion(PROMPT, sampling_params=params)
        while not run.done or len(run.lens_columns()) < TOKENS:
            if run.tokens:
                run.lens_columns()

    with Workbench(precision=precision) as bench:
        streamed()
        watched()
        plain, live = (statistics.median(seconds(action) for _ in range(5)) for action in (streamed, watched))
        run = bench.completion(PROMPT, sampling_params=params)
        run.result()
        whole, known = seconds(run.lens_columns), seconds(run.lens_columns)
    print(
        f"\n{precision}: {TOKENS} tokens take {plain * 1e3:.0f} ms, with the lens of all layers {live * 1e3:.0f} ms: "
        f"{live / plain:.2f}x; the lens of all afterwards takes {whole * 1e3:.0f} ms, and "
        f"{known * 1e3:.2f} ms when it is known"
    )
    assert known < 0.05


@pytest.mark.timeout(600)
def test_the_memory_of_a_capture_is_what_was_told_before(smollm2_path: Any) -> None:
    with Workbench(precision="int4") as bench:
        text = " ".join([PROMPT] * 30)
        run = bench.completion(text, sampling_params=SamplingParams(max_tokens=4))
        run.result()
        names = [name.replace(".{layer}", "") for name in bench.points()["name"] if name != "lm_head"]
        positions = range(500)
        told, before = run.capture_bytes(names, positions), psutil.Process().memory_info().rss
        captured = run.capture(names, positions)
        grown = psutil.Process().memory_info().rss - before
        print(
            f"\nall points of {len(positions)} tokens but the logits: told {told / 2**20:.0f} MiB at its peak, "
            f"kept {captured.nbytes / 2**20:.0f} MiB, the process grew by {grown / 2**20:.0f} MiB"
        )
        assert captured.nbytes <= told
