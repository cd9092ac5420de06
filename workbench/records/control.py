"""Control of a run beyond the protocol: the beginning of its answer, breakpoints, pause and resume."""

from __future__ import annotations

import math
import numbers
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from workbench.errors import InvalidRequestError
from workbench.records.tokens import Inspector, RunProgress, TokenRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakpoint:
    """Condition at which a run pauses, right after the token that meets it. Give exactly one of the three."""

    entropy_above: float | None = None
    """Pause after a token whose raw distribution had an entropy above this many nats."""
    text: str | None = None
    """Pause after the token that completes this text in the answer."""
    tool_call: bool = False
    """Pause after the token at which a tool call has certainly begun."""

    def __post_init__(self) -> None:
        entropy, text = self.entropy_above, self.text
        if entropy is not None and not _is_entropy(entropy):
            raise InvalidRequestError("breakpoint.entropy_above", entropy, "a finite number of nats, 0 or above")
        if text is not None and not _is_text(text):
            raise InvalidRequestError("breakpoint.text", text, "a text of at least one character")
        if not isinstance(self.tool_call, bool):
            raise InvalidRequestError("breakpoint.tool_call", self.tool_call, "True or False")
        if [entropy is not None, text is not None, self.tool_call].count(True) != 1:
            raise InvalidRequestError("breakpoint", self, "given exactly one of entropy_above, text and tool_call")


@dataclass(frozen=True, slots=True, eq=False)
class AnswerPrefix:
    """Tokens with which an answer begins instead of sampled ones.

    Each consumes the random number of its position, so that later tokens are drawn as if these had been sampled.
    """

    kept: tuple[TokenRecord, ...] = ()
    """Records of another run's tokens, which are reused without computing them again."""
    given_ids: tuple[int, ...] = ()
    """Ids of forced tokens after the kept ones."""
    prompt_tokens: tuple[TokenRecord, ...] = ()
    """Records of the prompt, if the other run had them."""
    inspector: Inspector | None = None
    """Access to the positions of the kept tokens."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        return (*(token.token_id for token in self.kept), *self.given_ids)


class Pausable(Protocol):
    """Interface to pause and resume the computation of a run; thread-safe, and effective within a step."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Control:
    """Connection of a run and its provider: forwards pause and resume, and reports pauses and progress.

    Thread-safe. A pause before the provider attaches takes effect when it attaches.

    Args:
        can_pause: whether the provider can pause the run.
    """

    def __init__(self, *, can_pause: bool = True) -> None:
        self.can_pause = can_pause
        self.on_progress: Callable[[RunProgress | None], None] | None = None
        """Callback for the progress of the run until its first token."""
        self._lock = threading.Lock()
        self._pause_requested = False
        self._pausable: Pausable | None = None
        self.listener: Callable[[bool, Breakpoint | None], None] | None = None
        """Callback for pauses, with whether the run is paused and at which breakpoint."""

    def pause(self) -> None:
        with self._lock:
            self._pause_requested = True
            if self._pausable is not None:
                self._pausable.pause()

    def resume(self) -> None:
        with self._lock:
            self._pause_requested = False
            if self._pausable is not None:
                self._pausable.resume()

    def attach(self, pausable: Pausable) -> None:
        """Connect the computation of the run; called by a provider when it starts."""
        with self._lock:
            self._pausable = pausable
            if self._pause_requested:
                pausable.pause()

    def report(self, progress: RunProgress | None) -> None:
        """Report the progress of loading or prefill, or None while the run waits; called by a provider."""
        if self.on_progress is not None:
            self.on_progress(progress)

    def report_pause(self, *, paused: bool, at: Breakpoint | None = None) -> None:
        """Report that the run has paused, after all earlier output, or that it continues; called by a provider."""
        if self.listener is not None:
            self.listener(paused, at)


def _is_entropy(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return math.isfinite(value) and float(value) >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) > 0
