"""Whatever a schema says: an answer fits it, by an independent judge, or the run says that it is cut or does not fit.

`WORKBENCH_FULL_LAWS=1` takes 500 schemas, which takes some minutes; without it there are 80.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import jsonschema
import pytest

from tests.budget import budget
from tests.fakes.listening import generate
from tests.fakes.models import fake_model
from tests.json_schemas import Schema, json_schemas
from workbench.engine import constraints
from workbench.engine.constraints import Constraint, Grammars, JsonSchemaGrammar, LarkGrammar
from workbench.engine.requests import GenerationRequest
from workbench.engine.sampling import Sampling
from workbench.engine.scheduler import Engine
from workbench.errors import InvalidRequestError
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.grammar import required_call
from workbench.prompts.tools.parsing import ToolCallParser
from workbench.prompts.tools.syntaxes import ToolSyntax
from workbench.protocol import ToolCall, ToolCallDelta, ToolDefinition
from workbench.schemas.schema import JsonSchema

MakeEngine = Callable[..., Engine]

IS_FULL = bool(os.environ.get("WORKBENCH_FULL_LAWS"))
LIMITS = ((400, 24), (100, 9))
"""Of tokens, loose and tight; taken in turn, and all of them in the full law."""
PATIENCE_S = 300.0
FIELD = "response_format.json_schema"


@pytest.fixture(autouse=True)
def no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process for each schema takes longer than all the rest; `test_constraints` proves it."""
    monkeypatch.setattr(constraints, "trial", lambda _: None)


@cache
def grammars() -> Grammars:
    return Grammars(fake_model())


def compiled(schema: Schema) -> tuple[JsonSchema, Constraint] | InvalidRequestError:
    """The schema, ready to be followed, or why it is refused."""
    try:
        read = JsonSchema.of(schema, FIELD)
        return read, grammars().compile(JsonSchemaGrammar.of(read, FIELD), FIELD)
    except InvalidRequestError as error:
        return error


def outcome(engine: Engine, schema: Schema, read: JsonSchema, constraint: Constraint, seed: int, limit: int) -> str:
    """What became of one answer; raises for one that does not fit and says nothing of it."""
    sampling = Sampling(temperature=1.0, seed=seed)
    asked = {"prompt_ids": (seed % 250, 1), "sampling": sampling, "constraint": constraint, "max_tokens": limit}
    heard = generate(engine, GenerationRequest(**asked), PATIENCE_S)  # type: ignore[arg-type]
    if heard.finished.is_cut:
        return "cut"
    value = json.loads(heard.text)
    if jsonschema.Draft202012Validator(schema).is_valid(value):
        assert read.validation_error(value, "answer") is None
        return "fits"
    assert read.validation_error(value, "answer") is not None, (schema, heard.text)
    assert "checked once the answer is complete" in " ".join(read.notes), (schema, heard.text)
    return "noted"


def test_an_answer_fits_its_schema_or_the_run_says_otherwise(engine_of: MakeEngine) -> None:
    engine, counts = engine_of(), Counter[str]()
    for seed, schema in enumerate(json_schemas(500 if IS_FULL else budget(80))):
        found = compiled(schema)
        if isinstance(found, InvalidRequestError):
            counts["refused"] += 1
            continue
        needed = found[1].start().ending(room=200)
        counts["no end found"] += needed is None
        for limit in (*LIMITS[0], *LIMITS[1]) if IS_FULL else LIMITS[seed % 2]:
            how = outcome(engine, schema, *found, seed, limit)
            counts[how] += 1
            assert how != "cut" or needed is None or len(needed) > limit, (schema, limit, bytes(needed))
    print(dict(counts))
    assert counts["fits"] > 0.5 * counts.total()
    assert counts["refused"] < 0.1 * counts.total()
    assert counts["noted"] < 0.05 * counts.total()
    assert counts["no end found"] < 0.01 * counts.total(), "the search for the shortest way gives up too early"


def test_tools_and_response_formats_take_and_refuse_the_same_schemas() -> None:
    refused = 0
    for index, schema in enumerate(json_schemas(300 if IS_FULL else 60, seed=1)):
        arguments: Schema = (
            schema | {"type": "object"} if index % 2 else {"type": "object", "properties": {"x": schema}}
        )
        arguments |= {"$defs": schema["$defs"]}
        found = compiled(arguments)
        definition = ToolDefinition(tool_name="mcp/do.it", json_schema=arguments)
        if isinstance(found, InvalidRequestError):
            refused += 1
            with pytest.raises(InvalidRequestError) as caught:
                Toolset.of([definition])
            assert caught.value.allowed == found.allowed
            continue
        tools = Toolset.of([definition])
        assert tools.read["mcp/do.it"].root == arguments
        assert tools.read["mcp/do.it"].notes == found[0].notes
        for syntax in ToolSyntax:
            if syntax is not ToolSyntax.python_list:
                grammars().compile(LarkGrammar(required_call(tools, syntax)), "tools")
    assert refused


def calls_in(text: str, tools: Toolset, syntax: ToolSyntax) -> list[ToolCall]:
    parser = ToolCallParser(tools, syntax)
    events = [*parser.feed(text), *parser.close()]
    told = [event.content for event in events if isinstance(event, ToolCallDelta)]
    return [content for content in told if isinstance(content, ToolCall)]


@pytest.mark.parametrize("syntax", ToolSyntax)
def test_the_arguments_of_a_forced_call_fit_their_schema(engine_of: MakeEngine, syntax: ToolSyntax) -> None:
    engine = engine_of()
    for seed, schema in enumerate(json_schemas(100 if IS_FULL else budget(15), seed=2)):
        arguments: dict[str, Any] = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
        arguments |= {"$defs": schema["$defs"]}
        try:
            tools = Toolset.of([ToolDefinition(tool_name="a/b", json_schema=arguments)])
        except InvalidRequestError:
            continue
        grammar = LarkGrammar(required_call(tools, syntax, parallel=bool(seed % 2)))
        constraint = grammars().compile(grammar, "tools")
        sampling = Sampling(temperature=1.0, seed=seed)
        asked = {"prompt_ids": (seed % 250, 1), "sampling": sampling, "constraint": constraint, "max_tokens": 300}
        heard = generate(engine, GenerationRequest(**asked), PATIENCE_S)  # type: ignore[arg-type]
        calls = calls_in(heard.text, tools, syntax)
        if heard.finished.is_cut or tools.read["a/b"].notes:
            continue
        assert len(calls) >= 1, heard.text
        assert seed % 2 or len(calls) == 1
        for call in calls:
            jsonschema.Draft202012Validator(arguments).validate(call.arguments)
        assert re.match(r"\W*", heard.text)
