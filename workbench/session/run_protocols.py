"""The protocols between a run, the code that reads it, and the workbench that starts it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from workbench.records import ReadableRun

if TYPE_CHECKING:
    from concurrent.futures import Future

    from workbench.analysis.tool_call_steps import Openers
    from workbench.providers.requests import Request
    from workbench.records import (
        Attribution,
        Insides,
        Inspector,
        LensColumn,
        LogitParts,
        ModelCard,
        Prompt,
        TokenRecord,
    )
    from workbench.session.capture import Capture


class RunLike(ReadableRun, Protocol):
    """Interface of runs for capsules, branches and inspection; `workbench.session.run.Run` documents its attributes."""

    @property
    def request(self) -> Request: ...
    @property
    def error(self) -> BaseException | None: ...
    @property
    def inspector(self) -> Inspector | None: ...
    @property
    def call_openers(self) -> Openers: ...


class OpenRun(RunLike, Protocol):
    """A run whose model can be looked into; see `RunInsides`."""

    @property
    def insides(self) -> Insides: ...
    @property
    def first_index(self) -> int: ...

    def result(self) -> Any: ...

    def capture(self, points: Sequence[str] | str, positions: Any = None) -> Capture: ...
    def capture_bytes(self, points: Sequence[str] | str, positions: Any = None) -> int: ...
    def lens_columns(
        self, positions: Sequence[int] | None = None, *, kind: Any = "logit", words: int = 1
    ) -> list[LensColumn]: ...
    def logit_parts(self, position: int, token: int | str | None = None) -> LogitParts: ...


class HostedRun(OpenRun, Protocol):
    """A run that can call the workbench which started it."""

    @property
    def host(self) -> RunHost: ...


@dataclass(frozen=True, slots=True)
class RunHost:
    """Functions of the workbench that a run calls."""

    spawn: Callable[[Coroutine[Any, Any, Any]], Future[Any]]
    """Function that schedules a coroutine on the workbench's event loop."""
    start: Callable[..., Any]
    """Function that starts another run of the same kind; see `Workbench.start`."""
    render: Callable[[Request], Prompt]
    """Function that returns the prompt of a request, as its model receives it."""
    card: Callable[[str], ModelCard]
    """Function that returns the card of a model, without loading it."""
    attribute: Callable[[Request, Sequence[TokenRecord]], Coroutine[Any, Any, Attribution]]
    """Coroutine function that measures what the chunks in a request's prompt did to the tokens of its answer."""
