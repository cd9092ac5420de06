"""A report as text for the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from workbench.benchmarks.interleaving import Result
from workbench.benchmarks.measuring import Report

_GGUF_RIVALS = ("llama.cpp", "openvino")


def rivals_of(result: Result, others: Iterable[Result]) -> list[Result]:
    """Return the rivals' results to compare a result with: `generate` in float32 or bf16, and GGUF programs."""
    precision = result.contestant.rpartition(" ")[2]
    generate = f"transformers {'float32' if precision == 'float32' else 'bf16'}"
    named = (generate, *_GGUF_RIVALS, "plain loop")
    return [other for other in others if other.is_rival and other.contestant in named]


def as_json(report: Report) -> dict[str, Any]:
    """Return plain values; the workbench's results also say how many times better they are than the rivals'."""
    settings = report.settings
    return {
        "model": settings.model,
        "rounds": settings.rounds,
        "tokens": settings.tokens,
        "machine": report.machine,
        "memory": report.memory,
        "results": [_result(result, _same_metric(result, report.results)) for result in report.results],
        "exactness": report.exactness,
        "absences": report.absences,
    }


def lines(report: Report) -> Iterable[str]:
    """Yield the report's lines for a terminal."""
    machine = report.machine
    features = ", ".join(machine.features) or "no known CPU features"
    yield f"{report.settings.model} on {machine.processor}, {machine.threads} of {machine.cores} cores, {features}"
    yield ", ".join(f"{package} {version}" for package, version in machine.versions.items())
    yield f"{report.settings.rounds} rounds, programs in turn: median, (lowest .. highest), ratio of medians"
    for _, group in groupby(report.results, key=lambda result: result.metric):
        yield from _metric_lines(list(group))
    if report.exactness:
        yield from _exactness_lines(report)
    yield from _memory_lines(report)
    for absence in report.absences:
        yield f"left out of {absence.task}: {absence.contestant}: {absence.reason}"


def _metric_lines(results: Sequence[Result]) -> Iterable[str]:
    direction = "" if results[0].better == "higher" else ", lower is better"
    yield ""
    yield f"{results[0].metric} ({results[0].unit}{direction})"
    for result in results:
        ratios = [f"{result.times_better(rival):.2f}x {rival.contestant}" for rival in _rivals(result, results)]
        low, high = min(result.values), max(result.values)
        line = f"  {result.contestant:<22}{_figure(result.median):>9}  ({_figure(low)} .. {_figure(high)})"
        yield f"{line:<58}{', '.join(ratios)}".rstrip()


def _exactness_lines(report: Report) -> Iterable[str]:
    yield ""
    yield "exactness: KL from float32 in nats, mean over the model's own text; how often the top token is the same"
    for one in report.exactness:
        error = f"+- {one.standard_error_nat:.5f}"
        yield (
            f"  {one.contestant:<22}{one.mean_kl_nat:>9.5f}  {error:<14}{one.top1_agreement:>7.1%} of {one.tokens:,}"
        )


def _memory_lines(report: Report) -> Iterable[str]:
    yield ""
    yield "memory: weights, whole process"
    for name, memory in report.memory.items():
        weights = "unknown" if memory.weights_bytes is None else f"{memory.weights_bytes / 1e6:,.0f} MB"
        yield f"  {name:<22}{weights:>9}{memory.resident_bytes / 1e6:>9,.0f} MB"


def _result(result: Result, others: Sequence[Result]) -> dict[str, Any]:
    return {
        "task": result.task,
        "metric": result.metric,
        "unit": result.unit,
        "better": result.better,
        "contestant": result.contestant,
        "median": result.median,
        "lowest": min(result.values),
        "highest": max(result.values),
        "values": result.values,
        "times_better": {rival.contestant: result.times_better(rival) for rival in _rivals(result, others)},
    }


def _rivals(result: Result, others: Sequence[Result]) -> list[Result]:
    """Return the rivals of a result; none for a rival's own result, or for a ratio."""
    return [] if result.is_rival or result.unit == "times" else rivals_of(result, others)


def _same_metric(result: Result, results: Sequence[Result]) -> list[Result]:
    return [other for other in results if other.metric == result.metric]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
