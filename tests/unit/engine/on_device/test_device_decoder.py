"""The decoder of devices computes what transformers' own forward computes, in whatever slots and batches it does."""

from __future__ import annotations

import math
import os
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from tests.budget import budget
from tests.exact_logits import (
    check_equal,
    check_rows_on_both_sides_of_longropes_border,
    logits_by,
    some_ids,
    transformers_model,
)
from tests.fakes.listening import generate, submit
from tests.tiny_structures import FUSED, VOCAB, FolderOf, saved_structures
from workbench.engine import decode_loop
from workbench.engine.decode_loop import rows_to_read
from workbench.engine.kernels.row_reductions import SUMMARIZED, softmax_stats, top_k_values
from workbench.engine.loading import load
from workbench.engine.on_device import step
from workbench.engine.on_device.decoder import DeviceDecoder
from workbench.engine.on_device.slots import LEAST_SPAN, DeviceCache
from workbench.engine.on_device.summaries import read_summaries, summarize
from workbench.engine.requests import Failed, GenerationRequest
from workbench.engine.scheduler import Engine

DIVERSE = ("gemma2", "gpt2", "stablelm-parallel", "olmo2", "qwen3-moe", "cohere2", "granite", "gpt-neox")
"""Structures that differ most from each other; WORKBENCH_FULL_LAWS=1 tries all."""
FULL = bool(os.environ.get("WORKBENCH_FULL_LAWS"))
CASES = tuple(FUSED) if FULL else DIVERSE


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> FolderOf:
    return saved_structures(tmp_path_factory.mktemp("structures"))


def on_a_device(name: str) -> str:
    """The device of ``--device``, or the reference for devices."""
    return "torch:cpu" if name == "cpu" else name


def on_device(folder: Path, device: str) -> DeviceDecoder:
    decoder = load(folder, device=on_a_device(device)).decoder
    assert isinstance(decoder, DeviceDecoder)
    return decoder


oracle = cache(transformers_model)


def exact(folder: Path, token_ids: list[int]) -> Tensor:
    """The logits of every position by one forward pass of transformers."""
    return logits_by(oracle(folder), token_ids)


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_transformers_in_parts_and_steps(folder_of: FolderOf, case: str, device: str) -> None:
    decoder, token_ids = on_device(folder_of(case), device), some_ids(300)
    expected = exact(folder_of(case), token_ids)
    assert float(expected.abs().max()) > 1, "a model that says nothing proves nothing"
    check_equal(decoder.prefill(token_ids, decoder.new_cache(), every_position=True), expected)
    check_equal(decoder.prefill(token_ids, decoder.new_cache()), expected[-1:])
    parts, done = decoder.new_cache(), 0
    for size in (1, 2, 40, 7, 90):
        check_equal(
            decoder.prefill(token_ids[done : done + size], parts, every_position=True), expected[done : done + size]
        )
        done += size
    single = parts.fork(LEAST_SPAN // 2)
    decoder.read(token_ids[LEAST_SPAN // 2 : LEAST_SPAN - 4], single)
    for at in range(LEAST_SPAN - 4, LEAST_SPAN + 4):  # where the slots grow
        check_equal(decoder.decode([token_ids[at]], [single]).logits, expected[at : at + 1])
    hidden = decoder.embed(token_ids)
    with torch.inference_mode():
        states = oracle(folder_of(case)).base_model(torch.tensor([token_ids]), use_cache=False).last_hidden_state[0]
    check_equal(hidden, states)


@dataclass
class Sequence:
    """A text with its cache, of which `expected` knows all logits."""

    token_ids: list[int]
    cache: DeviceCache
    expected: Tensor


class Texts:
    """Sequences of one decoder in any order of operations, each compared with a forward pass over its whole text."""

    def __init__(self, decoder: DeviceDecoder, folder: Path, seed: int) -> None:
        self.decoder, self.folder, self.rng = decoder, folder, random.Random(seed)
        self.texts: list[Sequence] = []

    def begin(self) -> None:
        token_ids = some_ids(60, self.rng.randrange(10**6))
        self.texts.append(Sequence(token_ids, self.decoder.new_cache(), exact(self.folder, token_ids)))
        self._append(self.texts[-1], self.rng.randrange(1, 20))

    def fork(self) -> None:
        trunk = self.rng.choice(self.texts)
        length = self.rng.randrange(1, trunk.cache.length + 1)
        token_ids = [*trunk.token_ids[:length], *some_ids(60 - length, self.rng.randrange(10**6))]
        self.texts.append(Sequence(token_ids, trunk.cache.fork(length), exact(self.folder, token_ids)))

    def append(self) -> None:
        if unfinished := self._unfinished():
            text = self.rng.choice(unfinished)
            self._append(text, self.rng.randrange(1, 61 - text.cache.length))

    def drop(self) -> None:
        if len(self.texts) > 1:
            self.texts.pop(self.rng.randrange(len(self.texts)))

    def decode(self) -> None:
        unfinished = self._unfinished()
        most = min(len(unfinished), self.decoder.rows_per_step)
        if not most:
            return
        rows = self.rng.sample(unfinished, self.rng.randrange(1, most + 1))
        at = [row.cache.length for row in rows]
        found = self.decoder.decode([row.token_ids[row.cache.length] for row in rows], [row.cache for row in rows])
        for index, (row, place) in enumerate(zip(rows, at, strict=True)):
            check_equal(found.logits[index], row.expected[place])
            summary = found.summaries[index]
            assert summary is not None
            assert summary.token_ids[0] == int(found.logits[index].argmax())

    def _append(self, text: Sequence, count: int) -> None:
        done = text.cache.length
        found = self.decoder.prefill(text.token_ids[done : done + count], text.cache, every_position=True)
        check_equal(found, text.expected[done : done + count])

    def _unfinished(self) -> list[Sequence]:
        return [text for text in self.texts if text.cache.length < 60]


def test_sequences_that_come_and_go_in_any_order_are_each_as_if_alone(folder_of: FolderOf, device: str) -> None:
    case = "gemma2"
    decoder = on_device(folder_of(case), device)
    for seed in range(budget(3)):
        texts = Texts(decoder, folder_of(case), seed)
        texts.begin()
        operations = [texts.begin, texts.begin, texts.fork, texts.append, texts.drop, *[texts.decode] * 6]
        for _ in range(30):
            texts.rng.choice(operations)()


def test_slots_that_are_too_few_serve_all_in_turn(
    folder_of: FolderOf, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = on_device(folder_of("gemma2"), device)
    kept = decoder._pool.kept

    def alone(cache: DeviceCache) -> Tensor:
        assert decoder._pool.lock.locked(), "another engine's call could move the sequence"
        return kept(cache)

    monkeypatch.setattr(decoder._pool, "kept", alone)
    decoder._pool._budget_bytes = 2 * LEAST_SPAN * decoder._pool.token_bytes
    assert decoder.rows_per_step == 2
    texts = Texts(decoder, folder_of("gemma2"), 1)
    for _ in range(4):
        texts.begin()
    texts.fork()
    for _ in range(20):
        texts.decode()


def test_slots_that_grow_within_a_batch_stay_within_their_budget(folder_of: FolderOf, device: str) -> None:
    folder = folder_of("granite")
    decoder, texts = on_device(folder, device), [some_ids(count, count) for count in (LEAST_SPAN + 1, 9, 10, 11)]
    decoder._pool._budget_bytes = 4 * LEAST_SPAN * decoder._pool.token_bytes
    caches = [decoder.new_cache() for _ in texts]
    for text, one in zip(texts, caches, strict=True):
        decoder.prefill(text[:-1], one)
    assert decoder.rows_per_step == 4
    together = decoder.decode([text[-1] for text in texts], caches)
    assert decoder.rows_per_step == 2
    assert decoder._pool._kv.nbytes <= decoder._pool._budget_bytes
    for row, text in enumerate(texts):
        check_equal(together.logits[row : row + 1], exact(folder, text)[-1:])
        summary = together.summaries[row]
        assert summary is not None
        assert summary.token_ids[0] == int(together.logits[row].argmax())


def test_sixteen_together_give_the_ids_of_sixteen_alone_and_of_transformers(folder_of: FolderOf, device: str) -> None:
    folder = folder_of("granite")
    model = load(folder, device=on_a_device(device))
    engine = Engine(model, prefix_cache_bytes=0)
    try:
        requests = [
            GenerationRequest(prompt_ids=tuple(some_ids(1 + 3 * seed, seed)), max_tokens=24, stop_ids=frozenset())
            for seed in range(16)
        ]
        together = [submit(engine, request)[1] for request in requests]
        for request, heard in zip(requests, together, strict=True):
            assert heard.wait().ids == generate(engine, request).ids
            chosen = exact(folder, [*request.prompt_ids, *heard.ids]).argmax(-1)
            assert heard.ids == chosen[len(request.prompt_ids) - 1 : -1].tolist()
    finally:
        engine.close()


def test_rows_on_both_sides_of_longropes_border_are_each_as_if_alone(tmp_path: Path, device: str) -> None:
    check_rows_on_both_sides_of_longropes_border(tmp_path, lambda folder: on_device(folder, device))


class FarRows:
    """Rows of logits on a device that this machine does not have: each copy waits for it."""

    device = SimpleNamespace(type="cuda")
    copies = 0

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def unbind(self) -> list[FarRows]:
        return [FarRows(row) for row in self.rows]

    def __getitem__(self, rows: list[int]) -> FarRows:
        return FarRows(self.rows[rows])

    def cpu(self) -> Tensor:
        FarRows.copies += 1
        return self.rows


def test_the_rows_that_choices_read_leave_a_device_together() -> None:
    logits = torch.randn(5, 7)
    for read in ([], [3], [0, 2, 4], [0, 1, 2, 3, 4]):
        FarRows.copies = 0
        found: list[Any] = rows_to_read(FarRows(logits), read)  # type: ignore[arg-type]
        assert FarRows.copies == min(len(read), 1)
        for row, one in enumerate(found):
            assert isinstance(one, Tensor) == (row in read)
            assert torch.equal(one if row in read else one.rows, logits[row])
    assert all(one.data_ptr() == row.data_ptr() for one, row in zip(rows_to_read(logits, [0, 1]), logits, strict=True))


def test_a_device_that_fails_late_fails_the_requests_of_the_step_alone(
    folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(load(folder_of("granite"), device="torch:cpu"), prefix_cache_bytes=0)
    request = GenerationRequest(prompt_ids=(5, 6), max_tokens=4, stop_ids=frozenset())

    def lost(*_: object) -> list[Tensor]:
        raise torch.AcceleratorError("the device is lost")

    try:
        before = generate(engine, request).ids
        with monkeypatch.context() as patches:
            patches.setattr(decode_loop, "rows_to_read", lost)
            heard = [submit(engine, request)[1] for _ in range(3)]
            ends = [one.wait().events[-1] for one in heard]
        assert ["the device is lost" in str(end.error) for end in ends if isinstance(end, Failed)] == [True] * 3
        assert generate(engine, request).ids == before
    finally:
        engine.close()


class RecordedStep:
    """A step recorded once and replayed with other inputs, as a CUDA graph is: a recorder that runs on the CPU."""

    memories: dict[int, set[object]]
    """The memory of all recordings, by the buffer that they read and write."""
    recordings = 0

    def __init__(self, recorded: Any, inputs: Tensor, span: int) -> None:
        type(self).recordings += 1
        self.memories.setdefault(recorded._pool.generation, set()).add(recorded.memory())
        self._replay = make_fx(lambda given: recorded.compute(given, span))(inputs)

    def replay(self, inputs: Tensor) -> Any:
        return self._replay(inputs)


def test_a_recorded_step_replays_with_other_inputs(folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "_Graph", RecordedStep)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    for case in ("gemma2", "gpt2", "qwen3-moe") if FULL else ("qwen3-moe",):  # recording takes seconds
        decoder = on_device(folder_of(case), "torch:cpu")
        decoder._step._captures = True
        RecordedStep.recordings, RecordedStep.memories = 0, {}
        texts = Texts(decoder, folder_of(case), 7)
        for _ in range(2):
            texts.begin()
        for _ in range(12):
            texts.decode()
        before = RecordedStep.recordings
        decoder._reserve(LEAST_SPAN + 1)  # the slots move
        texts.decode()
        assert (before, RecordedStep.recordings) == (2, 3), "one for each batch size, and again for the new slots"
        memories = list(RecordedStep.memories.values())
        assert len(set.union(*memories)) == len(memories) == 2, "one for each buffer"


def test_summaries_are_those_of_the_cpus_kernels() -> None:
    torch.manual_seed(0)
    rows = torch.randn(12, 500) * torch.linspace(0.1, 30, 12).unsqueeze(1)
    rows[3] = rows[3].round()  # ties
    rows[4, 10:] = -torch.inf
    rows[5] = 1.0
    rows[6, 7] = torch.nan
    for width in (500, 20, 1):
        part = rows[:, :width].contiguous()
        for row, summary in zip(part, read_summaries(summarize(part)), strict=True):
            if summary is None:
                assert bool(row.isnan().any()) or int((row == row.max()).sum()) > SUMMARIZED
                continue
            values, token_ids = top_k_values(row, len(summary.values))
            assert (summary.values, summary.token_ids) == (values.tolist(), token_ids.tolist())
            expected = softmax_stats(row, token_id=summary.token_ids[-1])
            found = summary.sums(summary.token_ids[-1])
            assert found is not None
            assert (found.logit, found.above, found.top) == (expected.logit, expected.above, expected.top)
            assert math.isclose(found.log_total, expected.log_total, rel_tol=1e-5, abs_tol=1e-5)
            assert math.isclose(found.entropy, expected.entropy, rel_tol=1e-4, abs_tol=1e-5)


def test_ids_and_positions_outside_the_embeddings_are_refused_before_the_device_sees_them(
    folder_of: FolderOf, device: str
) -> None:
    decoder = on_device(folder_of("gpt2"), device)
    cache_ = decoder.new_cache()
    for outside in (-1, VOCAB):
        with pytest.raises(IndexError, match="token ids must be from 0 to 383"):
            decoder.decode([outside], [cache_])
    with pytest.raises(IndexError, match="positions must be below 512"):
        decoder.prefill([0] * 513, cache_)
    check_equal(decoder.prefill([5], decoder.new_cache()), exact(folder_of("gpt2"), [5]))
