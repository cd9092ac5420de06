"""Conversion of engine events to emissions, the only place where engine and protocol meet."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from workbench.engine.requests import Failed, Finished, Paused, PromptProgress, Resumed, Started, Step
from workbench.protocol import StopReason
from workbench.providers.transformers.delivery import delivery_to_running_loop
from workbench.providers.transformers.inspecting import BranchInspector, EngineInspector
from workbench.providers.transformers.tokens import token_record
from workbench.providers.usage import UsageMeter
from workbench.records import AnswerPrefix, Emission, Inspector, RunProgress, TokenRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workbench.engine.detokenizer import Vocabulary
    from workbench.engine.requests import Event, GenerationRequest, Handle
    from workbench.engine.scheduler import Engine
    from workbench.providers.requests import Request

END_OF_MESSAGE = "<|eom_id|>"
"""Token with which Llama 3 ends a turn for a tool call; other families have none."""


class LateNote(Protocol):
    """Function that returns a note on an answer that has ended, or None."""

    def __call__(self, text: str, *, is_cut: bool) -> str | None: ...


async def engine_emissions(
    engine: Engine,
    request: GenerationRequest,
    *,
    source: Request,
    requested_at: float,
    notes: tuple[str, ...] = (),
    late_note: LateNote | None = None,
) -> AsyncIterator[Emission]:
    """Yield one emission per token of a request, including those of its answer prefix, then one with a stop reason.

    Args:
        source: request from which the engine's request was made.
        requested_at: time of the request on the clock of `time.perf_counter`.
        late_note: returns a note on the whole answer.
    """
    queued_after_s = time.perf_counter() - requested_at  # loading the model counts for the first token
    arrived: asyncio.Queue[Event] = asyncio.Queue()
    handle = engine.submit(request, partial(delivery_to_running_loop().put, arrived))
    progress = _Progress(engine, handle, source, notes, queued_after_s, late_note)
    try:
        while True:
            event = await arrived.get()
            match event:
                case PromptProgress():
                    progress.report(event)
                case Started():
                    progress.start(event)
                case Step():
                    yield progress.emission(event)
                case Paused() | Resumed():
                    progress.report_pause(event)
                case Finished():
                    yield progress.last(event)
                    return
                case Failed():
                    raise event.error
    finally:
        handle.cancel()  # a reader that stops early ends the request within a step


class _Progress:
    """State of one run."""

    def __init__(
        self,
        engine: Engine,
        handle: Handle,
        source: Request,
        notes: tuple[str, ...],
        queued_after_s: float,
        late_note: LateNote | None,
    ) -> None:
        self._late_note = late_note
        self._text: list[str] = []
        self._source = source
        self._notes = notes
        self._queued_after_s = queued_after_s
        self._vocabulary = engine.model.vocabulary
        self._is_greedy = handle.request.sampling.greedy
        self._prefix = source.answer_prefix or AnswerPrefix()
        self._inspector: Inspector = EngineInspector(engine, handle, has_images=source.has_images)
        if self._prefix.inspector is not None:
            self._inspector = BranchInspector(self._inspector, self._prefix.inspector, len(self._prefix.kept))
        self._meter = UsageMeter(kept_tokens=len(self._prefix.kept))
        self._position = 0
        self._prompt_records: tuple[TokenRecord, ...] = ()
        self._seed: int | None = None
        if source.control is not None:
            source.control.attach(handle)
            source.control.report(None)  # the model is loaded, and the prompt waits for its turn

    def report(self, event: PromptProgress) -> None:
        if self._source.control is not None:
            self._source.control.report(RunProgress("reading", event.read_tokens, event.prompt_tokens))

    def start(self, event: Started) -> None:
        self._meter.prompt_tokens, self._meter.reused_tokens = event.prompt_tokens, event.reused_tokens
        self._seed = None if self._is_greedy else event.seed
        if self._source.logprobs is not None and self._source.logprobs.prompt:
            measured = enumerate(event.prompt_stats, start=1)
            records = (token_record(self._vocabulary, stats, index, 0.0) for index, stats in measured)
            self._prompt_records = tuple(records) or self._prefix.prompt_tokens

    def emission(self, event: Step) -> Emission:
        self._text.append(event.text)
        return self._emission(event.text, (self._record(event),))

    def last(self, event: Finished) -> Emission:
        if self._late_note is not None and event.reason != "cancelled":
            note = self._late_note("".join([*self._text, event.text]), is_cut=event.is_cut)
            self._notes += (note,) if note else ()
        return self._emission(event.text, stop_reason=_stop_reason(event, self._vocabulary), end=self._end(event))

    def report_pause(self, event: Paused | Resumed) -> None:
        if self._source.control is None:
            return
        watch = event.watch if isinstance(event, Paused) else None
        at = None if watch is None else self._source.breakpoints[watch]
        self._source.control.report_pause(paused=isinstance(event, Paused), at=at)

    def _record(self, event: Step) -> TokenRecord:
        position = self._position
        self._position += 1
        if position < len(self._prefix.kept):
            return self._prefix.kept[position]
        elapsed_s = self._queued_after_s + event.elapsed_s
        self._meter.count(elapsed_s)
        return token_record(self._vocabulary, event.stats, position, elapsed_s)

    def _end(self, event: Finished) -> TokenRecord | None:
        if event.end is None:
            return None
        elapsed_s = self._queued_after_s + event.end.elapsed_s
        return token_record(self._vocabulary, event.end.stats, self._position, elapsed_s)

    def _emission(
        self,
        text: str,
        tokens: tuple[TokenRecord, ...] = (),
        stop_reason: StopReason | None = None,
        end: TokenRecord | None = None,
    ) -> Emission:
        prompt, self._prompt_records = self._prompt_records, ()  # emitted once
        return Emission(
            text,
            tokens,
            stop_reason,
            prompt_tokens=prompt,
            end=end,
            usage=self._meter.usage(),
            inspector=self._inspector,
            seed=self._seed,
            notes=self._notes,
        )


def _stop_reason(event: Finished, vocabulary: Vocabulary) -> StopReason:
    if event.reason in ("length", "cancelled"):
        return StopReason.out_of_tokens
    if event.end is not None and vocabulary.text(event.end.stats.token_id) == END_OF_MESSAGE:
        return StopReason.end_of_message
    return StopReason.end_of_turn
