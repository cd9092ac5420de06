"""What a grammar costs a token: decoding with a mask beside free decoding, turn by turn on the same machine."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest

from tests.fakes.listening import submit
from workbench.engine.constraints import Constraint, Grammars, JsonSchemaGrammar, RegexGrammar
from workbench.engine.loading import load
from workbench.engine.requests import GenerationRequest
from workbench.engine.sampling import Sampling
from workbench.engine.scheduler import Engine

TOKENS = 96
TURNS = 5

ORDERS = {
    "type": "object",
    "properties": {
        "orders": {
            "type": "array",
            "minItems": 99,
            "items": {
                "type": "object",
                "properties": {
                    "customer": {"type": "string", "minLength": 5, "maxLength": 30},
                    "quantity": {"type": "integer", "minimum": 1, "maximum": 500},
                    "express": {"type": "boolean"},
                },
                "required": ["customer", "quantity", "express"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["orders"],
    "additionalProperties": False,
}


def per_token_s(engine: Engine, rows: int, constraint: Constraint | None) -> float:
    """Seconds per token of some requests that decode together, each for the same number of tokens."""
    started = time.perf_counter()
    heard = [
        submit(
            engine,
            GenerationRequest(
                prompt_ids=(504, 3575, 282, 4649),
                sampling=Sampling(temperature=1.0, seed=row),
                max_tokens=TOKENS,
                stop_ids=frozenset(),
                constraint=constraint,
            ),
        )[1]
        for row in range(rows)
    ]
    tokens = sum(len(one.wait(600).ids) for one in heard)
    assert tokens == rows * TOKENS
    return (time.perf_counter() - started) / tokens


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rows", [1, 4, 16])
def test_a_mask_costs_at_most_15_percent_and_forced_text_gives_it_back(smollm2_path: Path, rows: int) -> None:
    model = load(smollm2_path, precision="int4")
    grammars = Grammars(model)
    masked = grammars.compile(RegexGrammar(r"(?:[^\n]{1,200}\n){99}"), "f")  # a choice at every token
    orders = grammars.compile(JsonSchemaGrammar.of(ORDERS, "f"), "f")
    engine = Engine(model, prefix_cache_bytes=0)
    for constraint in (None, masked, orders):
        per_token_s(engine, rows, constraint)
    turns = [[per_token_s(engine, rows, one) for one in (None, masked, orders)] for _ in range(TURNS)]
    engine.close()
    free, with_mask, with_schema = (statistics.median(times) for times in zip(*turns, strict=True))
    mask_ratio = statistics.median(turn[1] / turn[0] for turn in turns)
    schema_ratio = statistics.median(turn[2] / turn[0] for turn in turns)
    print(
        f"\n{rows} at once, a token takes {free * 1e3:.2f} ms free, {with_mask * 1e3:.2f} ms with a mask"
        f" (x {mask_ratio:.3f}), {with_schema * 1e3:.2f} ms in a JSON schema (x {schema_ratio:.3f})"
    )
    assert mask_ratio < 1.15
    assert schema_ratio < 1.15
