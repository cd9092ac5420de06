"""Answers in a grammar: always whole and right, chosen as said, alone as in company, and told as they were thought."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import jsonschema
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.budget import budget
from tests.fakes.listening import Heard, generate, submit, told
from tests.fakes.models import EOS, PROMPT, VOCAB, FakeDecoder, Gate, fake_model, random_speech, scripted_speech
from tests.grammars import REGEXES, SCHEMAS, Schema
from workbench.engine.constraints import Constraint, Grammar, Grammars, JsonSchemaGrammar, LarkGrammar, RegexGrammar
from workbench.engine.loading import LoadedModel
from workbench.engine.prefill import FORCED_CHUNK
from workbench.engine.requests import Finished, GenerationRequest
from workbench.engine.sampling import Sampling
from workbench.engine.scheduler import Engine
from workbench.errors import GenerationError, NumericalError

MakeEngine = Callable[..., Engine]

PERSON: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "grey"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}

slow_inside = settings(max_examples=budget(25), suppress_health_check=[HealthCheck.function_scoped_fixture])


@cache
def fake_grammars() -> Grammars:
    """Of the byte vocabulary that all fakes share."""
    return Grammars(fake_model())


def of(grammar: Grammar) -> Constraint:
    return fake_grammars().compile(grammar, "response_format")


def person() -> Constraint:
    return of(JsonSchemaGrammar.of(PERSON, "response_format"))


def asking(constraint: Constraint | None, seed: int = 0, **more: Any) -> GenerationRequest:
    defaults: dict[str, Any] = {"prompt_ids": (seed % 250, 1), "sampling": Sampling(temperature=1.0, seed=seed)}
    return GenerationRequest(constraint=constraint, **defaults | more)


# ------------------------------------------------------------------------------------------------ whole and right


@slow_inside
@given(schema=SCHEMAS)
def test_json_fits_its_schema_whatever_the_schema_and_the_seed(engine_of: MakeEngine, schema: Schema) -> None:
    constraint = of(JsonSchemaGrammar.of(schema, "response_format"))
    engine = engine_of()
    for seed in range(8):
        heard = generate(engine, asking(constraint, seed))
        assert heard.finished.reason in {"grammar", "stop_token"}
        jsonschema.validate(json.loads(heard.text), schema)


@slow_inside
@given(pattern=REGEXES)
def test_a_text_matches_its_pattern_as_a_whole(engine_of: MakeEngine, pattern: str) -> None:
    constraint = of(RegexGrammar(pattern))
    engine = engine_of()
    for seed in range(8):
        heard = generate(engine, asking(constraint, seed))
        assert heard.finished.reason in {"grammar", "stop_token"}
        assert re.fullmatch(pattern, heard.text)


@pytest.mark.parametrize("seed", range(12))
def test_json_that_would_go_on_is_brought_to_its_end_when_tokens_run_short(engine_of: MakeEngine, seed: int) -> None:
    texts = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    schema = {
        "type": "object",
        "properties": {"a": texts, "b": {"type": "integer"}, "c": texts},
        "required": ["a", "c"],
    }
    constraint = of(JsonSchemaGrammar.of(schema | {"additionalProperties": False}, "f"))
    request = asking(constraint, seed, max_tokens=160)
    heard = generate(engine_of(), request)
    assert heard.finished.reason in {"grammar", "stop_token"}
    jsonschema.validate(json.loads(heard.text), schema)


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
def test_it_is_so_with_vocabularies_of_every_kind(
    engine_of: MakeEngine, tokenizers_by_kind: dict[str, Any], kind: str
) -> None:
    tokenizer = tokenizers_by_kind[kind]
    vocab = len(tokenizer) + 7  # wider than the tokenizer, as padded embeddings are
    model = fake_model(
        FakeDecoder(random_speech(vocab), vocab_size=vocab), tokenizer=tokenizer, eos_ids=frozenset({0, 2})
    )
    grammars = Grammars(model)
    schema = PERSON | {"properties": PERSON["properties"] | {"<|im_end|>": {"const": "</s> naïve ☃"}}}
    constraint = grammars.compile(JsonSchemaGrammar.of(schema, "f"), "f")
    pattern = r"(?:a ,b|3 3|héllo wörld|😀 한국어)(?:\n[a-zé年]{1,5}){0,3}"
    matching = grammars.compile(RegexGrammar(pattern), "f")
    engine = engine_of(model=model)
    for seed in range(budget(30)):
        jsonschema.validate(json.loads(generate(engine, asking(constraint, seed)).text), schema)
        assert re.fullmatch(pattern, generate(engine, asking(matching, seed)).text)


def test_the_answer_ends_with_its_grammar_and_asks_for_no_end_token(engine_of: MakeEngine) -> None:
    decoder = FakeDecoder(scripted_speech("yes and no"))
    heard = generate(engine_of(decoder), asking(of(RegexGrammar("yes|no")), prompt_ids=PROMPT))
    assert (heard.text, heard.finished) == ("yes", Finished("grammar"))
    assert len(decoder.decodes) + len(decoder.prefills) <= 3


def test_an_end_token_is_chosen_where_the_grammar_allows_an_end_and_nowhere_else(engine_of: MakeEngine) -> None:
    ending = FakeDecoder(scripted_speech(""))  # wants to end at once
    heard = generate(engine_of(ending), asking(of(RegexGrammar("[ab]{3,9}")), prompt_ids=PROMPT))
    assert len(heard.text) == 3
    assert (heard.finished.reason, heard.end_id) == ("stop_token", EOS)
    assert EOS not in heard.ids


def test_an_end_token_ends_the_answer_though_the_request_names_no_stop_token(engine_of: MakeEngine) -> None:
    heard = generate(
        engine_of(FakeDecoder(scripted_speech("aa"))),
        asking(of(RegexGrammar("a*")), prompt_ids=PROMPT, stop_ids=frozenset()),
    )
    assert (heard.text, heard.finished.reason, heard.end_id) == ("aa", "stop_token", EOS)


@pytest.mark.parametrize("max_tokens", [1, 2, 9, 12, 20])
def test_an_answer_cut_off_by_max_tokens_is_said_to_be(engine_of: MakeEngine, max_tokens: int) -> None:
    heard = generate(engine_of(), asking(person(), max_tokens=max_tokens))
    assert len(heard.ids) == max_tokens
    assert heard.finished == Finished("length", is_cut=True)
    assert '{"name": "'.startswith(heard.text[:10])


def test_an_answer_that_is_whole_with_its_last_token_is_not_cut_off(engine_of: MakeEngine) -> None:
    constraint = of(RegexGrammar("one|two"))
    assert generate(engine_of(), asking(constraint, max_tokens=3)).finished == Finished("grammar")


@pytest.mark.parametrize(
    "stop,text", [("age", '{"name": "xxxxxxxxxxxx", "'), ('"tags": ', '{"name": "xxxxxxxxxxxx", "age": 7, '), ("{", "")]
)
def test_stop_strings_end_the_answer_also_within_forced_text(engine_of: MakeEngine, stop: str, text: str) -> None:
    """And what is kept of the sequence for the next request must be right, though more had been read."""
    speech = scripted_speech('{"name": "' + "x" * 12 + '", "age": 7, "tags": []}')
    engine = engine_of(FakeDecoder(speech), prefix_cache_bytes=10**6)
    for _ in range(2):
        heard = generate(engine, asking(person(), prompt_ids=(0, *b"a prompt of some length", 0), stop_strings=(stop,)))
        assert (heard.text, heard.finished.reason) == (text, "stop_string")
    longer = (0, *b"a prompt of some length", 0, *b'{"na')
    cold = generate(engine_of(FakeDecoder(random_speech())), GenerationRequest(prompt_ids=longer, max_tokens=9))
    engine.model.decoder.speech = random_speech()  # type: ignore[attr-defined]
    assert generate(engine, GenerationRequest(prompt_ids=longer, max_tokens=9)).ids == cold.ids


# ------------------------------------------------------------------------------------------------ chosen as said


@cache
def reference(folder: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("greedy", [True, False])
def test_every_choice_is_made_from_the_masked_logits_of_a_full_forward(
    engine_of: MakeEngine, tiny_model: LoadedModel, greedy: bool
) -> None:
    constraint = Grammars(tiny_model).compile(JsonSchemaGrammar.of(PERSON, "f"), "f")
    engine = engine_of(model=tiny_model)
    for seed in range(3):
        sampling = Sampling(temperature=0.0 if greedy else 1.0, seed=seed)
        prompt = tuple(random.Random(seed).randrange(3, 380) for _ in range(9))
        heard = generate(engine, GenerationRequest(prompt_ids=prompt, sampling=sampling, constraint=constraint))
        assert any(step.stats.forced for step in heard.steps)
        with torch.inference_mode():
            logits = reference(tiny_model.folder)(torch.tensor([[*prompt, *heard.ids]]), use_cache=False).logits[0]
        state = constraint.start()
        for position, step in enumerate(heard.steps, start=len(prompt) - 1):
            stats, row = step.stats, logits[position].double()
            allowed = state.allowed()
            if stats.forced:
                allowed = torch.zeros_like(allowed)
                allowed[stats.token_id] = True
            elif greedy:
                best = float(row.masked_fill(~allowed, -torch.inf).max())
                assert float(row[stats.token_id]) == pytest.approx(best, abs=1e-4)
            assert allowed[stats.token_id]
            assert stats.logprob == pytest.approx(float(row.log_softmax(-1)[stats.token_id]), abs=1e-4)
            assert stats.removed_mass == pytest.approx(float(row.softmax(-1)[~allowed].sum()), abs=1e-5)
            state.consume(stats.token_id)


def test_random_numbers_are_drawn_for_sampled_tokens_alone(engine_of: MakeEngine) -> None:
    engine = engine_of()
    handle, heard = submit(engine, asking(person(), seed=5))
    heard.wait()
    numbers = random.Random(5)
    for position, step in enumerate(heard.steps):
        number = engine.inspect(handle, position).uniform
        assert number == (None if step.stats.forced else numbers.random())


def test_the_mask_comes_before_top_k(engine_of: MakeEngine) -> None:
    """Of the two best tokens overall neither may be allowed; of the two best allowed ones one is drawn."""
    rank = {ord("x"): 9.0, ord("y"): 8.0, ord("a"): 3.0, ord("b"): 2.0, ord("c"): 1.0}

    def speak(_: object) -> torch.Tensor:
        logits = torch.full((VOCAB,), -9.0)
        for token_id, value in rank.items():
            logits[token_id] = value
        return logits

    constraint = of(RegexGrammar("[abc]{40}"))
    sampling = Sampling(temperature=3.0, top_k=2, seed=1)
    assert set(generate(engine_of(FakeDecoder(speak)), asking(constraint, sampling=sampling)).text) == {"a", "b"}


def test_the_penalty_falls_on_forced_tokens_too(engine_of: MakeEngine) -> None:
    def speak(_: object) -> torch.Tensor:
        logits = torch.zeros(VOCAB)
        logits[ord("a")], logits[ord("b")] = 2.0, 1.5
        return logits

    constraint = of(RegexGrammar("a-[ab]"))
    for penalty, text in ((1.0, "a-a"), (2.0, "a-b")):
        sampling = Sampling(repetition_penalty=penalty)
        assert generate(engine_of(FakeDecoder(speak)), asking(constraint, sampling=sampling)).text == text


def test_forced_tokens_count_as_part_of_the_answer(engine_of: MakeEngine) -> None:
    def speak(_: object) -> torch.Tensor:
        logits = torch.zeros(VOCAB)
        logits[ord("a")], logits[ord("b")] = 2.0, 1.5
        return logits

    constraint = of(RegexGrammar("aa-[ab]"))
    for frequency, text in ((0.0, "aa-a"), (0.2, "aa-a"), (0.3, "aa-b")):
        sampling = Sampling(frequency_penalty=frequency)
        assert generate(engine_of(FakeDecoder(speak)), asking(constraint, sampling=sampling)).text == text


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_grammar_outweighs_a_bias(engine_of: MakeEngine, temperature: float) -> None:
    bias = {ord("a"): -100.0, ord("x"): 100.0}
    for pattern, text in (("a-[ab]", "a-b"), ("[a]{3}", "aaa")):
        sampling = Sampling(temperature=temperature, logit_bias=bias, seed=1)
        assert generate(engine_of(), asking(of(RegexGrammar(pattern)), sampling=sampling)).text == text


def test_a_spelling_like_a_control_token_is_written_in_tokens_of_text(engine_of: MakeEngine) -> None:
    constraint = of(JsonSchemaGrammar.of({"const": "<|im_end|>"}, "f"))
    heard = generate(engine_of(), asking(constraint))
    assert heard.text == '"<|im_end|>"'
    assert bytes(heard.ids) == heard.text.encode()


# ------------------------------------------------------------------------------------------------ forced text


def test_forced_text_is_read_in_one_chunk_with_the_choice_after_it(engine_of: MakeEngine) -> None:
    decoder = FakeDecoder()
    constraint = of(LarkGrammar('start: "a text of thirty characters..." /[xy]/ "end"'))
    heard = generate(engine_of(decoder), asking(constraint, prompt_ids=(1,)))
    assert decoder.prefills == [31, 4]
    assert decoder.decodes == []
    assert [step.stats.forced for step in heard.steps] == [True] * 30 + [False] + [True] * 3


def test_long_forced_text_is_read_in_chunks_that_let_others_step(engine_of: MakeEngine) -> None:
    decoder = FakeDecoder()
    text = "ab" * 100
    heard = generate(engine_of(decoder), asking(of(RegexGrammar(text)), prompt_ids=(1,)))
    assert heard.text == text
    assert max(decoder.prefills) == FORCED_CHUNK
    assert decoder.decodes == []


def test_in_company_few_forced_tokens_come_in_the_common_step(engine_of: MakeEngine) -> None:
    gate = Gate()
    decoder = FakeDecoder(rows_per_step=4)
    decoder.before_decode = gate
    engine = engine_of(decoder)
    free = [submit(engine, asking(None, seed, max_tokens=60, stop_ids=frozenset()))[1] for seed in range(3)]
    gate.wait()
    tied = submit(engine, asking(of(RegexGrammar("ab[xy]cd"))))[1]
    gate.open()
    assert re.fullmatch("ab[xy]cd", tied.wait().text)
    for heard in free:
        heard.wait()
    assert 4 in decoder.decodes
    assert decoder.prefills == [1] * 4  # the prompts, but for their last tokens


# ------------------------------------------------------------------------------------------------ in company


def mixed(count: int) -> list[GenerationRequest]:
    """Free and constrained requests that differ in all that a request may say."""
    rng = random.Random(3)
    constraints = [None, person(), of(RegexGrammar("[ab]{2,30}(?:and so on and on)?c*")), of(RegexGrammar("const"))]
    return [
        asking(
            constraints[index % 4],
            index,
            sampling=Sampling(
                temperature=rng.choice([0.0, 0.8, 1.5]),
                top_k=rng.choice([0, 5]),
                top_p=rng.choice([1.0, 0.9]),
                repetition_penalty=rng.choice([1.0, 1.3]),
                seed=index,
            ),
            max_tokens=rng.choice([5, 40, 200]),
            stop_strings=rng.choice([(), ("ag", "b,")]),
            alternatives=rng.choice([0, 3]),
            prompt_logprobs=index % 5 == 0,
        )
        for index in range(count)
    ]


@pytest.mark.parametrize("rows_per_step", [1, 3, 16])
def test_sixteen_requests_are_each_as_if_alone(engine_of: MakeEngine, rows_per_step: int) -> None:
    requests = mixed(16)
    alone = [told(generate(engine_of(FakeDecoder()), request)) for request in requests]
    engine = engine_of(FakeDecoder(rows_per_step=rows_per_step))
    together = [told(heard.wait()) for _, heard in [submit(engine, request) for request in requests]]
    assert together == alone


def test_a_model_that_computes_gives_one_answer_alone_and_in_company(
    engine_of: MakeEngine, tiny_llama: LoadedModel
) -> None:
    constraint = Grammars(tiny_llama).compile(JsonSchemaGrammar.of(PERSON, "f"), "f")
    requests = [
        asking(constraint, seed, prompt_ids=tuple(range(3, 6 + seed)), sampling=Sampling(temperature=1.0, seed=seed))
        for seed in range(8)
    ]
    alone = [generate(engine_of(model=tiny_llama), request) for request in requests]
    engine = engine_of(model=tiny_llama)
    together = [heard.wait() for _, heard in [submit(engine, request) for request in requests]]
    for one, other in zip(alone, together, strict=True):
        assert one.ids == other.ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_an_answer_is_the_same_after_a_prefix_was_reused(engine_of: MakeEngine) -> None:
    prompt = tuple(range(60))
    cold = generate(engine_of(), asking(person(), prompt_ids=prompt))
    engine = engine_of(prefix_cache_bytes=10**6)
    for _ in range(3):
        warm = generate(engine, asking(person(), prompt_ids=prompt))
        assert told(warm) == told(cold)
    assert warm.started.reused_tokens == 59


def test_a_cancelled_answer_ends_within_a_step_and_leaves_the_others_right(engine_of: MakeEngine) -> None:
    gate, decoder = Gate(), FakeDecoder(rows_per_step=2)
    alone = generate(engine_of(), asking(person(), seed=2))
    decoder.before_decode = gate
    engine = engine_of(decoder)
    handle, cancelled = submit(engine, asking(person(), seed=1))
    _, other = submit(engine, asking(person(), seed=2))
    gate.wait()
    gate.step(4)
    handle.cancel()
    gate.open()
    assert cancelled.wait().finished.reason == "cancelled"
    assert '{"name": "'.startswith(cancelled.text[:10])
    assert told(other.wait()) == told(alone)


# ------------------------------------------------------------------------------------------------ what cannot go on


def test_a_vocabulary_that_lacks_the_next_character_is_an_error_that_says_so(engine_of: MakeEngine) -> None:
    decoder = FakeDecoder(lambda _: torch.zeros(110), vocab_size=110)
    model = fake_model(decoder, eos_ids=frozenset({0}))
    constraint = Grammars(model).compile(RegexGrammar("[ab][yz]"), "f")
    heard = generate(engine_of(model=model), asking(constraint, prompt_ids=(1, 2)))
    assert len(heard.ids) == 1
    assert isinstance(heard.error, GenerationError)
    assert "no token in the model's vocabulary fits it" in str(heard.error)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_logits_that_leave_nothing_are_a_numerical_error_and_never_text(
    engine_of: MakeEngine, temperature: float, value: float
) -> None:
    def speak(_: object) -> torch.Tensor:
        logits = torch.zeros(VOCAB)
        logits[[ord("a"), ord("b")]] = value
        return logits

    sampling = Sampling(temperature=temperature, seed=1)
    heard = generate(engine_of(FakeDecoder(speak)), asking(of(RegexGrammar("[ab]c")), sampling=sampling))
    assert heard.ids == []
    assert isinstance(heard.error, NumericalError)


def test_the_next_request_of_the_same_grammar_is_served_after_one_failed(engine_of: MakeEngine) -> None:
    decoder = FakeDecoder()
    engine = engine_of(decoder)
    alone = told(generate(engine, asking(person())))

    def fail(*_: object) -> None:
        raise RuntimeError("a step went wrong")

    decoder.before_decode, decoder.before_prefill = fail, fail
    assert isinstance(generate(engine, asking(person())).error, RuntimeError)
    decoder.before_decode, decoder.before_prefill = lambda *_: None, lambda *_: None
    assert told(generate(engine, asking(person()))) == alone


# ------------------------------------------------------------------------------------------------ told as it was


@given(seed=st.integers(0, 10**6))
@settings(max_examples=budget(8), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_looking_back_shows_what_the_grammar_took_away(engine_of: MakeEngine, seed: int) -> None:
    engine = engine_of()
    sampling = Sampling(temperature=0.8, top_p=0.9, repetition_penalty=1.2, seed=seed)
    handle, heard = submit(engine, asking(person(), seed, sampling=sampling))
    heard.wait()
    state = person().start()
    for position, step in enumerate(heard.steps):
        trace, stats = engine.inspect(handle, position), step.stats
        names = ["raw", "penalty", "grammar"] + ([] if stats.forced else ["temperature", "top_p"])
        assert [stage.name for stage in trace.stages] == names
        assert trace.token_id == stats.token_id
        raw, penalty, grammar = trace.stages[:3]
        assert raw.kept == VOCAB
        assert grammar.kept == (1 if stats.forced else int(state.allowed().sum()))
        left = grammar.probabilities > 0
        assert grammar.removed_mass == pytest.approx(float(penalty.probabilities[~left].sum()), abs=1e-9)
        assert stats.removed_mass == pytest.approx(float(raw.probabilities[~left].sum()), abs=1e-5)
        assert float(engine.kept_logprobs(handle, position)[stats.token_id]) == pytest.approx(stats.logprob, abs=1e-5)
        state.consume(stats.token_id)


def test_other_parameters_choose_within_the_same_grammar(engine_of: MakeEngine) -> None:
    engine = engine_of()
    handle, heard = submit(engine, asking(of(RegexGrammar("[ab]{20}"))))
    heard.wait()
    hot = Sampling(temperature=50.0)
    drawn = {engine.inspect(handle, 3, hot, number / 20).token_id for number in range(20)}
    assert drawn == {ord("a"), ord("b")}


def test_a_free_answer_loses_nothing(engine_of: MakeEngine) -> None:
    heard: Heard = generate(engine_of(), asking(None, max_tokens=5))
    assert [(step.stats.removed_mass, step.stats.forced) for step in heard.steps] == [(0.0, False)] * 5
