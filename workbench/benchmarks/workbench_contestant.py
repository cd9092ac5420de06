"""The workbench's engine as the provider uses it, with top-5 logprobs at every token and every event read."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from llvmlite.binding import get_host_cpu_features
from numba.core import config
from torch import Tensor

from workbench.benchmarks.contestants import Stream
from workbench.benchmarks.processors import widest
from workbench.engine.embeddings import EmbeddingModel
from workbench.engine.loading import load
from workbench.engine.precision import Precision
from workbench.engine.requests import Event, Failed, Finished, GenerationRequest, Step
from workbench.engine.scheduler import Engine

ALTERNATIVES = 5


class WorkbenchContestant:
    """A model in one precision on one device behind `Engine.submit`."""

    is_rival = False

    def __init__(self, folder: Path, precision: Precision, name: str, device: str = "cpu") -> None:
        self.name = contestant_name(precision, device)
        model = load(folder, precision=precision, name=name, device=device)
        self.memory_bytes: int | None = model.memory_bytes
        self.instruction_set = _instruction_set()
        self._engine = Engine(model)

    def generate(self, prompt_ids: Sequence[int], tokens: int) -> Stream:
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        token_ids: list[int] = []
        arrived_s: list[float] = []
        started = time.perf_counter()
        self._engine.submit(_request(prompt_ids, tokens), events.put)
        while not _is_last(event := events.get()):
            if isinstance(event, Step):
                arrived_s.append(time.perf_counter() - started)
                token_ids.append(event.stats.token_id)
        return Stream(tuple(token_ids), arrived_s[0], arrived_s[-1])

    def generate_together(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        started = time.perf_counter()
        for prompt_ids in prompts:
            self._engine.submit(_request(prompt_ids, tokens), events.put)
        running = len(prompts)
        while running:
            running -= _is_last(events.get())
        return time.perf_counter() - started

    def forced(self, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> Iterator[Tensor]:
        decoder = self._engine.model.decoder
        cache = decoder.new_cache()
        yield self._engine.call(partial(decoder.prefill, prompt_ids, cache)).result()[0].log_softmax(-1)
        for token_id in token_ids[:-1]:
            yield self._engine.call(partial(decoder.decode, [token_id], [cache])).result().logits[0].log_softmax(-1)

    def close(self) -> None:
        self._engine.close()


class WorkbenchEmbedder:
    """A sentence model as the provider uses it: many texts at a time."""

    name = "workbench batched"
    is_rival = False

    def __init__(self, folder: Path) -> None:
        self._model = EmbeddingModel(folder)
        self.memory_bytes: int | None = self._model.memory_bytes
        self.instruction_set = _instruction_set()

    def embed(self, texts: Sequence[str]) -> float:
        started = time.perf_counter()
        self._model.embed(texts)
        return time.perf_counter() - started

    def close(self) -> None:
        del self._model


def contestant_name(precision: Precision, device: str) -> str:
    """Return the name in the report of the workbench in one precision, on a device."""
    return f"workbench {precision}" if device == "cpu" else f"workbench {precision} on {device}"


def _instruction_set() -> str:
    """Return the larger one of what numba compiles for and what torch uses."""
    compiled = config.CPU_FEATURES or " ".join(name for name, has in get_host_cpu_features().items() if has)
    return widest(f"{compiled} {torch.backends.cpu.get_cpu_capability()}")


def _request(prompt_ids: Sequence[int], tokens: int) -> GenerationRequest:
    return GenerationRequest(
        prompt_ids=tuple(prompt_ids), max_tokens=tokens, stop_ids=frozenset(), alternatives=ALTERNATIVES
    )


def _is_last(event: Event) -> bool:
    if isinstance(event, Failed):
        raise event.error
    return isinstance(event, Finished)
