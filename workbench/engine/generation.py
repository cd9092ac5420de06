"""One request on its way through the decode loop: from chosen tokens to released steps.

`Generation` holds everything that belongs to one request alone (its random numbers, text, stop strings, cache), so
that any number of them can share a batch and none can disturb another. The loop itself is in `decode_loop`.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from workbench.engine.detokenizer import Detokenizer
from workbench.engine.sampling import Mask, Sampler, Sampling
from workbench.engine.stopping import StopMatcher
from workbench.errors import NumericalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from workbench.engine.constraints import Constraint, GrammarState
    from workbench.engine.detokenizer import Vocabulary
    from workbench.engine.images import PlacedImage
    from workbench.engine.kv_cache import KVCache
    from workbench.engine.logprobs import TokenStats

GREEDY = Sampling()

WRAP_UP_TOKENS = 512
"""So many before the last one an answer with brackets is brought to its end; at most a quarter of all it may have."""

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


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt has been read; the first token comes next."""

    prompt_tokens: int
    reused_tokens: int
    seed: int
    prompt_stats: tuple[TokenStats, ...] = ()
    """Of the prompt's second token on, where asked for: nothing stands before the first."""


@dataclass(frozen=True, slots=True)
class Step:
    """One generated token."""

    text: str
    """The whole characters that it added to the text; all steps joined, and `Finished.text`, are the text."""
    stats: TokenStats
    elapsed_s: float
    """Since the request was submitted."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a run that did not fail."""

    reason: FinishReason
    stop_id: int | None = None
    """The end token that was chosen; never part of text or steps."""
    text: str = ""
    """The end of the text, where the run ended inside a character: U+FFFD for bytes that no step could show."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a run that failed."""

    error: BaseException


Event = Started | Step | Finished | Failed


class Handle:
    """The caller's side of a submitted request."""

    _numbers = itertools.count()

    def __init__(self, request: GenerationRequest) -> None:
        self.number = next(self._numbers)
        """Names the run within this process."""
        self.request = request
        self.token_ids = list(request.prompt_ids)
        """The prompt and what was generated so far; only ever appended to."""
        self.cancelled = threading.Event()
        self.ended = threading.Event()

    def cancel(self) -> None:
        """Stop within one step; steps that were already made are still delivered."""
        self.cancelled.set()


@dataclass(slots=True)
class _Held:
    """A step whose text may still turn out to belong to a stop string."""

    step: Step
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The next token of one request."""

    token_id: int
    number: float | None
    """The random number that chose it; None where none was drawn."""
    mask: Mask | None
    """What the grammar left to choose from; None without a grammar."""


class Generation:
    """The state of one request, fed with one chosen token per step."""

    def __init__(
        self,
        handle: Handle,
        emit: Callable[[Event], None],
        *,
        vocabulary: Vocabulary,
        stop_ids: frozenset[int],
        context_length: int,
        images: tuple[PlacedImage, ...] = (),
    ) -> None:
        self.request = request = handle.request
        self.handle = handle
        self.images = images
        self.token_ids = handle.token_ids
        self.sampler = Sampler(request.sampling, request.prompt_ids)
        self.cache: KVCache | None = None
        self.reused_tokens = 0
        self.prompt_stats: list[TokenStats] = []
        self.submitted_at = time.perf_counter()
        self.forced: deque[int] = deque()
        """Tokens that the grammar leaves no choice about, next first."""
        self._emit = emit
        self._stop_ids = stop_ids | (request.constraint.end_ids if request.constraint else frozenset())
        self._grammar: GrammarState | None = None
        room = context_length - len(request.prompt_ids)
        self._max_tokens = min(request.max_tokens or room, room)
        self._wrap_up = min(WRAP_UP_TOKENS, self._max_tokens // 4)
        self._generated = 0
        self._detokenizer = Detokenizer(vocabulary)
        self._matcher = StopMatcher(request.stop_strings)
        self._held: deque[_Held] = deque()
        self._text_length = 0

    @property
    def position(self) -> int:
        """Index that the next generated token will have."""
        return self._generated

    @property
    def ended(self) -> bool:
        return self.handle.ended.is_set()

    @property
    def tokens_left(self) -> int:
        """How many more tokens may be generated."""
        return self._max_tokens - self._generated

    def start(self) -> None:
        if self.request.constraint is not None:
            self._grammar = self.request.constraint.start()
            self.forced.extend(self._grammar.forced())
        self._emit(
            Started(len(self.request.prompt_ids), self.reused_tokens, self.sampler.seed, tuple(self.prompt_stats))
        )

    def choose(self, logits: Tensor) -> Choice:
        """The next token: the one that the grammar forces, or one sampled from those that it allows.

        Args:
            logits: raw float32 logits, shape (vocab,).
        """
        if self.forced:
            self.sampler.take(self.forced[0])
            return Choice(self.forced[0], None, Mask.forcing(self.forced[0], len(logits)))
        if self._grammar is None:
            return Choice(*self.sampler.choose(logits), None)
        mask = Mask(self._grammar.allowed(soon=self.tokens_left <= self._wrap_up))
        return Choice(*self.sampler.choose(logits, mask.allowed), mask)

    def accept(self, stats: TokenStats) -> None:
        """Take the chosen token; emits the steps that are now certain, and the end if this was it."""
        if stats.logprob != stats.logprob:
            raise NumericalError(
                "the model computed NaN for the next token; its weights are damaged or overflow in this precision"
            )
        token_id = stats.token_id
        if token_id in self._stop_ids:
            self.finish("stop_token", token_id)
            return
        if self._grammar is not None:
            self._follow(self._grammar, token_id)
        self.token_ids.append(token_id)
        self._generated += 1
        self._hold(self._detokenizer.decode(token_id), stats)
        if self.ended:
            return
        if self._grammar is not None and self._grammar.ended:
            self.finish("grammar")
        elif self.tokens_left <= 0:
            self.finish("length")

    def finish(self, reason: FinishReason, stop_id: int | None = None) -> None:
        """End the run: what was held back is released, unless the rest of the text completes a stop string."""
        rest, start = self._detokenizer.flush(), self._text_length
        self._text_length += len(rest)
        match = self._matcher.feed(rest) if rest else None
        if match is not None:
            self._cut(match.start)
            reason, stop_id, rest = "stop_string", None, rest[: max(0, match.start - start)]
        self._release(upto=self._text_length, final=True)
        self._end(Finished(reason, stop_id, rest))

    def fail(self, error: BaseException) -> None:
        self._end(Failed(error))

    def _follow(self, grammar: GrammarState, token_id: int) -> None:
        grammar.consume(token_id)
        if self.forced:
            self.forced.popleft()
        if not self.forced:
            self.forced.extend(grammar.forced())

    def _hold(self, text: str, stats: TokenStats) -> None:
        step = Step(text, stats, time.perf_counter() - self.submitted_at)
        self._held.append(_Held(step, self._text_length, self._text_length + len(text)))
        self._text_length += len(text)
        match = self._matcher.feed(text)
        if match is None:
            self._release(upto=self._matcher.safe)
            return
        self._cut(match.start)
        self._release(upto=self._text_length, final=True)
        self._end(Finished("stop_string"))

    def _cut(self, end: int) -> None:
        """Take away what lies beyond character ``end``, and the steps that lie wholly there."""
        while self._held and self._held[-1].start >= end:
            self._held.pop()
        if self._held and self._held[-1].end > end:
            last = self._held[-1]
            last.step = replace(last.step, text=last.step.text[: end - last.start])

    def _release(self, upto: int, *, final: bool = False) -> None:
        """Emit the steps before character ``upto``; one that has no text yet waits for its character to be whole."""
        while self._held and self._held[0].end <= upto and (final or self._held[0].start < self._text_length):
            self._emit(self._held.popleft().step)

    def _end(self, event: Finished | Failed) -> None:
        self.handle.ended.set()
        self._emit(event)
