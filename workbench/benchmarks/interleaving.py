"""Rounds that go through all contestants in turn (A B C, A B C, ...), and their results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from workbench.benchmarks.contestants import Entrant
from workbench.benchmarks.prompts import Encode, Prompts
from workbench.benchmarks.tasks import Sizes, Task

Log = Callable[[str], None]
"""Callback that gets a line about the current activity."""


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of one contestant for one metric."""

    task: str
    metric: str
    unit: str
    better: str
    contestant: str
    is_rival: bool
    values: tuple[float, ...]
    """One per round, in order."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def times_better(self, other: Result) -> float:
        """Return how many times better the median is than another contestant's."""
        return self.median / other.median if self.better == "higher" else other.median / self.median


@dataclass(frozen=True, slots=True)
class Absence:
    """A contestant that did not take part in a task, and the reason."""

    contestant: str
    task: str
    reason: str


def interleaved(
    task: Task, entrants: Sequence[Entrant], encode: Encode, sizes: Sizes, rounds: int, log: Log
) -> Iterator[Result | Absence]:
    """Measure a task in ``rounds`` rounds after a warm-up; yield results metric by metric.

    A rival that raises is left out from then on and reported as an `Absence`; an error of the workbench is raised.
    """
    figures: dict[str, list[tuple[float, ...]]] = {entrant.name: [] for entrant in entrants}
    remaining = list(entrants)
    for index in range(rounds + 1):
        prompts = Prompts(encode, f"{task.name} {index}")
        stage = f"round {index} of {rounds}" if index else "warming up"
        for entrant in list(remaining):
            log(f"{task.name}, {stage}: {entrant.name}")
            try:
                values = task.measure(entrant, prompts, sizes)
            except Exception as error:
                if not entrant.is_rival:
                    raise
                remaining.remove(entrant)
                yield Absence(entrant.name, task.name, f"{type(error).__name__}: {error}")
                continue
            if index:
                figures[entrant.name].append(values)
    for column, metric in enumerate(task.metrics):
        for entrant in remaining:
            values = tuple(row[column] for row in figures[entrant.name])
            yield Result(task.name, metric.name, metric.unit, metric.better, entrant.name, entrant.is_rival, values)
