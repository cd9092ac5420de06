"""What looking inside costs: a lens beside decode steps, one that is known already, and the memory of captures."""

from __future__ import annotations

import itertools
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
    """The lens of a token is that of all 30 layers: one more decode step, and 30 rows through the head."""
    with Workbench(precision=precision) as bench:
        params = SamplingParams(max_tokens=TOKENS, logit_bias={0: -100.0, 2: -100.0})
        run = bench.completion(PROMPT, sampling_params=params)
        run.result()
        run.lens_columns([0])  # the first look reads the prompt
        live = [seconds(lambda position=position: run.lens_columns([position])) for position in range(1, TOKENS)]  # type: ignore[misc]
        again = bench.completion(PROMPT, sampling_params=params)
        again.result()
        steps = [token.elapsed_s for token in again.tokens]
        step = statistics.median(after - before for before, after in itertools.pairwise(steps))
        lens = statistics.median(live)
        known = seconds(run.lens_columns)
        whole = bench.completion(PROMPT, sampling_params=params)
        whole.result()
        together = seconds(whole.lens_columns)
    print(
        f"\n{precision}: a decode step takes {step * 1e3:.1f} ms, the lens of its token {lens * 1e3:.1f} ms more: "
        f"{(step + lens) / step:.2f}x the step; all {TOKENS} tokens at once {together * 1e3:.0f} ms, "
        f"when they are known {known * 1e3:.2f} ms"
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
        assert grown <= 1.2 * told
