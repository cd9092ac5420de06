"""A whole benchmark run, from loading to the report."""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench.benchmarks.exactness import Exactness, exactness
from workbench.benchmarks.interleaving import Absence, Log, Result, interleaved
from workbench.benchmarks.lineup import Lineup, Settings, open_lineup
from workbench.benchmarks.machine_facts import MachineFacts, machine_facts
from workbench.benchmarks.tasks import TASKS

EXACTNESS = "exactness"
"""Name under which the comparison of distributions is requested like a task."""

TASK_NAMES = (*(task.name for task in TASKS), EXACTNESS)


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one contestant."""

    weights_bytes: int | None
    """Size of the weights according to the contestant."""
    resident_bytes: int
    """Size of its whole process after all tasks."""


@dataclass(slots=True)
class Report:
    """Results of a run."""

    settings: Settings
    machine: MachineFacts
    memory: dict[str, Memory]
    """By contestant."""
    results: list[Result] = field(default_factory=list)
    exactness: list[Exactness] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)


def measure(settings: Settings, log: Log) -> Report:
    """Load the programs, measure all tasks and return the results.

    Raises:
        InvalidRequestError: a rival is not installed, or cannot read this model.
    """
    with open_lineup(settings, log) as lineup:
        found: list[Result | Exactness | Absence] = [*lineup.absences]
        for task in TASKS:
            if task.name in settings.tasks:
                found += interleaved(task, lineup.of(task.kind), lineup.encode, lineup.sizes, settings.rounds, log)
        if EXACTNESS in settings.tasks:
            found += _exactness(lineup, settings, log)
        entrants = [*lineup.contestants, *lineup.embedders]
        memory = {entrant.name: Memory(entrant.memory_bytes, entrant.resident_bytes()) for entrant in entrants}
    report = Report(settings, machine_facts(), memory)
    for item in found:
        match item:
            case Result():
                report.results.append(item)
            case Exactness():
                report.exactness.append(item)
            case Absence():
                report.absences.append(item)
    return report


def _exactness(lineup: Lineup, settings: Settings, log: Log) -> list[Exactness | Absence]:
    return list(exactness(lineup.reference, lineup.contestants, lineup.questions, settings.exactness_tokens, log))
