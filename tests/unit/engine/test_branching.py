"""An answer that goes on from another one's tokens, or after a pause, is what it would have been."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.listening import Heard, generate, submit, told
from tests.fakes.models import EOS, PROMPT, FakeDecoder, Gate, endless_speech, fake_model, scripted_speech
from workbench.engine.constraints import Constraint, Grammars, JsonSchemaGrammar, RegexGrammar
from workbench.engine.loading import LoadedModel
from workbench.engine.logprobs import TokenStats
from workbench.engine.requests import Event, GenerationRequest, Paused, Resumed
from workbench.engine.sampling import Sampling
from workbench.engine.scheduler import Engine
from workbench.errors import ClosedError, ContextLengthError, InvalidRequestError

MakeEngine = Callable[..., Engine]
BUDGET = 2**26
LONG = tuple(range(40, 80))
SAMPLINGS = [
    Sampling(),
    Sampling(temperature=1.0, seed=5),
    Sampling(temperature=0.9, top_p=0.9, repetition_penalty=1.3, seed=6),
    Sampling(temperature=0.9, frequency_penalty=0.7, presence_penalty=0.4, min_p=0.02, seed=8),
    Sampling(frequency_penalty=1.5),
    Sampling(temperature=0.9, logit_bias={5: 4.0, 7: -100.0}, seed=9),
    Sampling(temperature=1.2, top_k=20, seed=7),
]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "colour": {"enum": ["red", "green", "grey"]}},
    "required": ["name", "colour"],
    "additionalProperties": False,
}


def asking(**more: Any) -> GenerationRequest:
    defaults: dict[str, Any] = {"prompt_ids": LONG, "max_tokens": 24, "alternatives": 2}
    return GenerationRequest(**defaults | more)


def kept_of(heard: Heard, count: int) -> tuple[TokenStats, ...]:
    return tuple(step.stats for step in heard.steps[:count])


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.002)


def paused(heard: Heard) -> list[Paused]:
    return [event for event in heard.events if isinstance(event, Paused)]


# ----------------------------------------------------------------------------------------------------- going on


@pytest.mark.parametrize("budget", [0, BUDGET])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_from_every_position_it_goes_on_as_it_did(engine_of: MakeEngine, sampling: Sampling, budget: int) -> None:
    engine = engine_of(prefix_cache_bytes=budget)
    request = asking(sampling=sampling, stop_strings=("zz", "e"))
    whole = generate(engine, request)
    for position in range(len(whole.ids) + 1):
        assert told(generate(engine, replace(request, kept=kept_of(whole, position)))) == told(whole)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_given_token_that_would_have_been_chosen_changes_nothing(engine_of: MakeEngine, sampling: Sampling) -> None:
    engine = engine_of()
    request = asking(sampling=sampling)
    whole = generate(engine, request)
    for position, token_id in enumerate(whole.ids):
        again = replace(request, kept=kept_of(whole, position), given_ids=(token_id,))
        assert told(generate(engine, again)) == told(whole)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_another_token_gives_what_a_cold_run_through_the_same_ids_gives(
    engine_of: MakeEngine, sampling: Sampling
) -> None:
    warm, cold = engine_of(prefix_cache_bytes=BUDGET), engine_of()
    request = asking(sampling=sampling)
    whole = generate(warm, request)
    for position, stats in enumerate(kept_of(whole, 8)):
        other = stats.alternatives[0].token_id
        branch = generate(warm, replace(request, kept=kept_of(whole, position), given_ids=(other,)))
        forced = generate(cold, replace(request, given_ids=(*whole.ids[:position], other)))
        assert told(branch) == told(forced)
        assert branch.ids[: position + 1] == [*whole.ids[:position], other]


def test_a_branch_of_a_branch_goes_on_from_both(engine_of: MakeEngine) -> None:
    engine = engine_of(prefix_cache_bytes=BUDGET)
    request = asking(sampling=SAMPLINGS[1])
    whole = generate(engine, request)
    branch = generate(engine, replace(request, kept=kept_of(whole, 3), given_ids=(97,)))
    assert told(generate(engine, replace(request, kept=kept_of(branch, 9)))) == told(branch)


def test_nothing_that_is_kept_is_computed_again(engine_of: MakeEngine) -> None:
    decoder = FakeDecoder()
    engine = engine_of(decoder, prefix_cache_bytes=BUDGET)
    whole = generate(engine, asking())
    decoder.prefills.clear()
    decoder.decodes.clear()
    branch = generate(engine, asking(kept=kept_of(whole, 10), given_ids=(97,)))
    assert branch.started.reused_tokens == len(LONG) + 9
    assert decoder.prefills == []
    assert len(decoder.decodes) <= len(branch.ids) - 10 + 1


@pytest.mark.parametrize("seed", range(6))
def test_an_answer_in_a_grammar_goes_on_in_it(engine_of: MakeEngine, seed: int) -> None:
    engine = engine_of(prefix_cache_bytes=BUDGET)
    request = asking(
        constraint=constraint(JsonSchemaGrammar.of(SCHEMA, "f")),
        sampling=Sampling(temperature=1.0, seed=seed),
        max_tokens=60,
    )
    whole = generate(engine, request)
    for position in range(0, len(whole.ids) + 1, 3):
        assert told(generate(engine, replace(request, kept=kept_of(whole, position)))) == told(whole)
        given = replace(request, given_ids=tuple(whole.ids[:position]))
        assert generate(engine, given).ids == whole.ids


def test_a_token_that_the_grammar_forbids_is_refused_by_name(engine_of: MakeEngine) -> None:
    heard = generate(engine_of(), asking(constraint=constraint(RegexGrammar("[ab]{4}")), given_ids=(ord("x"),)))
    assert isinstance(heard.error, InvalidRequestError)
    assert heard.error.field == "token_id"


def constraint(grammar: JsonSchemaGrammar | RegexGrammar) -> Constraint:
    return Grammars(fake_model()).compile(grammar, "f")


def test_an_end_token_that_is_given_ends_the_answer(engine_of: MakeEngine) -> None:
    whole = generate(engine_of(), asking())
    heard = generate(engine_of(), asking(kept=kept_of(whole, 4), given_ids=(EOS,)))
    assert (heard.ids, heard.finished.reason, heard.end_id) == (whole.ids[:4], "stop_token", EOS)


def test_an_answer_that_is_full_already_ends_there(engine_of: MakeEngine) -> None:
    whole = generate(engine_of(), asking(max_tokens=6))
    heard = generate(engine_of(), asking(max_tokens=6, kept=kept_of(whole, 6)))
    assert (heard.ids, heard.finished.reason) == (whole.ids, "length")


def test_a_beginning_that_cannot_be_is_refused(engine_of: MakeEngine) -> None:
    engine = engine_of(context_length=50)
    with pytest.raises(InvalidRequestError, match="token_id must be"):
        engine.submit(asking(given_ids=(999,)), Heard())
    with pytest.raises(ContextLengthError):
        engine.submit(asking(given_ids=(97,) * 10), Heard())


@pytest.mark.parametrize("budget", [0, BUDGET])
def test_it_is_so_in_every_family(engine_of: MakeEngine, tiny_model: LoadedModel, budget: int) -> None:
    engine = engine_of(model=tiny_model, prefix_cache_bytes=budget)
    request = asking(sampling=Sampling(temperature=1.0, seed=3), stop_ids=frozenset(), max_tokens=45)
    whole = generate(engine, request)
    for position in (7, 40):
        branch = generate(engine, replace(request, kept=kept_of(whole, position)))
        assert (branch.ids, branch.text) == (whole.ids, whole.text)
        assert branch.logprobs == pytest.approx(whole.logprobs, abs=1e-4)


# ------------------------------------------------------------------------------------------------------ pausing


class EveryTenth:
    def __init__(self) -> None:
        self.seen = 0

    def matches(self, stats: TokenStats, text: str) -> bool:
        self.seen += 1
        return self.seen % 10 == 0


@pytest.mark.parametrize("budget", [0, BUDGET])
@pytest.mark.parametrize("sampling", SAMPLINGS[:2])
def test_after_pauses_it_is_what_it_would_have_been(engine_of: MakeEngine, sampling: Sampling, budget: int) -> None:
    engine = engine_of(prefix_cache_bytes=budget)
    request = asking(sampling=sampling, max_tokens=25, stop_ids=frozenset())
    handle, heard = submit(engine, replace(request, watches=(_Never(), EveryTenth())))
    for count in (1, 2):
        wait_until(lambda count=count: len(paused(heard)) == count)  # type: ignore[misc]
        assert paused(heard)[-1] == Paused(1)
        assert len(handle.token_ids) == len(LONG) + 10 * count
        handle.resume()
    heard.wait()
    events: list[Event] = [event for event in heard.events if not isinstance(event, Paused | Resumed)]
    assert told(Heard(events)) == told(generate(engine, request))


class _Never:
    def matches(self, stats: TokenStats, text: str) -> bool:
        return False


def test_it_pauses_in_the_midst_of_what_a_grammar_forces(engine_of: MakeEngine) -> None:
    engine = engine_of(prefix_cache_bytes=BUDGET)
    request = asking(constraint=constraint(RegexGrammar("a quick brown fox jumps[.!]{2}")), max_tokens=60)
    handle, heard = submit(engine, replace(request, watches=(EveryTenth(),)))
    for count in (1, 2):
        wait_until(lambda count=count: len(paused(heard)) == count)  # type: ignore[misc]
        assert len(heard.ids) == 10 * count
        handle.resume()
    heard.wait()
    assert heard.ids == generate(engine, request).ids


def endless(engine_of: MakeEngine, **more: Any) -> tuple[FakeDecoder, Engine]:
    decoder = FakeDecoder(endless_speech)
    return decoder, engine_of(decoder, prefix_cache_bytes=BUDGET, **more)


def test_a_paused_one_takes_no_place_and_no_steps(engine_of: MakeEngine) -> None:
    decoder, engine = endless(engine_of, max_active=1)
    handle, heard = submit(engine, asking(max_tokens=4000))
    wait_until(lambda: len(heard.steps) > 2)
    handle.pause()
    wait_until(lambda: paused(heard) == [Paused(None)])
    steps = len(decoder.decodes)
    others = [generate(engine, asking(max_tokens=5)) for _ in range(3)]
    assert [len(other.ids) for other in others] == [5, 5, 5]
    assert len(decoder.decodes) == steps + 15
    wait_until(lambda: engine.in_flight == 1)
    handle.resume()
    count = len(heard.steps)
    wait_until(lambda: len(heard.steps) > count)
    handle.cancel()
    assert heard.wait().finished.reason == "cancelled"


def test_cancelling_ends_a_paused_one_at_once(engine_of: MakeEngine) -> None:
    _, engine = endless(engine_of)
    handle, heard = submit(engine, asking(max_tokens=4000))
    handle.pause()
    wait_until(lambda: bool(paused(heard)))
    handle.cancel()
    assert heard.wait().finished.reason == "cancelled"
    wait_until(lambda: engine.in_flight == 0)


def test_closing_fails_a_paused_one(engine_of: MakeEngine) -> None:
    _, engine = endless(engine_of)
    handle, heard = submit(engine, asking(max_tokens=4000))
    handle.pause()
    wait_until(lambda: bool(paused(heard)))
    engine.close()
    assert isinstance(heard.wait().error, ClosedError)
    handle.resume()
    handle.cancel()


def test_a_pause_within_the_prompt_leaves_the_prompt_logprobs_whole(engine_of: MakeEngine) -> None:
    decoder, gate = FakeDecoder(), Gate()
    engine = engine_of(decoder)
    request = asking(prompt_ids=tuple(range(200)), prompt_logprobs=True, max_tokens=3)
    decoder.before_prefill = gate
    handle, heard = submit(engine, request)
    gate.wait()
    handle.pause()
    gate.open()
    wait_until(lambda: bool(paused(heard)))
    handle.resume()
    heard.wait()
    assert heard.started.prompt_stats == generate(engine_of(), request).started.prompt_stats


def test_pausing_and_resuming_what_has_ended_is_harmless(engine_of: MakeEngine) -> None:
    engine = engine_of(FakeDecoder(scripted_speech("done")))
    handle, heard = submit(engine, asking(prompt_ids=PROMPT))
    heard.wait()
    handle.pause()
    handle.resume()
    assert generate(engine, asking(prompt_ids=PROMPT)).text == "done"
    assert paused(heard) == []


def test_what_is_paused_keeps_no_more_memory_than_prefixes_may(engine_of: MakeEngine) -> None:
    decoder = FakeDecoder(endless_speech)
    engine = engine_of(decoder, prefix_cache_bytes=10_000)
    requests = [asking(prompt_ids=(number,) * 50, max_tokens=4000) for number in range(1, 6)]
    runs = [submit(engine, replace(request, watches=(EveryTenth(),))) for request in requests]
    wait_until(lambda: all(paused(heard) for _, heard in runs))
    assert all(generation.cache is None for generation in engine._loop._paused)
    assert 0 < engine.prefix_cache.nbytes <= 10_000
    for handle, heard in runs:
        handle.resume()
        wait_until(lambda heard=heard: len(paused(heard)) == 2)  # type: ignore[misc]
        handle.cancel()
        heard.wait()
    assert [heard.ids for _, heard in runs] == [
        generate(engine, replace(request, max_tokens=20)).ids for request in requests
    ]
