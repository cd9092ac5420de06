"""The engine's speed and exactness beside other programs, as `workbench bench` reports them on this machine."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

import pytest

INSTALLED = importlib.util.find_spec("xllamacpp") is not None
RIVALS = "llama.cpp" if INSTALLED else "transformers"


def bench(*options: str) -> dict[str, Any]:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "workbench", "bench", "--json", "--against", RIVALS, *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.fixture(scope="module")
def speeds() -> dict[tuple[str, str], dict[str, Any]]:
    report = bench("--rounds", "5")
    return {(result["metric"], result["contestant"]): result for result in report["results"]}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "metric,contestant,rival,least",
    [
        ("decode", "workbench float32", "transformers float32", 1.1),
        ("decode", "workbench bf16", "transformers bf16", 1.7),
        ("decode", "workbench int4", "transformers bf16", 3.5),
        ("decode", "workbench int4", "llama.cpp", 1.0),
        ("prefill", "workbench int4", "llama.cpp", 5),
        ("embeddings", "workbench batched", "plain loop", 2),
    ],
)
def test_ours_is_so_many_times_faster(
    speeds: dict[tuple[str, str], dict[str, Any]], metric: str, contestant: str, rival: str, least: float
) -> None:
    if rival == "llama.cpp" and not INSTALLED:
        pytest.skip("llama.cpp is not installed: pip install 'inference-workbench[bench]'")
    times = speeds[metric, contestant]["times_better"][rival]
    print(f"\n{metric}: {contestant} is {times:.2f} times {rival}, at least {least}")
    assert times >= least


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "metric,least", [("first token, warm against cold", 10), ("8 together against one alone", 3.5)]
)
def test_int4_gains_so_much_over_itself(
    speeds: dict[tuple[str, str], dict[str, Any]], metric: str, least: float
) -> None:
    times = speeds[metric, "workbench int4"]["median"]
    print(f"\n{metric}: {times:.2f}, at least {least}")
    assert times >= least


@pytest.mark.timeout(3600)
def test_int4_is_near_float32_and_nearer_than_llama_cpp() -> None:
    report = bench("--tasks", "exactness", "--precision", "int4", "--exactness-tokens", "2000")
    found = {one["contestant"]: one for one in report["exactness"]}
    for name, one in found.items():
        print(f"\n{name}: KL {one['mean_kl_nat']:.5f} nat, top-1 {one['top1_agreement']:.1%}")
    assert found["workbench int4"]["mean_kl_nat"] <= 0.003
    assert found["workbench int4"]["top1_agreement"] >= 0.96
    if INSTALLED:
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
