"""Engine events to completion chunks: the one place where the engine and the protocol meet."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from workbench.engine.generation import Failed, Finished, Started, Step
from workbench.protocol import (
    CompletionResponseStreamChunk,
    RunDetail,
    StopReason,
    TokenLogProbs,
    attach_detail,
    token_logprobs,
)
from workbench.providers.transformers.delivery import delivery_to_running_loop
from workbench.providers.transformers.inspecting import EngineInspector
from workbench.providers.transformers.tokens import token_record
from workbench.providers.usage import UsageMeter
from workbench.records import TokenRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workbench.engine.detokenizer import Vocabulary
    from workbench.engine.generation import Event, GenerationRequest
    from workbench.engine.scheduler import Engine

END_OF_MESSAGE = "<|eom_id|>"
"""The token with which Llama 3 hands a turn over to a tool; other families have none."""


@dataclass(slots=True)
class _Progress:
    """What is known of one run so far."""

    notes: tuple[str, ...]
    inspector: EngineInspector
    meter: UsageMeter = field(default_factory=UsageMeter)
    prompt_records: tuple[TokenRecord, ...] = field(default=())
    seed: int | None = None


async def completion_chunks(
    engine: Engine,
    request: GenerationRequest,
    *,
    wants_logprobs: bool,
    asked_at: float,
    notes: tuple[str, ...] = (),
) -> AsyncIterator[CompletionResponseStreamChunk]:
    """Run a request; one chunk per token, then one that carries ``stop_reason``."""
    vocabulary = engine.model.vocabulary
    queued_after_s = time.perf_counter() - asked_at  # loading the model counts for the first token
    prompt_logprobs: list[TokenLogProbs] = []
    arrived: asyncio.Queue[Event] = asyncio.Queue()
    handle = engine.submit(request, partial(delivery_to_running_loop().put, arrived))
    progress = _Progress(notes, EngineInspector(engine, handle))
    meter = progress.meter
    try:
        while True:
            event = await arrived.get()
            match event:
                case Started():
                    meter.prompt_tokens, meter.reused_tokens = event.prompt_tokens, event.reused_tokens
                    progress.seed = None if request.sampling.greedy else event.seed
                    progress.prompt_records = tuple(
                        token_record(vocabulary, stats, index + 1, 0.0)
                        for index, stats in enumerate(event.prompt_stats)
                    )
                    prompt_logprobs = [token_logprobs(record) for record in progress.prompt_records]
                case Step():
                    elapsed_s = queued_after_s + event.elapsed_s
                    meter.count(elapsed_s)
                    record = token_record(vocabulary, event.stats, meter.generated_tokens - 1, elapsed_s)
                    logprobs = [*prompt_logprobs, token_logprobs(record)] if wants_logprobs else None
                    prompt_logprobs = []
                    yield attach_detail(
                        CompletionResponseStreamChunk(delta=event.text, logprobs=logprobs),
                        _detail(progress, (record,)),
                    )
                case Finished():
                    yield attach_detail(
                        CompletionResponseStreamChunk(
                            delta=event.text,
                            stop_reason=_stop_reason(event, vocabulary),
                            logprobs=prompt_logprobs or None,
                        ),
                        _detail(progress, ()),
                    )
                    return
                case Failed():
                    raise event.error
    finally:
        handle.cancel()  # whoever leaves early ends the request within a step


def _detail(progress: _Progress, tokens: tuple[TokenRecord, ...]) -> RunDetail:
    return RunDetail(
        tokens=tokens,
        usage=progress.meter.usage(),
        prompt_tokens=progress.prompt_records,
        inspector=progress.inspector,
        seed=progress.seed,
        notes=progress.notes,
    )


def _stop_reason(event: Finished, vocabulary: Vocabulary) -> StopReason:
    if event.reason in ("length", "cancelled"):
        return StopReason.out_of_tokens
    if event.stop_id is not None and vocabulary.text(event.stop_id) == END_OF_MESSAGE:
        return StopReason.end_of_message
    return StopReason.end_of_turn
