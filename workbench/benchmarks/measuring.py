"""A whole benchmark run, from loading to the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from workbench.benchmarks import gemma
from workbench.benchmarks.busy_cores import busy_cores
from workbench.benchmarks.exactness import SAME_IDS, Exactness, exactness, same_ids
from workbench.benchmarks.interleaving import Absence, Log, Result, interleaved
from workbench.benchmarks.lineup import Lineup, Settings, check, open_lineup
from workbench.benchmarks.machine_facts import MachineFacts, machine_facts
from workbench.benchmarks.processors import exceeds, held_to
from workbench.benchmarks.tasks import GEMMA, TASKS

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
    not_held: dict[str, str] = field(default_factory=dict)
    """Contestants that use more than the processor to which the programs are held, and the instruction set that they
    report."""


def measure(settings: Settings, log: Log) -> Report:
    """Load the programs, measure all tasks and return the results.

    Raises:
        InvalidRequestError: a rival is not installed, or cannot read this model.
        DownloadError: the model could not be fetched.
    """
    check(settings)
    report = Report(settings, machine_facts(), {})
    # Fetched before the first model is measured, because a failure would lose what was measured.
    second = _second_model(settings, report, log) if GEMMA in settings.tasks else None
    with held_to(settings.processor):
        if own := settings.tasks - {GEMMA}:
            _measure(replace(settings, tasks=own), report, log)
        if second:
            _measure(second, report, log, f", {gemma.NAME}")
    return report


def _second_model(settings: Settings, report: Report, log: Log) -> Settings | None:
    """Return the settings to measure the second model against transformers; None, and an absence, if it is missing."""
    if not settings.may_fetch and not gemma.gemma_folder().is_dir():
        reason = f"it is not in the cache; --tasks {GEMMA} fetches it ({gemma.DOWNLOAD_BYTES / 1e6:.0f} MB)"
        report.absences.append(Absence(gemma.NAME, GEMMA, reason))
        return None
    folder = gemma.install_gemma(log)
    return replace(settings, model=str(folder), tasks=frozenset({GEMMA}), rivals=frozenset({"transformers"}))


def _measure(settings: Settings, report: Report, log: Log, suffix: str = "") -> None:
    """Measure the tasks with one model; ``suffix`` is the end of names that would otherwise occur twice."""
    with open_lineup(settings, log) as lineup, busy_cores(settings.busy):
        found = [*lineup.absences, *_results(settings, lineup, log, suffix)]
        for entrant in (*lineup.contestants, *lineup.embedders):
            report.memory[entrant.name + suffix] = Memory(entrant.memory_bytes, entrant.resident_bytes())
            if exceeds(entrant.instruction_set, settings.processor):
                report.not_held[entrant.name] = entrant.instruction_set
    for item in found:
        match item:
            case Result():
                report.results.append(item)
            case Exactness():
                report.exactness.append(item)
            case Absence():
                report.absences.append(item)


def _results(settings: Settings, lineup: Lineup, log: Log, suffix: str) -> Iterator[Result | Exactness | Absence]:
    for task in TASKS:
        if task.name in settings.tasks:
            yield from interleaved(task, lineup.of(task.kind), lineup.encode, lineup.sizes, settings.rounds, log)
    contestants, questions = lineup.contestants, lineup.questions
    if EXACTNESS in settings.tasks:
        yield from exactness(lineup.reference, contestants, questions, settings.exactness_tokens, log)
    if settings.tasks & {EXACTNESS, GEMMA}:
        yield from same_ids(lineup.reference, contestants, questions, SAME_IDS + suffix, log)
