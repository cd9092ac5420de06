"""What a caller asks of a run beyond the protocol: how its answer begins, where it pauses, and to pause and go on."""

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
    """Tokens with which an answer begins, and that are not chosen anew.

    Each of them uses up the random number that chose it, or would have: the rest is drawn as if it had.
    """

    kept: tuple[TokenRecord, ...] = ()
    """As another run generated them; they are not computed again."""
    given_ids: tuple[int, ...] = ()
    """What follows them, whatever the model would choose."""
    prompt_tokens: tuple[TokenRecord, ...] = ()
    """Records of the prompt, where the other run had them."""
    inspector: Inspector | None = None
    """Looks back at the positions of the kept ones."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        return (*(token.token_id for token in self.kept), *self.given_ids)


class Pausable(Protocol):
    """Whatever computes a run, as far as pausing it goes; both take effect within a step, from any thread."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Control:
    """Between a run and what computes it: asks for a pause in one direction, tells of it in the other.

    Safe from any thread. What is asked before there is anything to ask is remembered.

    Args:
        can_pause: whether what computes the run can be paused.
    """

    def __init__(self, *, can_pause: bool = True) -> None:
        self.can_pause = can_pause
        self.on_progress: Callable[[RunProgress | None], None] | None = None
        """Called with how far the run is, until its first token."""
        self._lock = threading.Lock()
        self._is_wanted = False
        self._pausable: Pausable | None = None
        self.listener: Callable[[bool, Breakpoint | None], None] | None = None
        """Told whether the run is paused now, and at which breakpoint."""

    def pause(self) -> None:
        with self._lock:
            self._is_wanted = True
            if self._pausable is not None:
                self._pausable.pause()

    def resume(self) -> None:
        with self._lock:
            self._is_wanted = False
            if self._pausable is not None:
                self._pausable.resume()

    def attach(self, brake: Pausable) -> None:
        """Called by a provider when it begins to compute the run."""
        with self._lock:
            self._pausable = brake
            if self._is_wanted:
                brake.pause()

    def report(self, progress: RunProgress | None) -> None:
        """Called by a provider when it begins to load the model or to read the prompt, and as that goes on.

        None: the run waits for its turn.
        """
        if self.on_progress is not None:
            self.on_progress(progress)

    def tell(self, *, paused: bool, at: Breakpoint | None = None) -> None:
        """Called by a provider when the run has paused, after all that came before it was delivered, or goes on."""
        if self.listener is not None:
            self.listener(paused, at)


def _is_entropy(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return math.isfinite(value) and float(value) >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) > 0
