"""Ratios of the workbench's figures to other programs', and the ratios that it is meant to reach."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from workbench.benchmarks.cold_start import COMPLETE, IMPORT_TORCH
from workbench.benchmarks.exactness import SAME_IDS
from workbench.benchmarks.gemma import NAME as GEMMA_3
from workbench.benchmarks.interleaving import Result
from workbench.benchmarks.tasks import TOGETHER

_GGUF = ("llama.cpp", "openvino")
_PEERS = ("transformers float32", "transformers bf16", *_GGUF)
_OTHERS = ("plain loop", IMPORT_TORCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A ratio that a contestant of the workbench is meant to reach on a common kind of machine."""

    metric: str
    contestant: str = "workbench int4"
    rivals: tuple[str, ...] = ()
    """Programs of which the best is compared; none if the metric is a ratio itself."""
    times: float
    at_most: bool = False
    """Whether the goal is a bound on how many times the rival's time is needed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was reached of a goal."""

    goal: Goal
    against: str
    """The best of the goal's rivals; empty if the metric is a ratio itself."""
    times: float

    @property
    def is_met(self) -> bool:
        return self.times <= self.goal.times if self.goal.at_most else self.times >= self.goal.times


_QUIET = (
    Goal(metric="decode", contestant="workbench float32", rivals=("transformers float32",), times=1.1),
    Goal(metric="decode", contestant="workbench bf16", rivals=("transformers bf16",), times=1.7),
    Goal(metric="decode", rivals=("transformers bf16",), times=3.5),
    Goal(metric="decode", rivals=("llama.cpp",), times=2.0),
    Goal(metric="prefill", rivals=("transformers bf16", "openvino"), times=1.3),
    Goal(metric="prefill", contestant="workbench bf16", rivals=("transformers bf16", "openvino"), times=1.3),
    Goal(metric="prefill", rivals=("llama.cpp",), times=5.0),
    Goal(metric="first token, cold", rivals=_PEERS, times=1.3),
    Goal(metric="first token, warm", rivals=_PEERS, times=1.0),
    Goal(metric="first token, warm against cold", times=10.0),
    Goal(metric=f"{TOGETHER} together against one alone", times=3.5),
    Goal(metric=f"{TOGETHER} together", rivals=_PEERS, times=2.0),
    Goal(metric="embeddings", contestant="workbench batched", rivals=("plain loop",), times=2.5),
    Goal(
        metric="cold process to the first token", contestant=COMPLETE, rivals=(IMPORT_TORCH,), times=2.0, at_most=True
    ),
    Goal(metric=SAME_IDS, contestant="workbench float32", times=1.0),
    Goal(metric=f"decode, {GEMMA_3}", contestant="workbench bf16", rivals=("transformers bf16",), times=1.5),
    Goal(metric=f"decode, {GEMMA_3}", rivals=("transformers bf16",), times=2.5),
    Goal(metric=f"{SAME_IDS}, {GEMMA_3}", contestant="workbench float32", times=1.0),
)
_BUSY = (Goal(metric="decode", rivals=("llama.cpp",), times=1.2),)
_AVX2 = (
    Goal(metric="decode", rivals=("transformers float32",), times=3.5),
    Goal(metric="prefill", rivals=("transformers float32",), times=1.5),
    Goal(metric="first token, cold", rivals=("transformers float32",), times=1.3),
    Goal(metric="embeddings", contestant="workbench batched", rivals=("plain loop",), times=1.5),
)
_FILE = (Goal(metric="decode", contestant="workbench file", rivals=("llama.cpp",), times=1.2),)

GOALS = {("avx512", 0): _QUIET, ("avx512", 1): _BUSY, ("avx2", 0): _AVX2}
"""Goals for the embedded models on two cores, by instruction set and number of cores that are kept busy."""


def goals_of(
    features: Collection[str], processor: str | None, busy: int, precisions: Collection[str] = ()
) -> tuple[Goal, ...]:
    """Return the goals for a run on a processor with ``features``, held to ``processor`` unless that is None.

    A GGUF file in its own precision, ``file``, has goals of its own.
    """
    if "file" in precisions:
        return _FILE
    own = next((name for feature, name in (("avx512f", "avx512"), ("avx2", "avx2")) if feature in features), "")
    return GOALS.get((processor or own, busy), ())


def rivals_of(result: Result, others: Iterable[Result], not_held: Collection[str] = ()) -> list[Result]:
    """Return the rivals' results to compare a result with; none for a rival's own result, or for a ratio.

    `generate` is compared in float32, and in bf16 unless the result is float32's. Rivals in ``not_held`` used more of
    the processor than the workbench did, so they are left out.
    """
    if result.is_rival or result.unit in ("times", "share"):
        return []
    exact = result.contestant.endswith(" float32")
    named = [name for name in (*_PEERS, *_OTHERS) if name not in not_held and not (exact and name.endswith(" bf16"))]
    return [other for other in others if other.is_rival and other.metric == result.metric and other.contestant in named]


def best_peer(result: Result, rivals: Sequence[Result]) -> Result | None:
    """Return the result of the best of several rivals; None if there is no rival."""
    return min(rivals, key=result.times_better, default=None)


def verdicts(results: Sequence[Result], goals: Sequence[Goal], not_held: Collection[str] = ()) -> list[Verdict]:
    """Return what was reached of the goals of which everything was measured."""
    found = {(result.metric, result.contestant): result for result in results}
    reached = []
    for goal in goals:
        result = found.get((goal.metric, goal.contestant))
        if result is None:
            continue
        if not goal.rivals:
            reached.append(Verdict(goal, "", result.median))
            continue
        rivals = [found.get((goal.metric, name)) for name in goal.rivals if name not in not_held]
        if best := best_peer(result, [rival for rival in rivals if rival is not None]):
            times = result.times_better(best)
            reached.append(Verdict(goal, best.contestant, 1 / times if goal.at_most else times))
    return reached
