"""The embedded chat model in a response format: every answer is whole and fits, drawn at temperature 1."""

from __future__ import annotations

import json
import os
import re

import jsonschema
import pytest

from tests.fakes.listening import Heard, submit
from workbench.engine.constraints import Constraint, Grammars, JsonSchemaGrammar, RegexGrammar
from workbench.engine.requests import GenerationRequest
from workbench.engine.sampling import Sampling
from workbench.engine.scheduler import Engine

FULL = bool(os.environ.get("WORKBENCH_FULL_LAWS"))
"""Set it to draw 100 answers instead of 12."""
ANSWERS = 100 if FULL else 12

PATIENCE_S = 300.0
"""A real model on a busy machine is slow, and no hang."""

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "email": {"type": ["string", "null"], "maxLength": 40},
        "role": {"enum": ["reader", "author", "editor"]},
        "scores": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 10}, "maxItems": 3},
        "address": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 30},
                "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "role", "address"],
    "additionalProperties": False,
}
SUBJECTS = ("a sailor", "an old man", "somebody from Köln", "a 😀 clown", "the author of a cookbook", "nobody")


@pytest.fixture(scope="module")
def grammars(smollm2_engine: Engine) -> Grammars:
    return Grammars(smollm2_engine.model)


def answers(engine: Engine, constraint: Constraint, count: int, max_tokens: int = 400) -> list[Heard]:
    requests = [
        GenerationRequest(
            prompt_ids=tuple(
                engine.model.tokenizer.backend_tokenizer.encode(f"Describe {SUBJECTS[seed % 6]} in JSON:\n").ids
            ),
            sampling=Sampling(temperature=1.0, seed=seed),
            max_tokens=max_tokens,
            constraint=constraint,
        )
        for seed in range(count)
    ]
    return [heard.wait(PATIENCE_S) for _, heard in [submit(engine, request) for request in requests]]


@pytest.mark.timeout(1800 if FULL else 600)
def test_every_answer_is_json_that_fits_its_schema(smollm2_engine: Engine, grammars: Grammars) -> None:
    constraint = grammars.compile(JsonSchemaGrammar.of(PERSON, "f"), "f")
    heard = answers(smollm2_engine, constraint, ANSWERS)
    for one in heard:
        jsonschema.validate(json.loads(one.text), PERSON)
        assert one.finished.reason == "grammar"
    assert len({one.text for one in heard}) == ANSWERS, "drawn at temperature 1, no two are the same"


@pytest.mark.timeout(600)
def test_text_is_cut_into_the_tokens_that_the_tokenizer_makes_of_it(smollm2_engine: Engine, grammars: Grammars) -> None:
    """Forced text comes in the tokens that the model was trained on, not in letters."""
    constraint = grammars.compile(JsonSchemaGrammar.of(PERSON, "f"), "f")
    for one in answers(smollm2_engine, constraint, 3):
        names = [step.stats.token_id for step in one.steps if step.stats.forced]
        assert smollm2_engine.model.tokenizer.backend_tokenizer.encode("name", add_special_tokens=False).ids[0] in names
        assert len(one.ids) < 0.6 * len(one.text)


@pytest.mark.timeout(600)
def test_an_answer_matches_its_pattern(smollm2_engine: Engine, grammars: Grammars) -> None:
    pattern = r"(?:Mon|Tues|Wednes|Thurs|Fri)day, (?:0[1-9]|[12][0-9]|30) [A-Z][a-z]{2} \d{4}( - [^\n]{0,30})?"
    for one in answers(smollm2_engine, grammars.compile(RegexGrammar(pattern), "f"), 6):
        assert re.fullmatch(pattern, one.text)
