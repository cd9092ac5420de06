"""Compiling grammars: what is wrong, too large or beyond enforcing is refused by field, and the process lives on."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from tests.budget import some
from tests.fakes.models import SPECIALS, FakeDecoder, byte_tokenizer, fake_model
from tests.tiny_models import UNICODE_CORPUS, make_tokenizer
from workbench.engine import constraints, grammar_trial
from workbench.engine.constraints import KEPT_GRAMMARS, Grammar, Grammars, JsonSchemaGrammar, LarkGrammar, RegexGrammar
from workbench.engine.grammar_tokens import grammar_vocabulary
from workbench.engine.grammar_trial import trial
from workbench.errors import GenerationError, InvalidRequestError

FIELD = "response_format"


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(fake_model())


@pytest.fixture
def no_trial(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Compiles without the process beside; the grammars that were to be tried."""
    tried: list[str] = []
    monkeypatch.setattr(constraints, "trial", tried.append)
    return tried


def schema(**parts: Any) -> JsonSchemaGrammar:
    return JsonSchemaGrammar.of(parts, FIELD)


def refusal(grammars: Grammars, grammar: Grammar) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        grammars.compile(grammar, FIELD)
    assert caught.value.field == FIELD
    assert len(str(caught.value)) < 700
    return str(caught.value)


def sentences(grammars: Grammars, grammar: Grammar, limit: int = 50) -> set[str]:
    """Every text of a grammar over bytes, found by trying all tokens that are allowed."""
    found: set[str] = set()
    waiting: list[list[int]] = [[]]
    while waiting:
        ids = waiting.pop()
        state = grammars.compile(grammar, FIELD).start()
        for token_id in ids:
            state.consume(token_id)
        if state.ended:
            found.add(bytes(ids).decode())
            continue
        allowed = state.allowed().nonzero()[:, 0].tolist()
        if 256 in allowed:
            found.add(bytes(ids).decode())
        waiting += [[*ids, token_id] for token_id in allowed if token_id < 256]
        assert len(found) + len(waiting) < limit
    return found


# ------------------------------------------------------------------------------------------------ what is compiled


@pytest.mark.parametrize(
    "grammar,texts",
    [
        (RegexGrammar("ab?|c"), {"a", "ab", "c"}),
        (RegexGrammar("^yes$"), {"yes"}),
        (RegexGrammar(r"a\\"), {"a\\"}),
        (RegexGrammar("a/b\nc"), {"a/b\nc"}),
        (schema(enum=["x", 1, None]), {'"x"', "1", "null"}),
        (schema(type="array", items={"const": 1}, minItems=1, maxItems=2), {"[1]", "[1, 1]"}),
        (
            schema(type="object", properties={"a": {"const": 1}, "b": {"const": 2}}, additionalProperties=False),
            {"{}", '{"a": 1}', '{"b": 2}', '{"a": 1, "b": 2}'},
        ),
        (LarkGrammar('start: greeting name?\ngreeting: "hi" | "ho"\nname: " Bo"'), {"hi", "ho", "hi Bo", "ho Bo"}),
        (LarkGrammar('start: "x=" %json {"type": "boolean"}'), {"x=true", "x=false"}),
    ],
)
def test_a_grammar_allows_its_texts_and_no_other(grammars: Grammars, grammar: Grammar, texts: set[str]) -> None:
    assert sentences(grammars, grammar) == texts


def test_a_schema_cannot_loosen_its_own_enforcement(grammars: Grammars) -> None:
    spaced = schema(const=[1, 2], **{"x-guidance": {"whitespace_flexible": True, "item_separator": " ; "}})
    assert sentences(grammars, spaced) == {"[1, 2]"}


def test_a_grammar_may_ask_for_a_control_token_by_its_name(grammars: Grammars) -> None:
    state = grammars.compile(LarkGrammar("start: <|im_start|> /[ab]/"), FIELD).start()
    assert state.forced() == [256 + SPECIALS.index("<|im_start|>")]


def test_a_token_that_the_grammar_does_not_allow_is_an_error(grammars: Grammars) -> None:
    state = grammars.compile(RegexGrammar("[ab]c"), FIELD).start()
    with pytest.raises(GenerationError, match="grammar"):
        state.consume(ord("x"))


@pytest.mark.parametrize(
    "grammar,begun,ending",
    [
        (schema(type="array", items={"type": "string"}), '["x]', '"]'),
        (schema(type="string", format="email"), '"someb', '@0"'),
        (schema(type="string", pattern="^[a-z]+ends$"), '"x', 'ends"'),
        (RegexGrammar("[a-z]+(?:one|zwei|drei)!"), "abc", "one!"),
        (LarkGrammar('start: "(" start ")" | "[" start "]" | /[a-z]+/'), "(([", "a]))"),
        (LarkGrammar("start: <|im_start|> /[a-z]{2}/"), "", "<|im_start|>aa"),
    ],
    ids=itertools.count(),
)
def test_the_way_to_an_end_is_the_shortest(grammars: Grammars, grammar: Grammar, begun: str, ending: str) -> None:
    state = grammars.compile(grammar, FIELD).start()
    for token_id in begun.encode():
        state.consume(token_id)
    way = state.ending(room=40)
    assert way is not None
    for token_id in way:
        state.consume(token_id)
    assert state.is_whole
    shown = "".join(SPECIALS[one - 256] if one >= 256 else chr(one) for one in way)
    assert len(way) <= len(ending)
    assert shown == ending or len(way) == len(ending)


def test_states_of_one_grammar_go_their_own_ways(grammars: Grammars) -> None:
    constraint = grammars.compile(RegexGrammar("a{3}|b"), FIELD)
    one, other = constraint.start(), constraint.start()
    one.consume(ord("b"))
    assert one.ended
    assert not other.ended
    assert other.allowed().nonzero()[:, 0].tolist() == [ord("a"), ord("b")]
    assert constraint.start().allowed().sum() == 2


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "grammar,told",
    [
        (RegexGrammar("(a"), "unclosed group"),
        (RegexGrammar("a(?=b)"), "look-around"),
        (RegexGrammar(r"(a)\1"), "backreferences"),
        (RegexGrammar(r"\bword"), "lookarounds"),
        (RegexGrammar("a\\"), "backslash"),
        (RegexGrammar("(" * 5000 + ")" * 5000), "regular expression"),
        (LarkGrammar("start: nothing"), "nothing"),
        (LarkGrammar("begin: /a/"), "start"),
        (LarkGrammar('start: "a'), "grammar"),
        (LarkGrammar("start: <|no_such|>"), "no_such"),
        (LarkGrammar("start: start"), "grammar"),
    ],
)
def test_what_cannot_be_enforced_is_refused_with_the_reason(grammars: Grammars, grammar: Grammar, told: str) -> None:
    assert told in refusal(grammars, grammar)


@pytest.mark.parametrize(
    "parts,told",
    [
        ({"type": "strin"}, "strin"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "at least one value fits"),
        ({"enum": []}, "at least one value fits"),
        ({"type": "string", "pattern": "(?=a)"}, "look-around"),
        ({"unevaluatedProperties": False}, "unevaluatedProperties"),
        ({"$dynamicRef": "#a"}, "dynamicRef"),
        ({"not": {"multipleOf": 2}}, "multipleOf"),
        ({"items": [{}]}, "items"),
        ({"$ref": "http://example.com/schema.json"}, "example.com"),
        ({"allOf": [{"$ref": "#"}]}, "not back to themselves"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "at least one value fits"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "at least one value fits"),
    ],
    ids=itertools.count(),
)
def test_a_schema_that_cannot_be_kept_is_refused_by_name(parts: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told) as caught:
        schema(**parts)
    assert caught.value.field == FIELD
    assert len(str(caught.value)) < 700


def long_rules(count: int) -> str:
    """Rules that each lead to the next: an overflow of llguidance's stack."""
    return "\n".join(["start: r0", *(f'r{index}: "a" r{index + 1}' for index in range(count)), f'r{count}: "a"'])


@pytest.mark.parametrize(
    "parts",
    [
        {"allOf": [{"anyOf": [{"minimum": index}, {"maximum": index}]} for index in range(40)]},
        {"minProperties": 10**6, "maxProperties": 10**7},
        {"type": "array", "contains": {"const": 1}, "minContains": 10**6},
    ],
    ids=itertools.count(),
)
def test_a_schema_that_takes_too_much_to_enforce_is_refused_at_once(parts: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=FIELD):
        schema(**parts)


HOSTILE: dict[str, Callable[[], Grammar]] = {
    "a stack overflow by rules": lambda: LarkGrammar(long_rules(3000)),
    "a long chain of references": lambda: schema(
        **{"$ref": "#/$defs/n0"},
        **{
            "$defs": {f"n{index}": {"properties": {"a": {"$ref": f"#/$defs/n{index + 1}"}}} for index in range(1500)}
            | {"n1500": {}}
        },
    ),
    "minutes of work": lambda: schema(
        allOf=[{"type": "string", "pattern": f"(.*a.{{{index}}}){{3}}"} for index in range(20, 40)]
    ),
}


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_a_grammar_that_would_end_or_hold_up_the_process_is_refused(grammars: Grammars, kind: str) -> None:
    assert "simpler" in refusal(grammars, HOSTILE[kind]())
    assert grammars.compile(RegexGrammar("still alive"), FIELD).start().forced() == list(b"still alive")


@pytest.mark.parametrize(
    "make",
    [
        lambda: JsonSchemaGrammar.of({"enum": ["x" * 2**20]}, FIELD),
        lambda: Grammars(fake_model()).compile(RegexGrammar("x" * 2**20), FIELD),
        lambda: Grammars(fake_model()).compile(LarkGrammar("x" * 2**20), FIELD),
        lambda: Grammars(fake_model()).compile(JsonSchemaGrammar("x" * 2**20, "x" * 2**20), FIELD),
    ],
)
def test_a_large_grammar_is_refused_before_anybody_compiles_it(make: Callable[[], object], no_trial: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match="KiB"):
        make()
    assert no_trial == []


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
def test_a_process_that_cannot_be_started_is_no_fault_of_the_grammar(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr("sys.executable", program)
    with pytest.raises(GenerationError, match="process"):
        grammars.compile(RegexGrammar("never tried before"), FIELD)


def test_a_trial_speaks_of_crashes_alone() -> None:
    assert trial('start: "a"') is None
    assert trial("start: nothing") is None  # wrong, which whoever compiles it will say
    assert "nested" in (trial(long_rules(3000)) or "")


def test_a_grammar_that_no_pipe_holds_reaches_a_process_that_is_slow_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_trial, "POLL_S", 0.001)
    assert trial(json.dumps({"grammars": [{"json_schema": {"description": "x" * 2**18, "type": "boolean"}}]})) is None


# ------------------------------------------------------------------------------------------------ what is kept


def test_a_grammar_is_compiled_once(no_trial: list[str]) -> None:
    grammars = Grammars(fake_model())
    first = grammars.compile(schema(type="boolean"), FIELD)
    assert grammars.compile(schema(type="boolean"), "tools") is first
    assert grammars.compile(RegexGrammar('{"type": "boolean"}'.replace("{", "a")), FIELD) is not first
    assert len(no_trial) == 2


def test_only_so_many_are_kept_the_least_recently_used_first_to_go(no_trial: list[str]) -> None:
    grammars = Grammars(fake_model())
    first = grammars.compile(RegexGrammar("first"), FIELD)
    second = grammars.compile(RegexGrammar("second"), FIELD)
    for index in range(KEPT_GRAMMARS - 1):
        grammars.compile(RegexGrammar(f"x{index}"), FIELD)
        assert grammars.compile(RegexGrammar("first"), FIELD) is first
    assert grammars.compile(RegexGrammar("second"), FIELD) is not second


def test_many_threads_may_compile_at_once(no_trial: list[str]) -> None:
    grammars, failed = Grammars(fake_model()), []

    def compile_some(start: int) -> None:
        try:
            for index in range(40):
                pattern = f"[ab]{{{1 + (start + index) % 9}}}"
                assert grammars.compile(RegexGrammar(pattern), FIELD).start().allowed().sum() == 2
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=compile_some, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


# ------------------------------------------------------------------------------------------------ the vocabulary


LOOK_ALIKES = [f"x{special}y" for special in SPECIALS] + ["<s>", "</s>", "<unk>", "<0x41>", "▁a", " a", "a", "  ", ""]


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
@pytest.mark.parametrize("text", some([*LOOK_ALIKES, *UNICODE_CORPUS]))
def test_any_text_is_cut_into_tokens_of_that_text_and_no_control_token(
    tokenizers_by_kind: dict[str, Any], kind: str, text: str
) -> None:
    tokenizer = tokenizers_by_kind[kind].backend_tokenizer
    made, _ = grammar_vocabulary(tokenizer, tokenizer.get_vocab_size(), [0])
    token_ids = made.tokenize_str(text)
    assert made.decode_bytes(token_ids).decode() == text
    assert not [token_id for token_id in token_ids if made.is_special_token(token_id)]


def test_a_text_is_cut_as_the_models_own_tokenizer_cuts_it(tokenizers_by_kind: dict[str, Any]) -> None:
    tokenizer = tokenizers_by_kind["byte-level"]
    made, _ = grammar_vocabulary(tokenizer.backend_tokenizer, len(tokenizer), [0])
    for text in UNICODE_CORPUS:
        assert made.tokenize_str(text) == tokenizer(text, add_special_tokens=False).input_ids


def test_a_tokenizer_that_changes_its_input_still_gives_the_text() -> None:
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate("abcAB ")}, merges=[]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    made, _ = grammar_vocabulary(tokenizer, 6, [])
    assert made.tokenize_str("aB A") == [0, 4, 5, 3]


@pytest.mark.parametrize("width", [5, 200, 256, 300])
def test_masks_are_as_wide_as_the_logits(width: int) -> None:
    """Some tokenizers know more tokens than the model has logits, and most models have more logits than tokens."""
    model = fake_model(FakeDecoder(vocab_size=width), tokenizer=byte_tokenizer())
    state = Grammars(model).compile(RegexGrammar(r"[\x00-\x04].*"), FIELD).start()
    assert state.allowed().shape == (width,)
    assert state.allowed().nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_model_without_an_end_token_ends_where_nothing_can_follow() -> None:
    tokenizer = make_tokenizer(tokenizer_object=byte_tokenizer().backend_tokenizer)
    grammars = Grammars(fake_model(FakeDecoder(vocab_size=256), tokenizer=tokenizer, eos_ids=frozenset()))
    state = grammars.compile(schema(const=json.dumps("é")), FIELD).start()
    for token_id in state.forced():
        assert not state.ended
        state.consume(token_id)
    assert state.ended
