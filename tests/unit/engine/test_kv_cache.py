"""Reused keys and values give what a cold run gives; only sooner."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Self

import pytest
import torch

from tests.fakes.listening import Heard, generate, submit
from tests.fakes.models import FakeCache, FakeDecoder, Gate
from tests.rounding import rounding
from workbench.engine.kv_cache import SHORTEST_REUSE, PrefixCache, common_prefix
from workbench.engine.loading import LoadedModel
from workbench.engine.prefill import PREFILL_CHUNK
from workbench.engine.requests import GenerationRequest
from workbench.engine.scheduler import Engine

MakeEngine = Callable[..., Engine]
BUDGET = 2**26
LONG = tuple(range(40, 140))


def asking(prompt: Sequence[int], max_tokens: int = 8, **more: object) -> GenerationRequest:
    request = GenerationRequest(prompt_ids=tuple(prompt), max_tokens=max_tokens, stop_ids=frozenset(), alternatives=3)
    return request if not more else GenerationRequest(**{**_fields(request), **more})  # type: ignore[arg-type]


def _fields(request: GenerationRequest) -> dict[str, object]:
    return {name: getattr(request, name) for name in GenerationRequest.__slots__}


def check_same(warm: Heard, cold: Heard, tolerance: float = 1e-5) -> None:
    assert warm.ids == cold.ids
    assert warm.text == cold.text
    assert warm.logprobs == pytest.approx(cold.logprobs, abs=tolerance)


# ------------------------------------------------------------------------------------------------ the cache alone


@pytest.mark.parametrize("seed", range(20))
def test_the_common_prefix_is_what_a_loop_finds(seed: int) -> None:
    rng = random.Random(seed)
    a = [rng.randrange(3) for _ in range(rng.randrange(40))]
    b = [*a[: rng.randrange(len(a) + 1)], *[rng.randrange(3) for _ in range(10)]]
    expected = next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert common_prefix(a, b) == common_prefix(b, a) == expected


def test_a_continuation_takes_the_kept_memory_over() -> None:
    cache, kept = PrefixCache(BUDGET), FakeCache(LONG)
    cache.put(LONG, kept)
    found = cache.take([*LONG, 1, 2])
    assert found is not None
    assert found[0] is kept
    assert found[1] == len(LONG)
    assert cache.nbytes == 0
    assert cache.take([*LONG, 1, 2]) is None, "what was handed over is never handed out twice"


def test_another_ending_gets_a_copy_and_leaves_the_kept_sequence_alone() -> None:
    cache, kept = PrefixCache(BUDGET), FakeCache(LONG)
    cache.put(LONG, kept)
    for _ in range(3):
        found = cache.take([*LONG[:60], 1, 2])
        assert found is not None
        copy, reused = found
        assert (copy.length, reused) == (60, 60)
        assert isinstance(copy, FakeCache)
        copy.append([7, 7])
        assert kept.ids == list(LONG)


def test_a_sequence_that_is_known_whole_is_handed_out_whole() -> None:
    cache = PrefixCache(BUDGET)
    cache.put(LONG, FakeCache(LONG))
    found = cache.take(LONG)
    assert found is not None
    assert found[1] == len(LONG)


def test_short_prefixes_are_not_worth_it() -> None:
    cache = PrefixCache(BUDGET)
    cache.put(LONG, FakeCache(LONG))
    assert cache.take([*LONG[: SHORTEST_REUSE - 1], 1, 2, 3]) is None
    cache.put(LONG[: SHORTEST_REUSE - 1], FakeCache(LONG[: SHORTEST_REUSE - 1]))
    assert cache.nbytes == 100 * len(LONG)


def test_a_longer_sequence_stands_for_those_that_begin_it() -> None:
    cache = PrefixCache(BUDGET)
    cache.put(LONG[:50], FakeCache(LONG[:50]))
    cache.put(LONG, FakeCache(LONG))
    assert cache.nbytes == 100 * len(LONG)


def test_the_least_recently_used_goes_first_when_the_budget_is_full() -> None:
    sequences = [[start, *range(100, 149)] for start in range(4)]
    cache = PrefixCache(3 * 50 * 100)
    for sequence in sequences[:3]:
        cache.put(sequence, FakeCache(sequence))
    assert cache.take([*sequences[0][:40], 1]) is not None  # used again
    cache.put(sequences[3], FakeCache(sequences[3]))
    assert cache.nbytes <= cache.budget_bytes
    assert cache.take([*sequences[1][:40], 1]) is None
    assert all(cache.take([*sequences[index][:40], 1]) is not None for index in (0, 2, 3))


def test_a_sequence_beyond_the_budget_is_not_kept_and_pushes_nothing_out() -> None:
    cache = PrefixCache(100 * 100)
    cache.put(LONG[:50], FakeCache(LONG[:50]))
    cache.put(range(1, 200), FakeCache(range(1, 200)))
    assert cache.take([*LONG[:50], 1]) is not None


def test_no_budget_switches_reuse_off() -> None:
    cache = PrefixCache(0)
    cache.put(LONG, FakeCache(LONG))
    assert cache.take([*LONG, 1]) is None


class Uncroppable(FakeCache):
    """As a sliding window that has moved on: only the whole of it can be reused."""

    def fork(self, length: int) -> Self | None:
        return super().fork(length) if length == self.length else None


def test_where_the_best_cannot_be_cut_the_next_best_is_taken() -> None:
    cache = PrefixCache(BUDGET)
    cache.put([*LONG[:90], 1], Uncroppable([*LONG[:90], 1]))
    cache.put([*LONG[:50], 2], FakeCache([*LONG[:50], 2]))
    found = cache.take([*LONG, 3])
    assert found is not None
    assert found[1] == 50


# --------------------------------------------------------------------------------------------- through an engine


@pytest.mark.parametrize("shared", [16, 60, 99])
def test_every_family_answers_warm_as_it_does_cold(engine_of: MakeEngine, tiny_model: LoadedModel, shared: int) -> None:
    """99 shared tokens lie far beyond the window of 24 that Gemma's sliding layers have."""
    cold, warm = engine_of(model=tiny_model), engine_of(model=tiny_model, prefix_cache_bytes=BUDGET)
    other = [*LONG[:shared], 3, 5, 7, 9]
    generate(warm, asking(LONG))
    for prompt in (other, LONG, [*LONG, 11, 12, 13], other):
        check_same(generate(warm, asking(prompt)), generate(cold, asking(prompt)))


def test_a_continuation_reuses_all_but_what_is_new(engine_of: MakeEngine, tiny_model: LoadedModel) -> None:
    """The next turn of a chat continues prompt and answer; every family reuses it, sliding windows included.

    Where prompts are computed in another way than answers, the answer is read again, so that both runs are equal.
    """
    warm, cold = engine_of(model=tiny_model, prefix_cache_bytes=BUDGET), engine_of(model=tiny_model)
    first = generate(warm, asking(LONG))
    assert first.started.reused_tokens == 0
    turn = [*LONG, *first.ids, 3, 4, 5]
    second = generate(warm, asking(turn))
    is_alike = tiny_model.decoder.reads_as_it_decodes
    assert second.started.reused_tokens == len(LONG) - 1 + (len(first.ids) if is_alike else 0)
    check_same(second, generate(cold, asking(turn)), 1e-5 if is_alike else 0.0)


def test_croppable_families_reuse_the_shared_beginning(engine_of: MakeEngine, tiny_llama: LoadedModel) -> None:
    warm = engine_of(model=tiny_llama, prefix_cache_bytes=BUDGET)
    generate(warm, asking(LONG))
    again = [generate(warm, asking([*LONG[:64], 1, 2, index])) for index in range(3)]
    assert [heard.started.reused_tokens for heard in again] == [64, 66, 66]


def test_prompt_logprobs_are_the_same_with_a_warm_cache(engine_of: MakeEngine, tiny_model: LoadedModel) -> None:
    warm, cold = engine_of(model=tiny_model, prefix_cache_bytes=BUDGET), engine_of(model=tiny_model)
    generate(warm, asking(LONG))
    request = asking(LONG, prompt_logprobs=True)
    a, b = generate(warm, request), generate(cold, request)
    check_same(a, b)
    assert [stats.logprob for stats in a.started.prompt_stats] == pytest.approx(
        [stats.logprob for stats in b.started.prompt_stats], abs=1e-5
    )
    assert [stats.token_id for stats in a.started.prompt_stats] == list(LONG[1:])


def test_prompt_logprobs_equal_one_full_forward(engine_of: MakeEngine, tiny_model: LoadedModel) -> None:
    prompt = [(7 * index) % 300 + 3 for index in range(150)]
    stats = generate(engine_of(model=tiny_model), asking(prompt, prompt_logprobs=True)).started.prompt_stats
    with torch.inference_mode():
        decoder = tiny_model.decoder
        logits = decoder.prefill(prompt, decoder.new_cache(), every_position=True).double().log_softmax(-1)
    expected = [float(logits[at, token_id]) for at, token_id in enumerate(prompt[1:])]
    assert [one.logprob for one in stats] == pytest.approx(expected, abs=1e-4)


def test_a_run_cancelled_in_its_prompt_leaves_a_cache_that_is_right(engine_of: MakeEngine) -> None:
    decoder, gate = FakeDecoder(), Gate()
    engine = engine_of(decoder, prefix_cache_bytes=BUDGET)
    prompt = [index % 250 for index in range(3 * PREFILL_CHUNK)]
    decoder.before_prefill = gate
    handle, heard = submit(engine, asking(prompt))
    gate.wait()
    gate.step()
    gate.wait()  # the second chunk
    handle.cancel()
    gate.step()
    heard.wait()
    gate.open()
    assert decoder.prefills == [PREFILL_CHUNK] * 2
    again = generate(engine, asking(prompt))
    assert again.started.reused_tokens == 2 * PREFILL_CHUNK
    check_same(again, generate(engine_of(), asking(prompt)))


def test_a_run_cancelled_while_decoding_leaves_a_cache_that_is_right(engine_of: MakeEngine) -> None:
    decoder, gate = FakeDecoder(), Gate()
    engine = engine_of(decoder, prefix_cache_bytes=BUDGET)
    decoder.before_decode = gate
    handle, heard = submit(engine, asking(LONG, max_tokens=50))
    for _ in range(5):
        gate.wait()
        gate.step()
    gate.wait()
    handle.cancel()
    gate.open()
    heard.wait()
    assert heard.finished.reason == "cancelled"
    turn = [*LONG, *heard.ids, 5, 6]
    again = generate(engine, asking(turn))
    assert again.started.reused_tokens >= len(LONG) + 5
    check_same(again, generate(engine_of(), asking(turn)))


def test_a_failed_run_leaves_nothing_in_the_cache(engine_of: MakeEngine) -> None:
    decoder = FakeDecoder()
    engine = engine_of(decoder, prefix_cache_bytes=BUDGET)

    def broken(*_: object) -> None:
        raise ArithmeticError

    decoder.before_decode = broken
    assert isinstance(generate(engine, asking(LONG)).error, ArithmeticError)
    assert engine.prefix_cache.nbytes == 0


@pytest.mark.parametrize("fake", [True, False])
def test_two_hundred_interleaved_requests_are_as_if_each_were_alone(
    engine_of: MakeEngine, tiny_llama: LoadedModel, fake: bool
) -> None:
    """Shared beginnings, different ends, a budget that evicts, requests that overtake each other."""
    rng = random.Random(5)
    size = 40 if fake else 6
    engine = engine_of(FakeDecoder(rows_per_step=4)) if fake else engine_of(model=tiny_llama)
    warm = (
        engine_of(FakeDecoder(rows_per_step=4), prefix_cache_bytes=100 * 100 * 6)
        if fake
        else engine_of(model=tiny_llama, prefix_cache_bytes=2**18)
    )
    beginnings = [[rng.randrange(3, 250) for _ in range(60)] for _ in range(3)]
    requests = [
        asking(
            [
                *rng.choice(beginnings)[: rng.randrange(10, 61)],
                *[rng.randrange(3, 250) for _ in range(rng.randrange(1, 9))],
            ],
            max_tokens=rng.randrange(1, size // 2 + 3),
        )
        for _ in range(200)
    ]
    running = []
    for request in requests:
        running.append(submit(warm, request)[1])
        if rng.random() < 0.2:
            running[-1].wait()
    reused = 0
    for request, heard in zip(requests, running, strict=True):
        # Parts of up to 40 tokens are added up in another order than longer ones.
        check_same(heard.wait(), generate(engine, request), tolerance=2 * rounding(tiny_llama))
        reused += heard.started.reused_tokens
    assert reused > 1000
    assert warm.prefix_cache.nbytes <= warm.prefix_cache.budget_bytes
