"""What a token costs besides the forward, from the 100th to the 2,000th of one generation."""

from __future__ import annotations

import queue
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from workbench.engine.loading import load
from workbench.engine.requests import Event, Failed, Finished, GenerationRequest
from workbench.engine.scheduler import Engine


class TimedDecoder:
    """Hands everything on to a decoder and notes when each decode began and ended."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self.spans: list[tuple[float, float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def decode(self, token_ids: Sequence[int], caches: Sequence[Any]) -> Any:
        started = time.perf_counter()
        logits = self._decoder.decode(token_ids, caches)
        self.spans.append((started, time.perf_counter()))
        return logits


@pytest.mark.timeout(600)
def test_our_share_of_a_step_is_under_5_percent_and_does_not_grow(smollm2_path: Path) -> None:
    model = load(smollm2_path, precision="int4")
    timed = TimedDecoder(model.decoder)
    object.__setattr__(model, "decoder", timed)
    engine = Engine(model)
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    request = GenerationRequest(
        prompt_ids=(504, 3575, 282, 4649), max_tokens=2000, stop_ids=frozenset(), alternatives=5
    )
    engine.submit(request, events.put)
    while not isinstance(event := events.get(), Finished):
        assert not isinstance(event, Failed), event
    engine.close()
    ours = [begin - end for (_, end), (begin, _) in zip(timed.spans, timed.spans[1:], strict=False)]
    early, late = statistics.median(ours[100:300]), statistics.median(ours[-200:])
    step = statistics.median(end - begin for begin, end in timed.spans[100:300])
    print(f"\nours: {early * 1e3:.2f} ms early, {late * 1e3:.2f} ms late; a decode takes {step * 1e3:.2f} ms")
    assert early / (early + step) < 0.05
    assert late < 1.25 * early
