"""Requests to an engine, the events that it emits, and the caller's handle of a request."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from workbench.engine.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.engine.constraints import Constraint
    from workbench.engine.images import PlacedImage
    from workbench.engine.logprobs import TokenStats
    from workbench.insides import PointEdit

GREEDY = Sampling()

FinishReason = Literal["stop_token", "stop_string", "grammar", "length", "cancelled"]
"""``grammar``: the answer is complete, and its grammar allows no further token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """A generation request. Values must be valid; `Engine.submit` checks only what it says."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling = GREEDY
    max_tokens: int = 0
    """0 generates up to the context length."""
    stop_strings: tuple[str, ...] = ()
    stop_ids: frozenset[int] | None = None
    """Tokens that end the answer; None means the model's own end tokens."""
    alternatives: int = 0
    """Number of other candidate tokens reported at each step."""
    prompt_logprobs: bool = False
    """Whether to measure the prompt's tokens too; no cached prefix is then reused."""
    constraint: Constraint | None = None
    """Grammar of the answer, compiled for this model."""
    images: tuple[PlacedImage, ...] = ()
    """Images in order; their placeholder tokens are in ``prompt_ids``."""
    kept: tuple[TokenStats, ...] = ()
    """Tokens of another request with which the answer begins; they are not measured again."""
    given_ids: tuple[int, ...] = ()
    """Tokens that follow them instead of sampled ones."""
    watches: tuple[Watch, ...] = ()
    """Conditions at which the answer pauses."""
    edits: tuple[PointEdit, ...] = ()
    """Changes of the numbers inside the model, in prompt and answer."""


class Watch(Protocol):
    """Pause condition, called with every token of one answer in order."""

    def matches(self, stats: TokenStats, text: str) -> bool:
        """Return whether to pause after this token; ``text`` is the whole characters that it completed."""


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """Emitted when prefill starts, and after each chunk but the last."""

    read_tokens: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Started:
    """Emitted after prefill; the first token comes next."""

    prompt_tokens: int
    reused_tokens: int
    seed: int
    prompt_stats: tuple[TokenStats, ...] = ()
    """Stats of the prompt's tokens from the second on, if requested."""


@dataclass(frozen=True, slots=True)
class Paused:
    """Emitted when the answer has paused; steps that may belong to a stop string stay buffered."""

    watch: int | None
    """Index of the `Watch` that caused it; None if the caller did."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Emitted when the answer continues."""


@dataclass(frozen=True, slots=True)
class Step:
    """One token of the answer."""

    text: str
    """Whole characters that it completed; the texts of all steps and `Finished.text` joined are the answer's text."""
    stats: TokenStats
    elapsed_s: float = field(compare=False)
    """Seconds since the request was submitted; ignored in comparisons."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a run that did not fail."""

    reason: FinishReason
    end: Step | None = None
    """The end token that was chosen; it is not part of the text, nor among the steps."""
    text: str = ""
    """End of the text if the run ended inside a character: U+FFFD for the remaining bytes."""
    is_cut: bool = False
    """Whether the tokens ran out before the answer completed its grammar."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a run that failed."""

    error: BaseException


Event = PromptProgress | Started | Step | Paused | Resumed | Finished | Failed


class Handle:
    """The caller's side of a submitted request."""

    _numbers = itertools.count()

    def __init__(self, request: GenerationRequest, wake: Callable[[], None] = lambda: None) -> None:
        self.number = next(self._numbers)
        """Identifies the run within this process."""
        self.request = request
        self.token_ids = list(request.prompt_ids)
        """Tokens of the prompt and the answer so far; append-only."""
        self.cancelled = threading.Event()
        self.pause_requested = threading.Event()
        """Set while the request is paused, or is to pause before its next token."""
        self.watch: int | None = None
        """Index of the `Watch` that paused it; None if the caller did."""
        self.ended = threading.Event()
        self._wake = wake

    def cancel(self) -> None:
        """Stop within one step; steps that were already emitted are still delivered."""
        self.cancelled.set()
        if self.pause_requested.is_set():
            self._wake()

    def pause(self, watch: int | None = None) -> None:
        """Pause before the next token, until resumed; a second call changes nothing."""
        if not self.pause_requested.is_set():
            self.watch = watch
            self.pause_requested.set()

    def resume(self) -> None:
        """Resume; harmless if not paused."""
        if self.pause_requested.is_set():
            self.pause_requested.clear()
            self._wake()
