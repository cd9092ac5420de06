"""Hearing what an engine says: events of one request, gathered on the engine's thread and read on the test's."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from workbench.engine.requests import Event, Failed, Finished, GenerationRequest, Handle, Started, Step
from workbench.engine.scheduler import Engine

PATIENCE_S = 30.0
"""A test that waits longer has found a hang."""


@dataclass
class Heard:
    """The events of one request."""

    events: list[Event] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __call__(self, event: Event) -> None:
        assert not self.ended.is_set(), "nothing may come after the last event"
        self.events.append(event)
        if isinstance(event, Finished | Failed):
            self.ended.set()

    def wait(self, patience_s: float = PATIENCE_S) -> Heard:
        assert self.ended.wait(patience_s), "the request never ended"
        return self

    @property
    def steps(self) -> list[Step]:
        return [event for event in self.events if isinstance(event, Step)]

    @property
    def ids(self) -> list[int]:
        return [step.stats.token_id for step in self.steps]

    @property
    def text(self) -> str:
        rest = self.events[-1].text if self.events and isinstance(self.events[-1], Finished) else ""
        return "".join(step.text for step in self.steps) + rest

    @property
    def logprobs(self) -> list[float]:
        return [step.stats.logprob for step in self.steps]

    @property
    def started(self) -> Started:
        (started,) = [event for event in self.events if isinstance(event, Started)]
        return started

    @property
    def finished(self) -> Finished:
        assert isinstance(self.events[-1], Finished), self.events[-1]
        return self.events[-1]

    @property
    def end_id(self) -> int | None:
        """The end token, None where the run ended otherwise."""
        return None if self.finished.end is None else self.finished.end.stats.token_id

    @property
    def error(self) -> BaseException:
        assert isinstance(self.events[-1], Failed), self.events[-1]
        return self.events[-1].error


def submit(engine: Engine, request: GenerationRequest) -> tuple[Handle, Heard]:
    """Start a request; does not wait."""
    heard = Heard()
    return engine.submit(request, heard), heard


def generate(engine: Engine, request: GenerationRequest, patience_s: float = PATIENCE_S) -> Heard:
    """Run a request to its end."""
    return submit(engine, request)[1].wait(patience_s)


def told(heard: Heard) -> list[tuple[object, ...]]:
    """All of a run that must not depend on what else was running: everything but the times."""
    return [(step.text, step.stats) for step in heard.steps] + [(heard.events[-1],)]
