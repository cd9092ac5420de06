"""Rounds that go through all contestants in turn (A B C, A B C, ...), and what is kept of their figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from workbench.benchmarks.contestants import Entrant
from workbench.benchmarks.prompts import Encode, Prompts
from workbench.benchmarks.tasks import Sizes, Task

Told = Callable[[str], None]
"""Hears in a few words what is being done now."""


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
        """How many times better the median is than another contestant's."""
        return self.median / other.median if self.better == "higher" else other.median / self.median


@dataclass(frozen=True, slots=True)
class Absence:
    """A contestant that did not take part in something, and why."""

    contestant: str
    task: str
    reason: str


def interleaved(
    task: Task, entrants: Sequence[Entrant], encode: Encode, sizes: Sizes, rounds: int, told: Told
) -> Iterator[Result | Absence]:
    """Measure a task in so many rounds after one that is not counted; results metric by metric.

    A rival that raises is left out from there on, and said to be; what our own side raises comes through.
    """
    figures: dict[str, list[tuple[float, ...]]] = {entrant.name: [] for entrant in entrants}
    taking_part = list(entrants)
    for number in range(rounds + 1):
        prompts = Prompts(encode, f"{task.name} {number}")
        stage = f"round {number} of {rounds}" if number else "warming up"
        for entrant in list(taking_part):
            told(f"{task.name}, {stage}: {entrant.name}")
            try:
                values = task.measure(entrant, prompts, sizes)
            except Exception as error:
                if not entrant.is_rival:
                    raise
                taking_part.remove(entrant)
                yield Absence(entrant.name, task.name, f"{type(error).__name__}: {error}")
                continue
            if number:
                figures[entrant.name].append(values)
    for place, metric in enumerate(task.metrics):
        for entrant in taking_part:
            values = tuple(row[place] for row in figures[entrant.name])
            yield Result(task.name, metric.name, metric.unit, metric.better, entrant.name, entrant.is_rival, values)
