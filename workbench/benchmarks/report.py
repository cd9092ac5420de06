"""A report as text for the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from workbench.benchmarks.comparison import Verdict, best_peer, goals_of, rivals_of, verdicts
from workbench.benchmarks.interleaving import Result
from workbench.benchmarks.measuring import Report


def as_json(report: Report) -> dict[str, Any]:
    """Return plain values; the workbench's results also say how many times better they are than the rivals'."""
    settings = report.settings
    return {
        "model": settings.model,
        "rounds": settings.rounds,
        "tokens": settings.tokens,
        "processor": settings.processor,
        "busy": settings.busy,
        "machine": report.machine,
        "memory": report.memory,
        "results": [_result(result, report) for result in report.results],
        "goals": [_verdict(verdict) for verdict in _verdicts(report)],
        "not_held": report.not_held,
        "exactness": report.exactness,
        "absences": report.absences,
    }


def lines(report: Report) -> Iterable[str]:
    """Yield the report's lines for a terminal."""
    machine = report.machine
    features = ", ".join(machine.features) or "no known CPU features"
    yield f"{report.settings.model} on {machine.processor}, {machine.threads} of {machine.cores} cores, {features}"
    yield ", ".join(f"{package} {version}" for package, version in machine.versions.items())
    yield from _condition_lines(report)
    yield f"{report.settings.rounds} rounds, programs in turn: median, (lowest .. highest), ratio of medians"
    for _, group in groupby(report.results, key=lambda result: result.metric):
        yield from _metric_lines(list(group), report)
    if report.exactness:
        yield from _exactness_lines(report)
    yield from _memory_lines(report)
    yield from _goal_lines(report)
    for absence in report.absences:
        yield f"left out of {absence.task}: {absence.contestant}: {absence.reason}"


def _condition_lines(report: Report) -> Iterable[str]:
    settings = report.settings
    if settings.busy:
        yield f"cores kept busy by other processes: {settings.busy}"
    if settings.processor:
        yield f"all programs held to {settings.processor}"
        for name, used in report.not_held.items():
            yield f"not held to {settings.processor}, so not compared: {name}, which uses {used}"


def _metric_lines(results: Sequence[Result], report: Report) -> Iterable[str]:
    direction = "" if results[0].better == "higher" else ", lower is better"
    yield ""
    yield f"{results[0].metric} ({results[0].unit}{direction})"
    for result in results:
        rivals = rivals_of(result, results, report.not_held)
        ratios = [f"{result.times_better(rival):.2f}x {rival.contestant}" for rival in rivals]
        if len(rivals) > 1 and (best := best_peer(result, rivals)):
            ratios.append(f"{result.times_better(best):.2f}x best peer")
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
        yield f"  {name:<38}{weights:>9}{memory.resident_bytes / 1e6:>9,.0f} MB"


def _goal_lines(report: Report) -> Iterable[str]:
    found = _verdicts(report)
    if not found:
        return
    yield ""
    yield "goals: reached, of what is meant to be reached"
    for verdict in found:
        goal = verdict.goal
        what = f"{goal.metric}: {goal.contestant}" + (f" against {verdict.against}" if verdict.against else "")
        bound = f"{'at most' if goal.at_most else 'at least'} {goal.times:.2f}x"
        yield f"  {what:<78}{verdict.times:>6.2f}x  {bound}  {'met' if verdict.is_met else 'missed'}"


def _verdicts(report: Report) -> list[Verdict]:
    settings = report.settings
    goals = goals_of(report.machine.features, settings.processor, settings.busy, settings.precisions)
    return verdicts(report.results, goals, report.not_held)


def _verdict(verdict: Verdict) -> dict[str, Any]:
    goal = verdict.goal
    return {
        "metric": goal.metric,
        "contestant": goal.contestant,
        "rivals": goal.rivals,
        "against": verdict.against,
        "times": verdict.times,
        "goal": goal.times,
        "at_most": goal.at_most,
        "met": verdict.is_met,
    }


def _result(result: Result, report: Report) -> dict[str, Any]:
    rivals = rivals_of(result, report.results, report.not_held)
    best = best_peer(result, rivals)
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
        "times_better": {rival.contestant: result.times_better(rival) for rival in rivals},
        "best_peer": best.contestant if best else None,
    }


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
