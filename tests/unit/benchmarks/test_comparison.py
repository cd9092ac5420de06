from __future__ import annotations

import pytest

from workbench.benchmarks.comparison import GOALS, Goal, best_peer, goals_of, rivals_of, verdicts
from workbench.benchmarks.interleaving import Result
from workbench.benchmarks.tasks import TASKS


def result(
    contestant: str, *values: float, metric: str = "decode", unit: str = "tok/s", better: str = "higher"
) -> Result:
    rival = not contestant.startswith("workbench")
    return Result("task", metric, unit, better, contestant, rival, values)


FIGURES = [
    result("workbench int4", 90, 100, 500),
    result("workbench float32", 30),
    result("transformers float32", 20),
    result("transformers bf16", 25),
    result("llama.cpp", 80),
    result("openvino", 50),
    result("openvino", 400, metric="prefill"),
]


def test_float32_is_compared_with_float32_and_fewer_bits_with_both() -> None:
    int4, float32 = FIGURES[:2]
    assert [rival.contestant for rival in rivals_of(int4, FIGURES)] == [
        *("transformers float32", "transformers bf16", "llama.cpp", "openvino")
    ]
    assert [rival.contestant for rival in rivals_of(float32, FIGURES)] == [
        *("transformers float32", "llama.cpp", "openvino")
    ]
    assert rivals_of(FIGURES[2], FIGURES) == []


def test_a_ratio_is_compared_with_nobody() -> None:
    mine, theirs = (result(name, 3, unit="times") for name in ("workbench int4", "llama.cpp"))
    assert rivals_of(mine, [mine, theirs]) == []


@pytest.mark.parametrize("better,expected", [("higher", "llama.cpp"), ("lower", "transformers float32")])
def test_the_best_peer_is_best_in_the_direction_of_the_metric(better: str, expected: str) -> None:
    figures = [result(one.contestant, *one.values, better=better) for one in FIGURES[:6]]
    best = best_peer(figures[0], rivals_of(figures[0], figures))
    assert best is not None
    assert best.contestant == expected
    assert best_peer(figures[0], []) is None


def test_a_goal_is_measured_at_the_best_of_its_rivals() -> None:
    goal = Goal(metric="decode", rivals=("transformers bf16", "openvino"), times=2)
    (verdict,) = verdicts(FIGURES, [goal])
    assert (verdict.against, verdict.times, verdict.is_met) == ("openvino", 2, True)
    (missed,) = verdicts(FIGURES, [Goal(metric="decode", rivals=("llama.cpp",), times=1.26)])
    assert (missed.times, missed.is_met) == (1.25, False)


def test_a_rival_that_uses_more_of_the_processor_counts_neither_as_rival_nor_for_a_goal() -> None:
    goal = Goal(metric="decode", rivals=("transformers bf16", "openvino"), times=2)
    (verdict,) = verdicts(FIGURES, [goal], not_held=["openvino"])
    assert verdict.against == "transformers bf16"
    assert "openvino" not in [rival.contestant for rival in rivals_of(FIGURES[0], FIGURES, ["openvino"])]


@pytest.mark.parametrize("seconds,met", [(3.0, True), (5.0, False)])
def test_a_bound_on_time_is_a_multiple_of_the_rivals_time(seconds: float, met: bool) -> None:
    figures = [
        result("workbench complete", seconds, metric="cold", better="lower"),
        result("import torch", 2, metric="cold", better="lower"),
    ]
    goal = Goal(metric="cold", contestant="workbench complete", rivals=("import torch",), times=2, at_most=True)
    (verdict,) = verdicts(figures, [goal])
    assert (verdict.times, verdict.is_met) == (seconds / 2, met)


def test_a_metric_that_is_a_ratio_is_its_own_verdict() -> None:
    figures = [result("workbench int4", 3.4, 3.6, 9, metric="8 together against one alone", unit="times")]
    (verdict,) = verdicts(figures, [Goal(metric="8 together against one alone", times=3.5)])
    assert (verdict.against, verdict.times, verdict.is_met) == ("", 3.6, True)


def test_what_was_not_measured_has_no_verdict() -> None:
    goals = [Goal(metric="prefill", rivals=("openvino",), times=1), Goal(metric="decode", rivals=("vllm",), times=1)]
    assert verdicts(FIGURES, goals) == []


def test_every_goal_is_about_a_metric_that_is_measured() -> None:
    metrics = {metric.name for task in TASKS for metric in task.metrics}
    for goal in (goal for goals in GOALS.values() for goal in goals):
        assert goal.metric in metrics or goal.metric.startswith("ids equal")


@pytest.mark.parametrize(
    "features,processor,busy,expected",
    [
        (("avx2", "avx512f"), None, 0, ("avx512", 0)),
        (("avx2", "avx512f"), None, 1, ("avx512", 1)),
        (("avx2", "avx512f"), "avx2", 0, ("avx2", 0)),
        (("avx2",), None, 0, ("avx2", 0)),
    ],
)
def test_goals_are_those_of_the_instructions_that_programs_can_use(
    features: tuple[str, ...], processor: str | None, busy: int, expected: tuple[str, int]
) -> None:
    assert goals_of(features, processor, busy) == GOALS[expected]


@pytest.mark.parametrize("features,busy", [((), 0), (("asimd",), 0), (("avx2",), 1), (("avx512f",), 2)])
def test_conditions_that_were_never_measured_have_no_goals(features: tuple[str, ...], busy: int) -> None:
    assert goals_of(features, None, busy) == ()
