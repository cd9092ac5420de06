"""The shape of a run, for code that reads one, and of what a run needs from the workbench that starts it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from concurrent.futures import Future

    from workbench.protocol import SamplingParams, StopReason
    from workbench.providers.requests import Request
    from workbench.records import Inspector, ModelCard, Prompt, TokenRecord

RunState: TypeAlias = Literal["queued", "running", "paused", "finished", "cancelled", "failed"]


class RunLike(Protocol):
    """A run as capsules and branches read it; `workbench.session.run.Run` documents each attribute."""

    @property
    def request(self) -> Request: ...
    @property
    def sampling_params(self) -> SamplingParams: ...
    @property
    def state(self) -> RunState: ...
    @property
    def done(self) -> bool: ...
    @property
    def tokens(self) -> Sequence[TokenRecord]: ...
    @property
    def prompt_tokens(self) -> tuple[TokenRecord, ...]: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def stop_reason(self) -> StopReason | None: ...
    @property
    def inspector(self) -> Inspector | None: ...
    def render(self) -> Prompt: ...


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
