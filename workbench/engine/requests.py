"""What is asked of an engine and what it tells: requests, the events of a run, and the caller's handle on it."""

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

GREEDY = Sampling()

FinishReason = Literal["stop_token", "stop_string", "grammar", "length", "cancelled"]
"""``grammar``: the answer is whole, and its grammar allows nothing after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What to generate; values are taken as valid, except where `Engine.submit` says that it checks."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling = GREEDY
    max_tokens: int = 0
    """0 is as many as the context leaves room for."""
    stop_strings: tuple[str, ...] = ()
    stop_ids: frozenset[int] | None = None
    """None takes the model's own end tokens."""
    alternatives: int = 0
    """How many other tokens each step names beside the chosen one."""
    prompt_logprobs: bool = False
    """Measure the prompt's tokens too; the whole prompt is then computed, nothing of it is reused."""
    constraint: Constraint | None = None
    """The grammar that the answer must follow, compiled for this model."""
    images: tuple[PlacedImage, ...] = ()
    """In order, each among ``prompt_ids`` with the tokens that stand for it."""
    kept: tuple[TokenStats, ...] = ()
    """Tokens with which the answer begins, as another request generated them; nothing is measured again."""
    given_ids: tuple[int, ...] = ()
    """Tokens that follow them, whatever would have been chosen."""
    watches: tuple[Watch, ...] = ()
    """What the answer pauses at."""


class Watch(Protocol):
    """Looks at every token of one answer, in order, to say after which of them it is to pause."""

    def sees(self, stats: TokenStats, text: str) -> bool:
        """Whether to pause after this token, which added ``text``: the whole characters that it completed."""


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """The prompt is being read: its turn has come, or a part of it has been read and more is to come."""

    read_tokens: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt has been read; the first token comes next."""

    prompt_tokens: int
    reused_tokens: int
    seed: int
    prompt_stats: tuple[TokenStats, ...] = ()
    """Of the prompt's second token on, where asked for: nothing stands before the first."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The answer waits to be resumed; steps whose text is not certain yet are still held back."""

    watch: int | None
    """Which one it paused at; None where it was asked to."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """It goes on."""


@dataclass(frozen=True, slots=True)
class Step:
    """One token of the answer."""

    text: str
    """The whole characters that it added to the text; all steps joined, and `Finished.text`, are the text."""
    stats: TokenStats
    elapsed_s: float = field(compare=False)
    """Since the request was submitted; it makes no two steps differ."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a run that did not fail."""

    reason: FinishReason
    end: Step | None = None
    """The end token that was chosen; never part of the text, and none of the steps."""
    text: str = ""
    """The end of the text, where the run ended inside a character: U+FFFD for bytes that no step could show."""
    is_cut: bool = False
    """The tokens ran out before the answer was whole in its grammar."""


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
        """Names the run within this process."""
        self.request = request
        self.token_ids = list(request.prompt_ids)
        """The prompt and what was generated so far; only ever appended to."""
        self.cancelled = threading.Event()
        self.held = threading.Event()
        """The request is to pause, or has."""
        self.watch: int | None = None
        """Which one it is held by."""
        self.ended = threading.Event()
        self._wake = wake

    def cancel(self) -> None:
        """Stop within one step; steps that were already made are still delivered."""
        self.cancelled.set()
        if self.held.is_set():
            self._wake()

    def pause(self, watch: int | None = None) -> None:
        """Pause before the next token, until resumed; what is paused already is so for the first reason."""
        if not self.held.is_set():
            self.watch = watch
            self.held.set()

    def resume(self) -> None:
        """Go on; harmless where nothing is paused."""
        if self.held.is_set():
            self.held.clear()
            self._wake()
