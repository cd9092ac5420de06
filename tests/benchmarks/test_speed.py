"""The engine's speed and exactness beside other programs, as `workbench bench` reports them on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest

from workbench.benchmarks.comparison import GOALS, Goal

INSTALLED = [name for name, module in (("llama.cpp", "xllamacpp"), ("openvino", "openvino_genai")) if find_spec(module)]
OPTIONS = {("avx512", 0): [], ("avx512", 1): ["--busy", "1", "--tasks", "decode"], ("avx2", 0): ["--processor", "avx2"]}
"""Options of the runs, by the conditions of `GOALS`."""


def bench(*options: str) -> dict[str, Any]:
    """One run in a process of its own."""
    rivals = ",".join(INSTALLED or ["transformers"])
    command = [sys.executable, "-m", "workbench", "bench", "--json", "--against", rivals, *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@cache
def measured(condition: tuple[str, int]) -> dict[tuple[str, str, tuple[str, ...]], dict[str, Any]]:
    """Return what one run under a condition reached, by metric, contestant and rivals of the goal."""
    reached = bench("--rounds", "5", *OPTIONS[condition])["goals"]
    return {(one["metric"], one["contestant"], tuple(one["rivals"])): one for one in reached}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "condition,goal",
    [
        pytest.param(condition, goal, id="-".join(map(str, (*condition, goal.metric, goal.contestant, *goal.rivals))))
        for condition, goals in GOALS.items()
        for goal in goals
    ],
)
def test_ours_is_so_many_times_better(condition: tuple[str, int], goal: Goal) -> None:
    one = measured(condition).get((goal.metric, goal.contestant, goal.rivals))
    if one is None:
        pytest.skip("it needs another processor, the extra `bench`, or Gemma (`workbench bench --tasks gemma`)")
    bound = f"{'at most' if goal.at_most else 'at least'} {goal.times}"
    print(f"\n{goal.metric}: {goal.contestant} {one['times']:.2f} times {one['against']}, {bound}")
    assert one["met"]


@pytest.mark.timeout(3600)
def test_int4_is_near_float32_and_nearer_than_llama_cpp() -> None:
    report = bench("--tasks", "exactness", "--precision", "int4", "--exactness-tokens", "2000")
    found = {one["contestant"]: one for one in report["exactness"]}
    for name, one in found.items():
        print(f"\n{name}: KL {one['mean_kl_nat']:.5f} nat, top-1 {one['top1_agreement']:.1%}")
    assert found["workbench int4"]["mean_kl_nat"] <= 0.003
    assert found["workbench int4"]["top1_agreement"] >= 0.96
    if "llama.cpp" in INSTALLED:
        assert found["workbench int4"]["mean_kl_nat"] < found["llama.cpp"]["mean_kl_nat"]


SERVE = """
import psutil
from workbench import LogProbConfig, SamplingParams, Workbench
with Workbench() as bench:
    bench.completion("The capital of France is", sampling_params=SamplingParams(max_tokens=32),
                     logprobs=LogProbConfig(top_k=5)).result()
    print(psutil.Process().memory_info().rss)
"""


@pytest.mark.usefixtures("smollm2_path")
def test_a_process_that_serves_the_default_model_holds_less_than_900_mb() -> None:
    done = subprocess.run([sys.executable, "-c", SERVE], check=True, capture_output=True, text=True)
    resident_mb = int(done.stdout) / 1e6
    print(f"\nresident memory: {resident_mb:.0f} MB")
    assert resident_mb < 900
