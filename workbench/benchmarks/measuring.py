"""A whole run: everybody loaded, every task measured, one report."""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench.benchmarks.exactness import Exactness, exactness
from workbench.benchmarks.interleaving import Absence, Result, Told, interleaved
from workbench.benchmarks.lineup import Lineup, Settings, opened
from workbench.benchmarks.machine_facts import MachineFacts, machine_facts
from workbench.benchmarks.tasks import TASKS

EXACTNESS = "exactness"
"""Asked for like a task; it compares numbers and takes no time."""

TASK_NAMES = (*(task.name for task in TASKS), EXACTNESS)


@dataclass(frozen=True, slots=True)
class Memory:
    """What one contestant holds."""

    weights_bytes: int | None
    """As it says itself."""
    resident_bytes: int
    """Of its whole process, after all tasks."""


@dataclass(slots=True)
class Report:
    """What was found."""

    settings: Settings
    machine: MachineFacts
    memory: dict[str, Memory]
    """By contestant."""
    results: list[Result] = field(default_factory=list)
    exactness: list[Exactness] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)


def measure(settings: Settings, told: Told) -> Report:
    """Do it all.

    Raises:
        InvalidRequestError: a rival is not installed, or cannot read this model; nothing was measured.
    """
    with opened(settings, told) as lineup:
        found: list[Result | Exactness | Absence] = [*lineup.absences]
        for task in TASKS:
            if task.name in settings.tasks:
                found += interleaved(task, lineup.of(task.kind), lineup.encode, lineup.sizes, settings.rounds, told)
        if EXACTNESS in settings.tasks:
            found += _exactness(lineup, settings, told)
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


def _exactness(lineup: Lineup, settings: Settings, told: Told) -> list[Exactness | Absence]:
    return list(exactness(lineup.reference, lineup.contestants, lineup.questions, settings.exactness_tokens, told))
