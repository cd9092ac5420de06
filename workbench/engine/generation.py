"""State of one request in the decode loop: from chosen tokens to emitted steps.

`Generation` holds all that belongs to one request alone (its random numbers, text, stop strings, cache), so that
requests in a batch cannot affect each other. The loop itself is in `decode_loop`.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workbench.engine.detokenizer import Detokenizer
from workbench.engine.requests import Failed, Finished, Paused, PromptProgress, Resumed, Started, Step
from workbench.engine.sampling import Mask, Sampler
from workbench.engine.token_budget import TokenBudget
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
class _BufferedStep:
    """A step that may belong to a stop string; ``start`` and ``end`` are the offsets of its text."""

    step: Step
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The next token of one request."""

    token_id: int
    uniform: float | None
    """The random number in [0, 1) that chose it; None if none was drawn."""
    mask: Mask | None
    """The tokens that the grammar allows; None without a grammar."""


class Generation:
    """One request, which gets one chosen token per step."""

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
        self.forced_by_grammar: deque[int] = deque()
        """The only tokens that the grammar allows next, in order."""
        self.forced_by_request: deque[int] = deque(request.given_ids)
        """Tokens of the request that come next instead of sampled ones, in order."""
        self.has_started = False
        self._emit = emit
        self._stop_ids = stop_ids | (request.constraint.end_ids if request.constraint else frozenset())
        self._grammar: GrammarState | None = None
        room = context_length - len(request.prompt_ids)
        self._max_tokens = min(request.max_tokens or room, room)
        self._budget: TokenBudget | None = None
        self._generated = 0
        self._detokenizer = Detokenizer(vocabulary)
        self._matcher = StopMatcher(request.stop_strings)
        self._buffered: deque[_BufferedStep] = deque()
        self._text_length = 0

    @property
    def position(self) -> int:
        """Index of the next generated token."""
        return self._generated

    @property
    def ended(self) -> bool:
        return self.handle.ended.is_set()

    @property
    def tokens_left(self) -> int:
        """Number of tokens that may still be generated."""
        return self._max_tokens - self._generated

    @property
    def known_ids(self) -> list[int]:
        """Tokens of the prompt and the answer so far; before the start, also those that the answer begins with."""
        if self.has_started:
            return self.token_ids
        return [*self.request.prompt_ids, *(stats.token_id for stats in self.request.kept)]

    @property
    def reads_logits(self) -> bool:
        """Whether `choose` reads the logits of the next token, and not only their summary."""
        return self._grammar is not None or self.sampler.reads_logits

    def start(self) -> None:
        self.has_started = True
        if self.request.constraint is not None:
            self._grammar = self.request.constraint.start()
            self._budget = TokenBudget(self._grammar, self.request.constraint.end_ids)
            self.forced_by_grammar.extend(self._grammar.forced())
        self._emit(
            Started(len(self.request.prompt_ids), self.reused_tokens, self.sampler.seed, tuple(self.prompt_stats))
        )
        for stats in self.request.kept:
            if not self.ended:
                self._replay(stats)

    def report_prompt(self) -> None:
        """Emit the progress of prefill, unless the answer has begun."""
        if not self.has_started:
            read_tokens = 0 if self.cache is None else self.cache.length
            self._emit(PromptProgress(read_tokens, len(self.known_ids)))  # a branch prefills the tokens it keeps, too

    def pause(self) -> None:
        self._emit(Paused(self.handle.watch))

    def resume(self) -> None:
        self._emit(Resumed())

    def choose(self, logits: Tensor, summary: LogitsSummary | None = None) -> Choice:
        """Return the next token: a forced one, or one sampled from those that the grammar allows.

        Args:
            logits: raw float32 logits, shape (vocab,).
            summary: statistics of the logits, if known.
        """
        if self.forced_by_request:
            return self._force(self.forced_by_request.popleft(), len(logits))
        if self.forced_by_grammar:
            return self._force(self.forced_by_grammar[0], len(logits))
        if self._grammar is None or self._budget is None:
            return Choice(*self.sampler.choose(logits, summary=summary), None)
        mask = Mask(self._grammar.allowed())
        token_id, uniform = self.sampler.pick(logits, mask.allowed)
        replacement = self._budget.replacement(token_id, self.tokens_left - 1)
        if replacement is not None and mask.allowed[replacement]:
            token_id, mask = replacement, Mask(Mask.forcing(replacement, len(logits)).allowed)
        self.sampler.take(token_id)
        return Choice(token_id, uniform, mask)

    def accept(self, stats: TokenStats) -> None:
        """Append the chosen token, and emit the steps that cannot belong to a stop string, and the end if reached."""
        watch = self._append(stats)
        if watch is not None and not self.ended:
            self.handle.pause(watch)

    def finish(self, reason: FinishReason, end: Step | None = None) -> None:
        """End the run and emit the buffered steps, unless the rest of the text completes a stop string.

        Args:
            end: step of the end token, if the model chose one.
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

    def _force(self, token_id: int, vocab_size: int) -> Choice:
        """Return a forced token, which uses up the same random numbers as a chosen one in its place."""
        if self.forced_by_grammar and self.forced_by_grammar[0] == token_id:
            self.sampler.take(token_id)
            return Choice(token_id, None, Mask.forcing(token_id, vocab_size))
        mask = None
        if self._grammar is not None:
            mask = Mask(self._grammar.allowed())
            if not mask.allowed[token_id]:
                raise InvalidRequestError(
                    "token_id", token_id, "a token that the response format allows at this position"
                )
        uniform = self.sampler.skip()
        self.sampler.take(token_id)
        return Choice(token_id, uniform, mask)

    def _replay(self, stats: TokenStats) -> None:
        """Append a token that another request chose, and use up its random number."""
        if not stats.forced:
            self.sampler.skip()
        self.sampler.take(stats.token_id)
        self._append(stats)

    def _append(self, stats: TokenStats) -> int | None:
        """Append a token to the answer; return the index of the first watch that pauses here."""
        if stats.logprob != stats.logprob:
            raise NumericalError(
                "the model computed NaN for the next token; its weights are damaged or overflow in this precision"
            )
        token_id = stats.token_id
        if token_id in self._stop_ids:
            self.finish("stop_token", self._step("", stats))
            return None
        if self._grammar is not None:
            self._consume(self._grammar, token_id)
        self.token_ids.append(token_id)
        self._generated += 1
        text = self._detokenizer.decode(token_id)
        self._buffer(text, stats)
        if self.ended:
            return None
        if self._grammar is not None and self._grammar.ended:
            self.finish("grammar")
        elif self.tokens_left <= 0:
            self.finish("length")
        hits = [index for index, watch in enumerate(self.request.watches) if watch.matches(stats, text)]
        return hits[0] if hits else None

    def _consume(self, grammar: GrammarState, token_id: int) -> None:
        grammar.consume(token_id)
        if self._budget is not None:
            self._budget.consume(token_id)
        if self.forced_by_grammar and self.forced_by_grammar[0] == token_id:
            self.forced_by_grammar.popleft()
        else:  # the request's token may spell the forced text in other tokens
            self.forced_by_grammar.clear()
        if not self.forced_by_grammar:
            self.forced_by_grammar.extend(grammar.forced())

    def _step(self, text: str, stats: TokenStats) -> Step:
        return Step(text, stats, time.perf_counter() - self.submitted_at)

    def _buffer(self, text: str, stats: TokenStats) -> None:
        step = self._step(text, stats)
        self._buffered.append(_BufferedStep(step, self._text_length, self._text_length + len(text)))
        self._text_length += len(text)
        match = self._matcher.feed(text)
        if match is None:
            self._release(upto=self._matcher.safe)
            return
        self._cut(match.start)
        self._release(upto=self._text_length, final=True)
        self._end(Finished("stop_string"))

    def _cut(self, end: int) -> None:
        """Cut the buffered text at offset ``end``, and drop the steps beyond it."""
        while self._buffered and self._buffered[-1].start >= end:
            self._buffered.pop()
        if self._buffered and self._buffered[-1].end > end:
            last = self._buffered[-1]
            last.step = replace(last.step, text=last.step.text[: end - last.start])

    def _release(self, upto: int, *, final: bool = False) -> None:
        """Emit the buffered steps before offset ``upto``; one without text waits for its character to be complete."""
        steps = self._buffered
        while steps and steps[0].end <= upto and (final or steps[0].start < self._text_length):
            self._emit(steps.popleft().step)

    def _end(self, event: Finished | Failed) -> None:
        self.handle.ended.set()
        self._emit(event)
