"""The protocols between a run, the code that reads it, and the workbench that starts it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from workbench.records import ReadableRun

if TYPE_CHECKING:
    from concurrent.futures import Future

    from workbench.analysis.tool_call_steps import Openers
    from workbench.providers.requests import Request
    from workbench.records import Inspector, ModelCard, Prompt


class RunLike(ReadableRun, Protocol):
    """A run as capsules, branches and inspection read it; `workbench.session.run.Run` documents each attribute."""

    @property
    def request(self) -> Request: ...
    @property
    def inspector(self) -> Inspector | None: ...
    @property
    def call_openers(self) -> Openers: ...


@dataclass(frozen=True, slots=True)
class RunHost:
    """What a run needs from its workbench."""

    spawn: Callable[[Coroutine[Any, Any, None]], Future[None]]
    """Schedules a coroutine on the workbench's event loop."""
    start: Callable[..., Any]
    """Starts another run of the same kind; see `Workbench.start`."""
    render: Callable[[Request], Prompt]
    """Returns the prompt of a request, as its model receives it."""
    card: Callable[[str], ModelCard]
    """Returns the facts of a model, without loading it."""
