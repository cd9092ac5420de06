"""Many requests on one thread: each as if alone, none in another's way, and no end without a word to its caller."""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import budget
from tests.fakes.listening import Heard, generate, submit, told
from tests.fakes.models import PROMPT, VOCAB, FakeCache, FakeDecoder, Gate, fake_model, scripted_speech
from tests.rounding import rounding
from workbench.engine import decode_loop, scheduler
from workbench.engine.detokenizer import Detokenizer
from workbench.engine.kv_cache import PrefixCache
from workbench.engine.loading import LoadedModel
from workbench.engine.prefill import PREFILL_CHUNK
from workbench.engine.requests import Event, Failed, Finished, GenerationRequest, PromptProgress, Started, Step
from workbench.engine.sampling import Sampler, Sampling
from workbench.engine.scheduler import Engine
from workbench.errors import (
    BusyError,
    ClosedError,
    ContextLengthError,
    GenerationError,
    InvalidRequestError,
    NumericalError,
    OutOfMemoryError,
)

MakeEngine = Callable[..., Engine]


def mixed(count: int, seed: int = 0, longest: int = 40) -> list[GenerationRequest]:
    """Requests that differ in everything that a request may say."""
    rng = random.Random(seed)
    return [
        GenerationRequest(
            prompt_ids=tuple(rng.randrange(250) for _ in range(rng.randrange(1, 30))),
            sampling=Sampling(
                temperature=rng.choice([0.0, 0.7, 1.5]),
                top_k=rng.choice([0, 0, 5]),
                top_p=rng.choice([1.0, 0.9]),
                min_p=rng.choice([0.0, 0.0, 0.1]),
                repetition_penalty=rng.choice([1.0, 1.3]),
                logit_bias=rng.choice([None, {rng.randrange(250): 3.0, 7: -100.0}]),
                frequency_penalty=rng.choice([0.0, 0.5]),
                presence_penalty=rng.choice([0.0, -0.5]),
                seed=rng.randrange(1000),
            ),
            max_tokens=rng.randrange(1, longest),
            stop_strings=rng.choice([(), ("e",), ("ab", "\n", "A")]),
            alternatives=rng.choice([0, 0, 3, 20]),
            prompt_logprobs=rng.random() < 0.2,
        )
        for _ in range(count)
    ]


def busy(max_tokens: int = 10_000, prompt: Sequence[int] = (1, 2, 3)) -> GenerationRequest:
    return GenerationRequest(prompt_ids=tuple(prompt), max_tokens=max_tokens, stop_ids=frozenset())


def raising(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


# ------------------------------------------------------------------------------------------------- many at once


@pytest.mark.parametrize("rows_per_step", [1, 3, 8])
def test_sixteen_mixed_requests_are_each_as_if_alone(engine_of: MakeEngine, rows_per_step: int) -> None:
    requests = mixed(16)
    together = engine_of(FakeDecoder(rows_per_step=rows_per_step))
    running = [submit(together, request)[1] for request in requests]
    alone = engine_of()
    for request, heard in zip(requests, running, strict=True):
        assert told(heard.wait()) == told(generate(alone, request))


def test_sixteen_mixed_requests_on_a_real_architecture(engine_of: MakeEngine, tiny_model: LoadedModel) -> None:
    requests = mixed(16, seed=1, longest=16)
    together, alone = engine_of(model=tiny_model), engine_of(model=tiny_model)
    running = [submit(together, request)[1] for request in requests]
    for request, heard in zip(requests, running, strict=True):
        expected = generate(alone, request)
        assert heard.wait().ids == expected.ids
        assert heard.text == expected.text
        assert heard.logprobs == pytest.approx(expected.logprobs, abs=rounding(tiny_model))


def test_of_a_hundred_requests_the_ten_cancelled_disturb_no_other(engine_of: MakeEngine) -> None:
    requests = mixed(100, seed=2)
    together = engine_of(FakeDecoder(rows_per_step=8), max_active=16, prefix_cache_bytes=2**20)
    running = [submit(together, request) for request in requests]
    cancelled = random.Random(3).sample(range(100), 10)
    for index in cancelled:
        running[index][0].cancel()
    alone = engine_of()
    for index, (request, (_, heard)) in enumerate(zip(requests, running, strict=True)):
        expected = told(generate(alone, request))
        if index in cancelled and heard.wait().finished.reason == "cancelled":
            assert told(heard)[:-1] == expected[: len(heard.steps)], "what was there is a beginning of the whole"
        else:
            assert told(heard.wait()) == expected


def test_more_requests_than_rows_decode_in_groups(engine_of: MakeEngine) -> None:
    decoder, gate = FakeDecoder(rows_per_step=8), Gate()
    engine = engine_of(decoder)
    engine.call(gate)  # a prefill that took so long would have the others wait: decoding gets as much time
    running = [submit(engine, busy(30, [index]))[1] for index in range(10)]
    gate.open()
    for heard in running:
        heard.wait()
    assert Counter(decoder.decodes).most_common(1)[0][0] in {2, 8}
    assert max(decoder.decodes) == 8


def test_no_more_decode_together_than_allowed_and_the_rest_take_turns(engine_of: MakeEngine) -> None:
    decoder = FakeDecoder(rows_per_step=8)
    engine = engine_of(decoder, max_active=2)
    running = [submit(engine, busy(5, [index]))[1] for index in range(6)]
    assert [len(heard.wait().ids) for heard in running] == [5] * 6
    assert max(decoder.decodes) <= 2


def test_a_seed_gives_the_same_tokens_alone_in_company_and_again(engine_of: MakeEngine) -> None:
    request = GenerationRequest(
        prompt_ids=(5,), sampling=Sampling(temperature=1.0, seed=9), max_tokens=30, stop_ids=frozenset()
    )
    engine = engine_of(FakeDecoder(rows_per_step=4))
    first = generate(engine, request)
    others = [submit(engine, one)[1] for one in mixed(8)]
    again = [submit(engine, request)[1] for _ in range(3)]
    assert all(heard.wait().ids == first.ids for heard in again)
    assert first.started.seed == 9
    for heard in others:
        heard.wait()


# ------------------------------------------------------------------------------------------------------ fairness


def test_a_long_prompt_delays_the_others_by_a_chunk_at_most(engine_of: MakeEngine) -> None:
    decoder, gate = FakeDecoder(), Gate()
    work: list[str] = []
    decoder.before_prefill = lambda token_ids, _: work.append("prefill" if len(token_ids) > 10 else "start")

    def step(_: object) -> None:
        gate()
        work.append("decode")

    decoder.before_decode = step
    engine = engine_of(decoder, context_length=20_000)
    _, first = submit(engine, busy(60))
    gate.wait()
    _, late = submit(engine, busy(1, [7] * (20 * PREFILL_CHUNK)))
    gate.open()
    first.wait()
    late.wait()
    reading = work[work.index("prefill") : len(work) - work[::-1].index("prefill")]
    assert reading.count("prefill") == 20
    assert all(pair != ("prefill", "prefill") for pair in pairwise(reading))


def test_short_prompts_that_wait_together_are_read_in_one_round_and_decode_together(engine_of: MakeEngine) -> None:
    decoder, gate = FakeDecoder(rows_per_step=8), Gate()
    engine = engine_of(decoder)
    engine.call(gate)
    running = [submit(engine, busy(5, [index] * 30))[1] for index in range(8)]
    gate.open()
    for heard in running:
        heard.wait()
    assert decoder.decodes == [8] * 5


@settings(max_examples=budget(50), deadline=None)
@given(st.lists(st.integers(1, 2 * PREFILL_CHUNK), min_size=1, max_size=8), st.integers(2, 5))
def test_all_that_is_read_between_two_steps_fits_in_one_chunk(lengths: list[int], max_active: int) -> None:
    decoder, gate = FakeDecoder(lambda _: torch.zeros(VOCAB), rows_per_step=8), Gate()
    read: list[int] = []  # tokens of each prefill, and 0 for each step
    decoder.before_prefill = lambda token_ids, _: read.append(len(token_ids))
    decoder.before_decode = lambda _: read.append(0)
    with closing(
        Engine(fake_model(decoder, context_length=10_000), prefix_cache_bytes=0, max_active=max_active)
    ) as engine:
        engine.call(gate)
        running, _ = submit(engine, busy())  # so that there is a step in every round
        others = [submit(engine, busy(2, [index] * length))[1] for index, length in enumerate(lengths)]
        gate.open()
        assert [len(heard.wait().ids) for heard in others] == [2] * len(lengths)
        running.cancel()
    rounds = [sum(parts) for is_prompt, parts in groupby(read, key=bool) if is_prompt]
    assert sum(rounds) == 2 + sum(length - 1 for length in lengths)
    assert max(rounds) <= PREFILL_CHUNK


def test_prompts_are_read_in_the_order_in_which_they_came(engine_of: MakeEngine) -> None:
    decoder, gate = FakeDecoder(), Gate()
    decoder.before_prefill = gate
    engine = engine_of(decoder)
    order: list[int] = []

    def listen(index: int) -> Callable[[Event], None]:
        return lambda event: order.append(index) if isinstance(event, Started) else None

    handles = [engine.submit(busy(1, [index]), listen(index)) for index in range(5)]
    gate.open()
    assert all(handle.ended.wait(60) for handle in handles)
    assert order == list(range(5))


# -------------------------------------------------------------------------------------------------- cancellation


@pytest.mark.parametrize("after", [0, 1, 7])
def test_cancelling_takes_effect_within_one_step(engine_of: MakeEngine, after: int) -> None:
    decoder, gate = FakeDecoder(), Gate()
    decoder.before_decode = gate
    engine = engine_of(decoder)
    handle, heard = submit(engine, busy())
    for _ in range(after):
        gate.wait()
        gate.step()
    gate.wait()
    handle.cancel()
    gate.open()
    heard.wait()
    assert len(decoder.decodes) == after + 1, "the step that was under way, and no other"
    assert heard.finished == Finished("cancelled", text=heard.finished.text)
    assert len(generate(engine, busy(5)).ids) == 5


def test_cancelling_before_the_start_computes_nothing(engine_of: MakeEngine) -> None:
    decoder, gate = FakeDecoder(), Gate()
    decoder.before_decode = gate
    engine = engine_of(decoder)
    _, first = submit(engine, busy(3))
    gate.wait()
    handle, second = submit(engine, busy(3))
    handle.cancel()
    gate.open()
    assert second.wait().events == [Finished("cancelled")]
    first.wait()
    assert len(decoder.prefills) == 1


def test_cancelling_between_chunks_of_a_prompt_stops_the_reading(engine_of: MakeEngine) -> None:
    decoder, gate = FakeDecoder(), Gate()
    decoder.before_prefill = gate
    engine = engine_of(decoder, context_length=10**5)
    handle, heard = submit(engine, busy(3, [1] * (50 * PREFILL_CHUNK)))
    gate.wait()
    gate.step()
    gate.wait()
    handle.cancel()
    gate.open()
    *read, last = heard.wait().events
    assert last == Finished("cancelled")
    assert read == [PromptProgress(count * PREFILL_CHUNK, 50 * PREFILL_CHUNK) for count in (0, 1, 2)]
    assert decoder.prefills == [PREFILL_CHUNK] * 2


def test_cancelling_after_the_end_and_twice_is_harmless(engine_of: MakeEngine) -> None:
    engine = engine_of()
    handle, heard = submit(engine, busy(3))
    heard.wait()
    handle.cancel()
    handle.cancel()
    assert heard.finished.reason == "length"
    assert generate(engine, busy(3)).ids == heard.ids


def test_a_hundred_cancelled_runs_leave_nothing_behind(engine_of: MakeEngine) -> None:
    caches: list[weakref.ref[FakeCache]] = []

    class Watched(FakeDecoder):
        def new_cache(self) -> FakeCache:
            cache = super().new_cache()
            caches.append(weakref.ref(cache))
            return cache

    engine = engine_of(Watched(rows_per_step=4))
    threads = threading.active_count()
    running = [submit(engine, busy()) for _ in range(100)]
    for handle, _ in running:
        handle.cancel()
    for _, heard in running:
        heard.wait()
    generate(engine, busy(1))  # the round after the last one has let go of it
    wait_until(lambda: engine.in_flight == 0)
    gc.collect()
    assert threading.active_count() == threads
    wait_until(lambda: not [ref for ref in caches if ref() is not None])


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.002)


# -------------------------------------------------------------------------------------------------------- faults


class SomeError(Exception):
    """What a test throws into the engine."""


def test_a_thousand_faults_hang_nobody_and_spare_the_innocent(engine_of: MakeEngine) -> None:
    """Faults by the content of a row: alone in the prompt, alone in a step, or as one of eight rows together."""
    decoder = FakeDecoder(rows_per_step=8)

    def poison(caches: Sequence[FakeCache]) -> None:
        if bad := [cache.ids[0] for cache in caches if cache.ids[0] >= 100 and len(cache.ids) >= cache.ids[0] - 95]:
            raise SomeError(bad[0])

    def poison_prompt(token_ids: Sequence[int], _: FakeCache) -> None:
        if token_ids[0] == 99:
            raise SomeError(99)

    decoder.before_decode, decoder.before_prefill = poison, poison_prompt
    engine = engine_of(decoder)
    alone = engine_of()
    innocent = [busy(12, [index, 1]) for index in range(5)]
    expected = [told(generate(alone, request)) for request in innocent]
    rng = random.Random(0)
    faults = 0
    while faults < 1000:
        guilty = [busy(40, [rng.choice([99, *range(100, 115)]), 1]) for _ in range(20)]
        batch = [(request, True) for request in guilty] + [(request, False) for request in innocent]
        rng.shuffle(batch)
        running = [(submit(engine, request)[1], request, bad) for request, bad in batch]
        for heard, request, bad in running:
            heard.wait()
            if bad:
                assert isinstance(heard.error, SomeError)
                assert heard.error.args == (request.prompt_ids[0],)
                faults += 1
            else:
                assert told(heard) == expected[innocent.index(request)]
    assert engine.in_flight == 0


@pytest.mark.parametrize("where", ["before_prefill", "before_decode"])
@pytest.mark.parametrize(
    "error", [SomeError("x"), RuntimeError("y"), RecursionError(), NumericalError("z"), StopIteration(), KeyError("k")]
)
def test_a_fault_reaches_the_caller_at_once_with_its_type(engine_of: MakeEngine, where: str, error: Exception) -> None:
    decoder = FakeDecoder()
    engine = engine_of(decoder)
    setattr(decoder, where, raising(error))
    began = time.monotonic()
    heard = generate(engine, busy())
    assert time.monotonic() - began < 1
    assert heard.error is error
    assert any("inference thread" in note for note in heard.error.__notes__)
    setattr(decoder, where, lambda *_: None)
    assert len(generate(engine, busy(4)).ids) == 4


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_a_thread_ends_one_run_only(engine_of: MakeEngine, error: BaseException) -> None:
    """As it is it would also end the event loop of whoever is told; so it arrives as an error of the run."""
    decoder = FakeDecoder()
    engine = engine_of(decoder)
    decoder.before_decode = raising(error)
    heard = generate(engine, busy())
    assert isinstance(heard.error, GenerationError)
    assert type(error).__name__ in str(heard.error)
    decoder.before_decode = lambda *_: None
    assert len(generate(engine, busy(4)).ids) == 4


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("gpu"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_memory_running_out_is_told_as_such(engine_of: MakeEngine, error: Exception) -> None:
    decoder = FakeDecoder()
    engine = engine_of(decoder)
    decoder.before_decode = raising(error)
    assert isinstance(generate(engine, busy()).error, OutOfMemoryError)
    decoder.before_decode = lambda *_: None
    assert len(generate(engine, busy(4)).ids) == 4


@pytest.mark.parametrize("part", ["measured", "Sampler.choose", "Detokenizer.decode", "PrefixCache.take"])
@pytest.mark.parametrize("call", [1, 2, 9])
def test_a_fault_of_our_own_parts_hangs_nobody(
    engine_of: MakeEngine, monkeypatch: pytest.MonkeyPatch, part: str, call: int
) -> None:
    """Memory can run out anywhere, also where the model is not: in the first step, or in one of several rows."""
    engine = engine_of(FakeDecoder(rows_per_step=4), prefix_cache_bytes=2**20)
    owner, name = {
        "measured": (decode_loop, "measured"),
        "PrefixCache.take": (PrefixCache, "take"),
        "Sampler.choose": (Sampler, "choose"),
        "Detokenizer.decode": (Detokenizer, "decode"),
    }[part]
    working: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def breaks(*args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise MemoryError
        return working(*args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, breaks)
        for heard in [submit(engine, busy(5, range(20)))[1] for _ in range(12)]:
            last = heard.wait().events[-1]
            assert isinstance(last, Finished) or isinstance(last.error, OutOfMemoryError)  # type: ignore[union-attr]
    assert len(generate(engine, busy(4)).ids) == 4


def test_a_cache_that_cannot_be_kept_costs_no_answer(engine_of: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(prefix_cache_bytes=2**20)
    with monkeypatch.context() as patched:
        patched.setattr("workbench.engine.kv_cache.PrefixCache.put", raising(MemoryError()))
        assert len(generate(engine, busy(5, range(20))).ids) == 5
    assert len(generate(engine, busy(5, range(20))).ids) == 5


def test_nan_logits_fail_the_run_that_has_them_and_no_other(engine_of: MakeEngine) -> None:
    decoder = FakeDecoder(rows_per_step=4)
    healthy = decoder.speech
    decoder.speech = lambda cache: healthy(cache) * (float("nan") if cache.ids[0] == 9 and cache.length > 5 else 1)
    engine, alone = engine_of(decoder), engine_of()
    for sampling in (Sampling(), Sampling(temperature=1.0, seed=1), Sampling(temperature=1.0, top_k=5, seed=1)):
        sick = GenerationRequest(prompt_ids=(9,), sampling=sampling, stop_ids=frozenset())
        fit = GenerationRequest(prompt_ids=(8,), sampling=sampling, stop_ids=frozenset(), max_tokens=20)
        running = [submit(engine, request)[1] for request in (fit, sick, fit)]
        assert isinstance(running[1].wait().error, NumericalError)
        whole = generate(alone, replace(sick, max_tokens=20)).ids
        assert running[1].ids == whole[: len(running[1].ids)]
        assert len(running[1].ids) in {4, 5}, "the last may wait for the rest of its character"
        assert told(running[0].wait()) == told(running[2].wait()) == told(generate(alone, fit))


def test_a_kept_error_keeps_no_tensor_alive(engine_of: MakeEngine) -> None:
    tensors: list[weakref.ref[torch.Tensor]] = []

    def fail(*_: object) -> None:
        big = torch.zeros(10)
        tensors.append(weakref.ref(big))
        try:
            [][int(big[0])]
        except IndexError as cause:
            raise SomeError("while handling") from cause

    decoder = FakeDecoder()
    engine = engine_of(decoder)
    decoder.before_decode = fail
    heard = generate(engine, busy())
    generate(engine, GenerationRequest(prompt_ids=(1,), max_tokens=1))
    gc.collect()
    assert isinstance(heard.error, SomeError)
    assert isinstance(heard.error.__cause__, IndexError)
    assert tensors
    assert tensors[0]() is None


def test_a_listener_that_raises_ends_only_its_own_run(engine_of: MakeEngine) -> None:
    decoder = FakeDecoder(rows_per_step=4)
    engine, alone = engine_of(decoder), engine_of()
    heard: list[Event] = []

    def broken(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Step):
            raise SomeError("the widget is gone")

    handle = engine.submit(busy(50, [1]), broken)
    other = submit(engine, busy(30, [2]))[1]
    assert told(other.wait()) == told(generate(alone, busy(30, [2])))
    assert handle.ended.wait(60)
    assert [type(event) for event in heard] == [PromptProgress, Started, Step, Failed]


def test_a_listener_that_raises_at_the_end_is_told_nothing_more(engine_of: MakeEngine) -> None:
    heard: list[Event] = []

    def broken(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Finished):
            raise SomeError

    engine = engine_of()
    assert engine.submit(busy(2), broken).ended.wait(60)
    generate(engine, busy(1))
    assert [type(event) for event in heard] == [PromptProgress, Started, Step, Step, Finished]


# ------------------------------------------------------------------------------------------------ life and limits


def test_closing_ends_the_thread_and_tells_everybody(engine_of: MakeEngine) -> None:
    before = threading.active_count()
    engine = engine_of(FakeDecoder(rows_per_step=2), max_active=2)
    running = [submit(engine, busy())[1] for _ in range(5)]
    wait_until(lambda: bool(running[0].steps))
    engine.close()
    assert threading.active_count() == before
    assert all(isinstance(heard.wait().error, ClosedError) for heard in running)
    with pytest.raises(ClosedError, match="fake"):
        submit(engine, busy())
    with pytest.raises(ClosedError):
        engine.call(lambda: None)
    engine.close()


def test_a_listener_may_close_the_engine(engine_of: MakeEngine) -> None:
    engine = engine_of()
    done = threading.Event()
    engine.submit(
        busy(),
        lambda event: engine.close() if isinstance(event, Step) else done.set() if isinstance(event, Failed) else None,
    )
    assert done.wait(60)


def test_a_call_runs_on_the_inference_thread_between_rounds(engine_of: MakeEngine) -> None:
    engine = engine_of()
    _, heard = submit(engine, busy(2000))
    assert engine.call(lambda: threading.current_thread().name).result(60) == "inference-fake"
    assert engine.call(torch.is_inference_mode_enabled).result(60)
    with pytest.raises(SomeError):
        engine.call(raising(SomeError())).result(60)
    assert len(heard.wait().ids) == 2000


def test_too_many_waiting_requests_are_refused(engine_of: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "MAX_WAITING", 3)
    decoder, gate = FakeDecoder(), Gate()
    decoder.before_prefill = gate
    engine = engine_of(decoder)
    running = [submit(engine, busy(1))[1] for _ in range(1)]
    gate.wait()
    running += [submit(engine, busy(1))[1] for _ in range(2)]
    with pytest.raises(BusyError, match="try again later"):
        submit(engine, busy(1))
    gate.open()
    assert [len(heard.wait().ids) for heard in running] == [1] * 3
    assert len(generate(engine, busy(1)).ids) == 1


@pytest.mark.parametrize(
    "prompt,error,words",
    [
        ((), InvalidRequestError, "prompt"),
        ((1, 260), InvalidRequestError, "260"),
        ((-1,), InvalidRequestError, "-1"),
        ((1,) * 50, ContextLengthError, r"50 tokens.*|.*50"),
        ((1,) * 51, ContextLengthError, "51"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_refused_before_any_compute(
    engine_of: MakeEngine, prompt: tuple[int, ...], error: type[Exception], words: str
) -> None:
    decoder = FakeDecoder()
    engine = engine_of(decoder, context_length=50)
    with pytest.raises(error, match=words):
        submit(engine, busy(1, prompt))
    assert decoder.prefills == []


def test_the_longest_prompt_that_fits_gets_one_token(engine_of: MakeEngine) -> None:
    heard = generate(engine_of(context_length=50), busy(0, [1] * 49))
    assert (len(heard.ids), heard.finished.reason) == (1, "length")


def test_steps_arrive_while_the_run_goes_on(engine_of: MakeEngine) -> None:
    decoder, gate = FakeDecoder(scripted_speech("hello")), Gate()
    decoder.before_decode = gate
    engine = engine_of(decoder)
    _, heard = submit(engine, GenerationRequest(prompt_ids=PROMPT))
    for shown in ("", "h", "he"):
        gate.wait()
        assert heard.text == shown
        gate.step()
    gate.open()
    assert heard.wait().text == "hello"


def test_our_share_of_a_step_does_not_grow_with_the_text(engine_of: MakeEngine) -> None:
    """Counted in function calls, Python's and C's, so that a busy machine changes nothing."""
    engine = engine_of(FakeDecoder())
    calls = 0
    at_step: list[int] = []

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    heard = Heard()

    def listen(event: Event) -> None:
        heard(event)
        at_step.append(calls)

    request = GenerationRequest(
        prompt_ids=PROMPT,
        sampling=Sampling(temperature=0.1, top_p=0.9, repetition_penalty=1.0001, seed=1),
        stop_strings=("never", "words!!"),
        alternatives=5,
        max_tokens=2000,
        stop_ids=frozenset(),
    )
    gc.disable()  # its callbacks, of whoever registered some, would be counted wherever a collection happens to fall
    try:
        engine.call(lambda: sys.setprofile(count)).result(60)
        engine.submit(request, listen)
        heard.wait(100)  # counting every call takes its time
        engine.call(lambda: sys.setprofile(None)).result(60)
    finally:
        gc.enable()
    assert len(heard.ids) == 2000
    early, late = at_step[200] - at_step[100], at_step[2000] - at_step[1900]
    assert 1000 < late <= early * 1.05
