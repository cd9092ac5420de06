"""One request on its way through the decode loop: from chosen tokens to released steps.

`Generation` holds everything that belongs to one request alone (its random numbers, text, stop strings, cache), so
that any number of them can share a batch and none can disturb another. The loop itself is in `decode_loop`.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workbench.engine.detokenizer import Detokenizer
from workbench.engine.requests import Failed, Finished, Paused, PromptProgress, Resumed, Started, Step
from workbench.engine.sampling import Mask, Sampler
from workbench.engine.token_budget import WrapUp
from workbench.errors import InvalidRequestError, NumericalError
from workbench.stopping import StopMatcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from workbench.engine.constraints import GrammarState
    from workbench.engine.detokenizer import Vocabulary
    from workbench.engine.images import PlacedImage
    from workbench.engine.kernels.row_reductions import LogitsSummary
    from workbench.engine.kv_cache import KVCache
    from workbench.engine.logprobs import TokenStats
    from workbench.engine.requests import Event, FinishReason, Handle


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
        self.given: deque[int] = deque(request.given_ids)
        """Tokens that the request leaves no choice about, next first."""
        self.has_started = False
        self._emit = emit
        self._stop_ids = stop_ids | (request.constraint.end_ids if request.constraint else frozenset())
        self._grammar: GrammarState | None = None
        room = context_length - len(request.prompt_ids)
        self._max_tokens = min(request.max_tokens or room, room)
        self._wrap_up: WrapUp | None = None
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

    @property
    def known_ids(self) -> list[int]:
        """The prompt and the answer so far, what it is to begin with included."""
        if self.has_started:
            return self.token_ids
        return [*self.request.prompt_ids, *(stats.token_id for stats in self.request.kept)]

    def start(self) -> None:
        self.has_started = True
        if self.request.constraint is not None:
            self._grammar = self.request.constraint.start()
            self._wrap_up = WrapUp(self._grammar, self.request.constraint.end_ids)
            self.forced.extend(self._grammar.forced())
        self._emit(
            Started(len(self.request.prompt_ids), self.reused_tokens, self.sampler.seed, tuple(self.prompt_stats))
        )
        for stats in self.request.kept:
            if not self.ended:
                self._keep(stats)

    def report_prompt(self) -> None:
        """Emit how much of the prompt has been read; nothing once the answer has begun."""
        if not self.has_started:
            read_tokens = 0 if self.cache is None else self.cache.length
            self._emit(PromptProgress(read_tokens, len(self.known_ids)))  # a branch reads what it keeps, too

    def pause(self) -> None:
        self._emit(Paused(self.handle.watch))

    def resume(self) -> None:
        self._emit(Resumed())

    def choose(self, logits: Tensor, summary: LogitsSummary | None = None) -> Choice:
        """The next token: the one that the grammar forces, or one sampled from those that it allows.

        Args:
            logits: raw float32 logits, shape (vocab,).
            summary: what is known of them.
        """
        if self.given:
            return self._give(self.given.popleft(), len(logits))
        if self.forced:
            self.sampler.take(self.forced[0])
            return Choice(self.forced[0], None, Mask.forcing(self.forced[0], len(logits)))
        if self._grammar is None or self._wrap_up is None:
            return Choice(*self.sampler.choose(logits, summary=summary), None)
        mask = Mask(self._grammar.allowed())
        token_id, number = self.sampler.pick(logits, mask.allowed)
        instead = self._wrap_up.instead(token_id, self.tokens_left - 1)
        if instead is not None and mask.allowed[instead]:
            token_id, mask = instead, Mask(Mask.forcing(instead, len(logits)).allowed)
        self.sampler.take(token_id)
        return Choice(token_id, number, mask)

    def accept(self, stats: TokenStats) -> None:
        """Take the chosen token; emits the steps that are now certain, and the end if this was it."""
        watch = self._take(stats)
        if watch is not None and not self.ended:
            self.handle.pause(watch)

    def finish(self, reason: FinishReason, end: Step | None = None) -> None:
        """End the run: what was held back is released, unless the rest of the text completes a stop string.

        Args:
            end: the end token, where the model chose one.
        """
        rest, start = self._detokenizer.flush(), self._text_length
        self._text_length += len(rest)
        match = self._matcher.feed(rest) if rest else None
        if match is not None:
            self._cut(match.start)
            reason, end, rest = "stop_string", None, rest[: max(0, match.start - start)]
        self._release(upto=self._text_length, final=True)
        is_cut = reason == "length" and self._grammar is not None and not self._grammar.is_whole
        self._end(Finished(reason, end, rest, is_cut))

    def fail(self, error: BaseException) -> None:
        self._end(Failed(error))

    def _give(self, token_id: int, vocab_size: int) -> Choice:
        """A token that the request asks for, in place of the one that would have been chosen."""
        if self.forced and self.forced[0] == token_id:
            self.sampler.take(token_id)
            return Choice(token_id, None, Mask.forcing(token_id, vocab_size))
        mask = None
        if self._grammar is not None:
            mask = Mask(self._grammar.allowed())
            if not mask.allowed[token_id]:
                raise InvalidRequestError(
                    "token_id", token_id, "a token that the response format allows at this position"
                )
        number = self.sampler.skip()
        self.sampler.take(token_id)
        return Choice(token_id, number, mask)

    def _keep(self, stats: TokenStats) -> None:
        """Take a token that another request chose, as if it had been chosen now."""
        if not stats.forced:
            self.sampler.skip()
        self.sampler.take(stats.token_id)
        self._take(stats)

    def _take(self, stats: TokenStats) -> int | None:
        """Append a token to the answer; tells which watch would have it pause there."""
        if stats.logprob != stats.logprob:
            raise NumericalError(
                "the model computed NaN for the next token; its weights are damaged or overflow in this precision"
            )
        token_id = stats.token_id
        if token_id in self._stop_ids:
            self.finish("stop_token", self._step("", stats))
            return None
        if self._grammar is not None:
            self._follow(self._grammar, token_id)
        self.token_ids.append(token_id)
        self._generated += 1
        text = self._detokenizer.decode(token_id)
        self._hold(text, stats)
        if self.ended:
            return None
        if self._grammar is not None and self._grammar.ended:
            self.finish("grammar")
        elif self.tokens_left <= 0:
            self.finish("length")
        hits = [index for index, watch in enumerate(self.request.watches) if watch.sees(stats, text)]
        return hits[0] if hits else None

    def _follow(self, grammar: GrammarState, token_id: int) -> None:
        grammar.consume(token_id)
        if self._wrap_up is not None:
            self._wrap_up.took(token_id)
        if self.forced and self.forced[0] == token_id:
            self.forced.popleft()
        else:  # a given token may spell what must come in another way
            self.forced.clear()
        if not self.forced:
            self.forced.extend(grammar.forced())

    def _step(self, text: str, stats: TokenStats) -> Step:
        return Step(text, stats, time.perf_counter() - self.submitted_at)

    def _hold(self, text: str, stats: TokenStats) -> None:
        self._held.append(_Held(self._step(text, stats), self._text_length, self._text_length + len(text)))
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
