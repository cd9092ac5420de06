"""One inference thread per loaded model: requests in, events out, everything in flight decoded together.

The thread repeats one round: take what has arrived, read one chunk of one waiting prompt, let every running request
decode one token. A long prompt therefore delays the others by a chunk, not by itself; a cancelled request leaves
before its next token; and one that fails takes nobody with it.
"""

from __future__ import annotations

import atexit
import queue
import threading
import traceback
import weakref
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import torch

from workbench.engine.generation import Event, Generation, GenerationRequest, Handle
from workbench.engine.inspection import Kept, KeptLogits, Trace, trace
from workbench.engine.kv_cache import KVCache, PrefixCache
from workbench.engine.logprobs import TokenStats, measure
from workbench.engine.machine import thread_count
from workbench.engine.sampling import Sampling
from workbench.engine.scoring import score
from workbench.errors import (
    BusyError,
    ClosedError,
    ContextLengthError,
    GenerationError,
    InvalidRequestError,
    OutOfMemoryError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from workbench.engine.loading import LoadedModel

T = TypeVar("T")

PREFILL_CHUNK = 512
"""Prompt tokens read at once: enough to keep matrix kernels busy, little enough to keep other requests flowing."""

PROMPT_LOGPROBS_CHUNK = 64
"""The same where logits of every position are asked for, which take 4 bytes times the vocabulary each."""

MAX_ACTIVE = 16
MAX_WAITING = 1024
PREFIX_CACHE_BYTES = 96 * 2**20
KEPT_LOGITS_BYTES = 32 * 2**20


class Engine:
    """A loaded causal model that serves requests from any thread.

    Args:
        model: what `loading.load` returned.
        prefix_cache_bytes: memory for keys and values of past sequences; 0 switches reuse off.
        kept_logits_bytes: memory for the logits of recent positions, which `inspect` reads; 0 keeps none.
        max_active: how many requests decode together; more wait their turn.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        prefix_cache_bytes: int = PREFIX_CACHE_BYTES,
        kept_logits_bytes: int = KEPT_LOGITS_BYTES,
        max_active: int = MAX_ACTIVE,
    ) -> None:
        self.model = model
        self.prefix_cache = PrefixCache(prefix_cache_bytes)
        self._kept = KeptLogits(kept_logits_bytes)
        self._max_active = max_active
        self._inbox: queue.SimpleQueue[Generation | _Call | None] = queue.SimpleQueue()
        self._waiting: deque[Generation] = deque()
        self._active: list[Generation] = []
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name=f"inference-{model.name}", daemon=True)
        self._thread.start()
        # A daemon thread inside a kernel while the interpreter goes down would abort the process.
        atexit.register(_close, weakref.ref(self))

    def submit(self, request: GenerationRequest, emit: Callable[[Event], None]) -> Handle:
        """Queue a request; ``emit`` is called on the inference thread with each event, the last Finished or Failed.

        Raises:
            InvalidRequestError: the prompt is empty or holds ids outside the vocabulary.
            ContextLengthError: the prompt leaves no room for a token.
            BusyError: too many requests wait already.
            ClosedError: the engine was closed.
        """
        self.check(request.prompt_ids)
        if self._inbox.qsize() + len(self._waiting) >= MAX_WAITING:
            raise BusyError(f"{MAX_WAITING} requests wait for {self.model.name} already; try again later")
        handle = Handle(request)
        stop_ids = self.model.eos_ids if request.stop_ids is None else request.stop_ids
        generation = Generation(
            handle,
            emit,
            vocabulary=self.model.vocabulary,
            stop_ids=stop_ids,
            context_length=self.model.context_length,
        )
        self._put(generation)
        return handle

    def check(self, prompt_ids: Sequence[int], field: str = "prompt") -> None:
        """Raise what `submit` would raise about a prompt, without queueing it."""
        vocab = self.model.decoder.vocab_size
        if not prompt_ids:
            raise InvalidRequestError(field, "", "at least one token of text")
        outside = next((token_id for token_id in prompt_ids if not 0 <= token_id < vocab), None)
        if outside is not None:
            raise InvalidRequestError(field, f"token id {outside}", f"token ids from 0 to {vocab - 1}")
        if len(prompt_ids) >= self.model.context_length:
            raise ContextLengthError(len(prompt_ids), self.model.context_length, field)

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run a function on the inference thread between two rounds, where the model is free to use."""
        future: Future[T] = Future()
        self._put(_Call(cast("Callable[[], object]", function), cast("Future[object]", future)))
        return future

    def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """One vector per prompt: the mean of the last hidden states after the final norm, at unit length."""
        for prompt in prompts:
            self.check(prompt)
        futures = [self.call(partial(self._embed, prompt)) for prompt in prompts]
        return [future.result() for future in futures]

    def score(
        self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]], alternatives: int = 0
    ) -> list[list[TokenStats]]:
        """Stats of every token of given continuations of a prompt; see `scoring.score`."""
        for token_ids in continuations:
            if not token_ids:
                raise InvalidRequestError("continuations", "", "texts of at least one token each")
            self.check([*prompt_ids, *token_ids])
        return self.call(partial(score, self.model.decoder, prompt_ids, continuations, alternatives)).result()

    def inspect(
        self, handle: Handle, position: int, sampling: Sampling | None = None, number: float | None = None
    ) -> Trace:
        """The sampling chain at a generated position, from the logits that were kept there.

        Args:
            sampling: other parameters than the run had, to see what they would have done.
            number: another random number than the run drew.

        Raises:
            InvalidRequestError: the position was not generated, or its logits are no longer kept.
        """
        kept = self._kept_at(handle, position)
        before = set(handle.token_ids[: len(handle.request.prompt_ids) + position])
        drawn = kept.number if number is None else number
        if drawn is None:  # a greedy run drew none; one half is as good as any
            drawn = 0.5
        return trace(kept.logits, sampling or handle.request.sampling, before, drawn)

    def kept_logits(self, handle: Handle, position: int) -> Tensor:
        """The raw float32 logits at a generated position, shape (vocab,); raises as `inspect` does."""
        return self._kept_at(handle, position).logits

    def _kept_at(self, handle: Handle, position: int) -> Kept:
        kept = self._kept.get(handle.number, position)
        if kept is None:
            positions = self._kept.positions(handle.number)
            held = (
                f"from {positions[0]} to {positions[-1]}" if positions else "in a newer run; none of this one is left"
            )
            raise InvalidRequestError("position", position, f"one whose logits are still kept, {held}")
        return kept

    def close(self, timeout_s: float | None = 10.0) -> None:
        """Fail what is in flight with `ClosedError` and end the thread. Closing twice is harmless."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    @property
    def in_flight(self) -> int:
        """Requests that are running or waiting."""
        return len(self._active) + len(self._waiting) + self._inbox.qsize()

    def _put(self, item: Generation | _Call) -> None:
        with self._lock:
            if self._closed:
                raise ClosedError(f"model {self.model.name} was closed; open a new workbench or load the model again")
            self._inbox.put(item)

    # Everything below runs on the inference thread.

    def _serve(self) -> None:
        torch.set_num_threads(thread_count())
        with torch.inference_mode():
            while self._take():
                self._drop_cancelled()
                self._read_prompt()
                self._decode()
        error = ClosedError(f"model {self.model.name} was closed while the request ran")
        for generation in [*self._active, *self._waiting]:
            self._fail(generation, error)
        self._active.clear()
        self._waiting.clear()
        self.prefix_cache.clear()

    def _embed(self, prompt: Sequence[int]) -> list[float]:
        pooled = self.model.decoder.embed(prompt).mean(0)  # (hidden,)
        return cast("list[float]", torch.nn.functional.normalize(pooled, dim=0).tolist())

    def _take(self) -> bool:
        """Take all that has arrived, waiting while there is nothing to do; False when it is time to end."""
        while True:
            idle = not self._active and not self._waiting
            try:
                item = self._inbox.get(block=idle)
            except queue.Empty:
                return True
            if item is None:
                return False
            if isinstance(item, Generation):
                self._waiting.append(item)
            else:
                item.run()
            # The last request must not be kept alive by an idle thread's frame.
            del item

    def _drop_cancelled(self) -> None:
        for generation in [*self._active, *self._waiting]:
            if generation.handle.cancelled.is_set():
                self._guarded(generation, partial(generation.finish, "cancelled"))
        self._sweep()

    def _read_prompt(self) -> None:
        """One chunk of the prompt of the request that has waited longest."""
        if not self._waiting or len(self._active) >= self._max_active:
            return
        generation = self._waiting[0]
        self._guarded(generation, lambda: self._read_chunk(generation))
        if generation.ended:
            self._sweep()

    def _read_chunk(self, generation: Generation) -> None:
        """Read on in the prompt; its last token is left to the decode step, together with all that run.

        So the first answer token comes from the same computation whether the prompt was read now or reused, and one
        seed gives one answer in every precision.
        """
        request, body = generation.request, list(generation.request.prompt_ids[:-1])
        if generation.cache is None:
            found = None if request.prompt_logprobs else self.prefix_cache.take(body)
            generation.cache, generation.reused_tokens = found or (self.model.decoder.new_cache(), 0)
        done = generation.cache.length
        chunk = body[done : done + (PROMPT_LOGPROBS_CHUNK if request.prompt_logprobs else PREFILL_CHUNK)]
        if chunk:
            logits = self.model.decoder.prefill(chunk, generation.cache, every_position=request.prompt_logprobs)
            if request.prompt_logprobs:
                following = request.prompt_ids[done + 1 : done + 1 + len(chunk)]
                generation.prompt_stats += measure(logits, following, [request.alternatives] * len(chunk))
        if done + len(chunk) == len(body):
            generation.start()
            self._waiting.popleft()
            self._active.append(generation)

    def _decode(self) -> None:
        """One token for every running request, as many together as the decoder takes."""
        rows = self.model.decoder.rows_per_step
        for first in range(0, len(self._active), rows):
            self._decode_together(self._active[first : first + rows])
        self._sweep()

    def _decode_together(self, group: list[Generation]) -> None:
        group = [generation for generation in group if not generation.ended]
        if not group:
            return
        try:
            logits = self.model.decoder.decode(
                [generation.token_ids[-1] for generation in group], [_cache(generation) for generation in group]
            )
        except BaseException as error:  # noqa: BLE001 - whatever it is, its request must hear of it
            if len(group) == 1:
                self._fail(group[0], error)
                return
            logits = None
        if logits is not None:
            self._choose(group, logits)
            return
        for generation in group:  # find out whose fault it is; the others go on
            self._decode_together([generation])

    def _choose(self, group: Sequence[Generation], logits: Tensor) -> None:
        """Sample one token for each row of ``logits`` (rows, vocab) and hand it to its request."""
        chosen: list[_Choice] = []
        for row, generation in enumerate(group):

            def choose(generation: Generation = generation, row: int = row) -> None:
                chosen.append(_Choice(generation, row, *generation.sampler.choose(logits[row])))

            self._guarded(generation, choose)
        if chosen:
            self._accept(chosen, logits)

    def _accept(self, chosen: list[_Choice], logits: Tensor) -> None:
        """Measure the chosen tokens, keep what they were chosen from, and hand them to their requests."""
        try:
            stats = measure(
                logits if len(chosen) == len(logits) else logits[[choice.row for choice in chosen]],
                [choice.token_id for choice in chosen],
                [choice.generation.request.alternatives for choice in chosen],
            )
        except BaseException as error:  # noqa: BLE001 - whatever it is, its request must hear of it
            if len(chosen) == 1:
                self._fail(chosen[0].generation, error)
                return
            stats = None
        if stats is None:  # find out whose it is: memory for one long list of alternatives, most likely
            for one in chosen:
                self._accept([one], logits)
            return
        for choice, stat in zip(chosen, stats, strict=True):
            generation = choice.generation
            self._kept.add(generation.handle.number, generation.position, logits[choice.row], choice.number)
            self._guarded(generation, partial(generation.accept, stat))

    def _guarded(self, generation: Generation, action: Callable[[], None]) -> None:
        """Run one request's own part; what it raises ends that request alone."""
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - whatever it is, its request must hear of it
            self._fail(generation, error)

    def _fail(self, generation: Generation, error: BaseException) -> None:
        generation.cache = None
        if generation.ended:  # its listener raised at the last event: there is nothing more to say
            return
        try:
            generation.fail(self._told(error))
        except BaseException:  # noqa: BLE001 - the listener itself is broken: nobody is left to tell
            generation.handle.ended.set()

    def _told(self, error: BaseException) -> BaseException:
        """The error as the caller gets it: typed, with the place as text, and holding no frame of this thread."""
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
            return OutOfMemoryError(
                f"memory ran out in a step of {self.model.name}: shorten the prompt or close a model"
            )
        place = "On the inference thread:\n" + "".join(traceback.format_tb(error.__traceback__))
        if not isinstance(error, Exception):  # SystemExit and its like would end the caller's event loop
            error = GenerationError(f"{self.model.name} raised {type(error).__name__} in a step: {error}")
        error.add_note(place)
        # Frames would keep tensors of the failed step alive for as long as the caller keeps the error.
        chain: BaseException | None = error
        while chain is not None:
            chain.__traceback__ = None
            chain = chain.__cause__ or chain.__context__
        return error

    def _sweep(self) -> None:
        """Let ended requests go and keep their keys and values for the next ones."""
        ended = [generation for generation in [*self._active, *self._waiting] if generation.ended]
        if not ended:
            return
        self._active = [generation for generation in self._active if not generation.ended]
        self._waiting = deque(generation for generation in self._waiting if not generation.ended)
        for generation in ended:
            if generation.cache is not None:
                try:
                    self.prefix_cache.put(generation.token_ids, generation.cache)
                except BaseException:  # noqa: BLE001 - what cannot be kept costs time later, and no answer now
                    self.prefix_cache.clear()
                generation.cache = None


@dataclass(frozen=True, slots=True)
class _Choice:
    """The token that was sampled for one row of the logits."""

    generation: Generation
    row: int
    token_id: int
    number: float | None


class _Call:
    """A function to run on the inference thread."""

    def __init__(self, function: Callable[[], object], future: Future[object]) -> None:
        self._function = function
        self._future = future

    def run(self) -> None:
        if not self._future.set_running_or_notify_cancel():
            return
        try:
            self._future.set_result(self._function())
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller
            self._future.set_exception(error)


def _cache(generation: Generation) -> KVCache:
    assert generation.cache is not None, "a running request has a cache"
    return generation.cache


def _close(engine: weakref.ref[Engine]) -> None:
    if (alive := engine()) is not None:
        alive.close()
