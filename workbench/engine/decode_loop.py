"""The decode loop of one loaded model, on a thread of its own: everything in flight is decoded together.

The thread repeats one round: accept new requests, prefill one chunk of waiting prompts, decode one token for every
running request. So a long prompt delays the others by one chunk at a time, a cancelled request ends before its next
token, and a failing request does not affect others. A paused request does not count as running, and its keys and values
are moved to the prefix cache, like those of a request that has ended.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.engine.decoders import Decoded
from workbench.engine.generation import Generation
from workbench.engine.inspection import KeptLogits
from workbench.engine.kv_cache import KVCache, PrefixCache
from workbench.engine.logprobs import measured
from workbench.engine.prefill import FORCED_CHUNK, PREFILL_CHUNK, Prefiller
from workbench.engine.step_errors import error_for_caller
from workbench.errors import ClosedError
from workbench.machine import give_back_memory, thread_count

if TYPE_CHECKING:
    from workbench.engine.kernels.row_reductions import LogitsSummary
    from workbench.engine.loading import LoadedModel


class DecodeLoop:
    """Runs requests and calls from any thread on a thread of its own.

    Args:
        max_active: number of requests that decode together; others wait.
    """

    def __init__(
        self, model: LoadedModel, *, prefix_cache: PrefixCache, kept_logits: KeptLogits, max_active: int
    ) -> None:
        self.model = model
        self.prefix_cache = prefix_cache
        self._prefiller = Prefiller(model.decoder, prefix_cache)
        self._kept = kept_logits
        self._max_active = max_active
        self._inbox: queue.SimpleQueue[Generation | Call | None] = queue.SimpleQueue()
        self._waiting: deque[Generation] = deque()
        self._active: list[Generation] = []
        self._paused: list[Generation] = []
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name=f"inference-{model.name}", daemon=True)
        self._thread.start()

    def put(self, item: Generation | Call) -> None:
        """Queue a request or a call.

        Raises:
            ClosedError: the loop was closed.
        """
        with self._lock:
            if self._closed:
                raise ClosedError(f"model {self.model.name} was closed; open a new workbench or load the model again")
            self._inbox.put(item)

    def wake(self) -> None:
        """Check which requests were paused, resumed or cancelled; harmless if the loop is closed."""
        with suppress(ClosedError):
            self.put(Call(_nothing, Future()))

    def close(self, timeout_s: float | None) -> None:
        """Fail all requests in flight with `ClosedError` and end the thread. Closing twice is harmless."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def waiting(self) -> int:
        """Number of requests that have not started yet."""
        return len(self._waiting) + self._inbox.qsize()

    @property
    def in_flight(self) -> int:
        """Number of requests that are running, paused or waiting."""
        return len(self._active) + len(self._paused) + self.waiting

    # Everything below runs on the loop's own thread.

    def _serve(self) -> None:
        torch.set_num_threads(thread_count())
        with torch.inference_mode():
            while self._accept_items():
                self._drop_cancelled()
                self._pause_and_resume()
                self._prefill()
                self._decode()
        error = ClosedError(f"model {self.model.name} was closed while the request was running")
        for generation in [*self._active, *self._paused, *self._waiting]:
            self._fail(generation, error)
        self._active.clear()
        self._paused.clear()
        self._waiting.clear()
        self.prefix_cache.clear()

    def _accept_items(self) -> bool:
        """Accept all queued items, waiting while there is nothing to do; return False when the loop must end."""
        while True:
            idle = not self._active and not self._waiting
            if self._inbox.empty():
                if not idle:
                    return True
                give_back_memory()
            item = self._inbox.get()  # only this thread removes items
            if item is None:
                return False
            if isinstance(item, Generation):
                self._waiting.append(item)
            else:
                item.run()
                return True  # one call per round, so that requests are delayed by one at a time
            # An idle thread's frame must not keep the last request alive.
            del item

    def _drop_cancelled(self) -> None:
        for generation in [*self._active, *self._paused, *self._waiting]:
            if generation.handle.cancelled.is_set():
                self._guarded(generation, partial(generation.finish, "cancelled"))
        self._sweep()

    def _pause_and_resume(self) -> None:
        for generation in [*self._paused]:
            if not generation.handle.pause_requested.is_set():
                self._paused.remove(generation)
                self._waiting.appendleft(generation)  # it has waited before
                self._guarded(generation, generation.resume)
        for requests in (self._active, self._waiting):
            pausing = [one for one in requests if one.handle.pause_requested.is_set()]
            # A request that was cancelled after `_drop_cancelled` is left to the next round.
            for generation in [one for one in pausing if not one.handle.cancelled.is_set()]:
                requests.remove(generation)
                self._paused.append(generation)
                self._prefiller.cache_prefix(generation)
                self._guarded(generation, generation.pause)
        self._sweep()

    def _prefill(self) -> None:
        """Prefill one chunk of the prompt that has waited longest, and the prompts after it that fit into the chunk."""
        room = PREFILL_CHUNK
        while self._waiting and len(self._active) < self._max_active:
            generation = self._waiting[0]
            if room < PREFILL_CHUNK and len(generation.known_ids) > room:
                return
            room -= len(generation.known_ids)
            self._guarded(generation, partial(self._prefill_chunk, generation))
            if generation.ended:
                self._sweep()

    def _prefill_chunk(self, generation: Generation) -> None:
        if generation.cache is None:
            generation.report_prompt()
        if not self._prefiller.prefill_chunk(generation):
            generation.report_prompt()
            return
        if not generation.has_started:
            generation.start()
        self._waiting.popleft()
        self._active.append(generation)

    def _decode(self) -> None:
        """Decode one token for every running request, in batches of ``rows_per_step``; several if they are forced."""
        stepping = [one for one in self._active if not one.ended and not self._skip_ahead(one)]
        rows = self.model.decoder.rows_per_step
        for first in range(0, len(stepping), rows):
            self._decode_together(stepping[first : first + rows])
        self._sweep()

    def _skip_ahead(self, generation: Generation) -> bool:
        """Prefill forced tokens in one chunk if that is cheaper than decoding them; return whether it was done.

        A short chunk takes as long as a step. A decoded token costs its row's share of a step, so the chunk is cheaper
        if there are at least as many forced tokens as rows.
        """
        forced = generation.forced_by_grammar
        if generation.forced_by_request or not forced or len(forced) < len(self._active):
            return False
        self._guarded(generation, partial(self._prefill_forced, generation))
        return True

    def _prefill_forced(self, generation: Generation) -> None:
        """Append forced tokens, each with its own stats, and choose the token after them."""
        count = min(len(generation.forced_by_grammar), generation.tokens_left, FORCED_CHUNK - 1)
        chunk = [generation.token_ids[-1], *islice(generation.forced_by_grammar, count)]
        logits = self.model.decoder.decode_known(chunk, _cache(generation))  # (count + 1, vocab)
        for row in logits.split(1):
            if not generation.ended and not generation.handle.pause_requested.is_set():
                self._choose([generation], Decoded(row, [None]))

    def _decode_together(self, group: list[Generation]) -> None:
        group = [generation for generation in group if not generation.ended]
        if not group:
            return
        try:
            decoded = self.model.decoder.decode(
                [generation.token_ids[-1] for generation in group], [_cache(generation) for generation in group]
            )
        except BaseException as error:  # noqa: BLE001 - any error must end its request
            if len(group) == 1:
                self._fail(group[0], error)
                return
            decoded = None
        if decoded is not None:
            self._choose(group, decoded)
            return
        for generation in group:  # one at a time, so that only the one at fault fails
            self._decode_together([generation])

    def _choose(self, group: Sequence[Generation], decoded: Decoded) -> None:
        """Choose one token for each decoded row and append it to its request."""
        summaries = decoded.summaries
        read = [row for row, one in enumerate(group) if summaries[row] is None or one.reads_logits]
        try:
            rows = rows_to_read(decoded.logits, read)
        except BaseException as error:  # noqa: BLE001 - a device may report here what went wrong in the step
            for generation in group:
                self._fail(generation, error)
            return
        for generation, logits, summary in zip(group, rows, summaries, strict=True):
            self._guarded(generation, partial(self._choose_token, generation, logits, summary))

    def _choose_token(self, generation: Generation, logits: Tensor, summary: LogitsSummary | None) -> None:
        """Choose a request's next token, measure it, keep its logits, and append it."""
        choice = generation.choose(logits, summary)
        stats = measured(logits, choice.token_id, generation.request.alternatives, choice.mask, summary)
        self._kept.add(generation.handle.number, generation.position, logits, choice.uniform, choice.mask)
        generation.accept(stats)

    def _guarded(self, generation: Generation, action: Callable[[], None]) -> None:
        """Run code of one request; an error fails that request only."""
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - any error must end its request
            self._fail(generation, error)

    def _fail(self, generation: Generation, error: BaseException) -> None:
        generation.cache = None
        if generation.ended:  # its listener raised at the last event
            return
        try:
            generation.fail(error_for_caller(error, self.model.name))
        except BaseException:  # noqa: BLE001 - the listener itself raises
            generation.handle.ended.set()

    def _sweep(self) -> None:
        """Drop ended requests and move their keys and values to the prefix cache."""
        ended = [one for one in [*self._active, *self._paused, *self._waiting] if one.ended]
        if not ended:
            return
        self._active = [generation for generation in self._active if not generation.ended]
        self._paused = [generation for generation in self._paused if not generation.ended]
        self._waiting = deque(generation for generation in self._waiting if not generation.ended)
        for generation in ended:
            self._prefiller.cache_prefix(generation)


class Call:
    """A function to run on the inference thread."""

    def __init__(self, function: Callable[[], object], future: Future[object]) -> None:
        self._function = function
        self._future = future

    def run(self) -> None:
        if not self._future.set_running_or_notify_cancel():
            return
        try:
            self._future.set_result(self._function())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller
            self._future.set_exception(error)


def rows_to_read(logits: Tensor, read: Sequence[int]) -> list[Tensor]:
    """Return rows of logits, of which those that are read are copied off a device, all of them together.

    Each copy waits for the device: one for each row would take longer than the rest of a step.
    """
    rows = list(logits.unbind())
    if read and logits.device.type != "cpu":
        for row, copied in zip(read, logits[read].cpu().unbind(), strict=True):
            rows[row] = copied
    return rows


def _nothing() -> None: ...


def _cache(generation: Generation) -> KVCache:
    assert generation.cache is not None, "a running request has a cache"
    return generation.cache
