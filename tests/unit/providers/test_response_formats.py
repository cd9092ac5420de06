"""``response_format`` through the provider: on every call, streamed as whole, refused by name before any work."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
import torch

from tests.fakes.models import FakeDecoder, scripted_speech
from tests.fakes.observing import Observed
from tests.fakes.serving import FakeModels
from workbench.errors import GenerationError, InvalidRequestError, UnsupportedFieldError
from workbench.protocol import (
    GrammarResponseFormat,
    JsonSchemaResponseFormat,
    LogProbConfig,
    RegexResponseFormat,
    ResponseFormat,
    SamplingParams,
    SamplingStrategy,
    StopReason,
    ToolDefinition,
    UserMessage,
)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 9}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
FORMATS: list[tuple[ResponseFormat, str]] = [
    (JsonSchemaResponseFormat(json_schema={"enum": ["a", "b", 7]}), r'"a"|"b"|7'),
    (RegexResponseFormat(regex="(?:ab?c){1,5}"), "(?:ab?c){1,5}"),
    (GrammarResponseFormat(grammar='start: "one" | "two" " and " start'), "(?:two and )*one"),
]
JSON = JsonSchemaResponseFormat(json_schema=SCHEMA)


def params(seed: int = 0, max_tokens: int = 200) -> SamplingParams:
    return SamplingParams(strategy=SamplingStrategy.top_p, temperature=1.0, seed=seed, max_tokens=max_tokens)


@pytest.fixture
def provider(fake_models: FakeModels) -> Any:
    fake_models.add("random")
    provider = fake_models.provider()
    yield provider
    provider.close()


# ------------------------------------------------------------------------------------------------ every call


@pytest.mark.parametrize("response_format,pattern", FORMATS)
@pytest.mark.parametrize("is_chat", [False, True])
async def test_a_streamed_answer_is_the_whole_one_and_both_fit(
    provider: Any, response_format: ResponseFormat, pattern: str, is_chat: bool
) -> None:
    for seed in range(5):
        asked: dict[str, Any] = {
            "sampling_params": params(seed),
            "logprobs": LogProbConfig(),
            "response_format": response_format,
        }
        observed = Observed(provider)
        call = observed.chat_completion if is_chat else observed.completion
        prompt: Any = [UserMessage(content="Hi")] if is_chat else "Hi"
        whole = await call("random", prompt, **asked)
        chunks = [chunk async for chunk in call("random", prompt, stream=True, **asked)]
        parts = [chunk.event for chunk in chunks] if is_chat else chunks
        text = whole.completion_message.content
        assert re.fullmatch(pattern, text)
        assert "".join(part.delta for part in parts) == text
        assert whole.completion_message.stop_reason == parts[-1].stop_reason
        assert whole.completion_message.stop_reason != StopReason.out_of_tokens
        assert [entry for part in parts for entry in part.logprobs or ()] == whole.logprobs
        assert b"".join(token.bytes for token in observed.folded.tokens).decode() == text
        assert len(observed.folded.tokens) == len(whole.logprobs)


async def test_batches_fit_and_keep_their_order(provider: Any) -> None:
    prompts = [f"prompt {index}" for index in range(6)]
    alone = [
        (await provider.completion("random", prompt, params(), response_format=JSON)).completion_message
        for prompt in prompts
    ]
    batch = await provider.batch_completion("random", prompts, params(), response_format=JSON)
    assert batch.completion_message_batch == alone
    chats: list[Any] = [[UserMessage(content=prompt)] for prompt in prompts]
    answers = await provider.batch_chat_completion("random", chats, params(), response_format=JSON)
    for message in [*alone, *answers.completion_message_batch]:
        jsonschema.validate(json.loads(message.content), SCHEMA)


async def test_an_answer_that_was_cut_off_says_so(provider: Any) -> None:
    whole = await provider.completion("random", "x", params(max_tokens=12), response_format=JSON)
    assert whole.completion_message.stop_reason == StopReason.out_of_tokens
    assert whole.completion_message.content.startswith('{"name": "')


async def test_a_run_notes_that_it_is_cut_and_what_only_the_whole_answer_tells(provider: Any) -> None:
    observed = Observed(provider)
    await observed.completion("random", "x", params(max_tokens=12), response_format=JSON)
    assert "the answer is cut" in " ".join(observed.folded.notes)
    await observed.completion("random", "x", params(), response_format=JSON)
    assert observed.folded.notes == ()
    unique = {"type": "array", "items": {"type": "integer", "minimum": 0}, "uniqueItems": True, "minItems": 40}
    repeated = await observed.completion(
        "random", "x", params(max_tokens=300), response_format=JsonSchemaResponseFormat(json_schema=unique)
    )
    notes = " ".join(observed.folded.notes)
    assert "'uniqueItems' is checked once the answer is complete" in notes
    fits = jsonschema.Draft202012Validator(unique).is_valid(json.loads(repeated.completion_message.content))
    assert ("does not fit" in notes) is not fits


async def test_a_token_tells_what_the_format_took_away_and_its_logprob_stays_raw(provider: Any) -> None:
    observed = Observed(provider)
    whole = await observed.completion("random", "x", params(3), logprobs=LogProbConfig(), response_format=JSON)
    folded = observed.folded
    await observed.completion("random", "x", params(3), logprobs=LogProbConfig())
    free_folded = observed.folded
    assert folded.inspector is not None
    assert [token.text for token in folded.tokens if token.is_forced][:10] == list('{"name": "')
    for token, entry in zip(folded.tokens, whole.logprobs, strict=True):
        trace = folded.inspector.trace(token.position, None, None)
        raw, grammar = trace.stages[:2]
        assert (raw.name, grammar.name) == ("raw", "grammar")
        assert token.removed_mass == pytest.approx(grammar.removed_mass, abs=1e-5)
        assert token.probability == pytest.approx(float(raw.probabilities[token.token_id]), rel=1e-4)
        assert entry.logprobs_by_token[token.text] == token.logprob
    assert {(token.removed_mass, token.is_forced) for token in free_folded.tokens} == {(0.0, False)}


async def test_what_the_caller_does_to_the_schema_later_changes_nothing(provider: Any) -> None:
    schema: dict[str, Any] = {"enum": ["before"]}
    answer = provider.completion("random", "x", params(), response_format=JsonSchemaResponseFormat(json_schema=schema))
    schema["enum"][0] = "after"
    assert (await answer).completion_message.content == '"before"'


async def test_a_model_that_wants_to_end_cannot_end_early(fake_models: FakeModels) -> None:
    fake_models.add("silent", FakeDecoder(scripted_speech("")))
    provider = fake_models.provider()
    answer = await provider.completion("silent", "\0", response_format=JSON)
    jsonschema.validate(json.loads(answer.completion_message.content), SCHEMA)
    provider.close()


# ------------------------------------------------------------------------------------------------ refusals


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def without_check(response_format: ResponseFormat, field: str, value: object) -> ResponseFormat:
    """With a value that was assigned after the model's own check."""
    object.__setattr__(response_format, field, value)
    response_format.__dict__[field] = value
    return response_format


AT_ONCE: list[tuple[Any, str]] = [
    ({"type": "regex", "regex": "a"}, "response_format"),
    ("json", "response_format"),
    (RegexResponseFormat, "response_format"),
    (JsonSchemaResponseFormat(json_schema=deep(1000)), "response_format.json_schema"),
    (JsonSchemaResponseFormat(json_schema={"enum": ["x" * 2**20]}), "response_format.json_schema"),
    (JsonSchemaResponseFormat(json_schema={"$ref": "#"}), "response_format.json_schema"),
    (JsonSchemaResponseFormat(json_schema={"unevaluatedItems": False}), "response_format.json_schema"),
    (
        JsonSchemaResponseFormat(json_schema={"type": "integer", "minimum": 2, "maximum": 1}),
        "response_format.json_schema",
    ),
    (without_check(JsonSchemaResponseFormat(json_schema={}), "json_schema", [1]), "response_format.json_schema"),
    (RegexResponseFormat(regex="a" * 2**20), "response_format.regex"),
    (without_check(RegexResponseFormat(regex="a"), "regex", ""), "response_format.regex"),
    (without_check(RegexResponseFormat(regex="a"), "regex", 7), "response_format.regex"),
    (GrammarResponseFormat(grammar="a" * 2**20), "response_format.grammar"),
]


@pytest.mark.parametrize("response_format,field", AT_ONCE)
def test_what_is_wrong_by_itself_is_refused_before_the_model_is_loaded(
    provider: Any, fake_models: FakeModels, response_format: Any, field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        provider.completion("random", "x", response_format=response_format)
    assert caught.value.field == field
    assert fake_models.loads == []


WITH_THE_MODEL: list[tuple[ResponseFormat, str, str]] = [
    (RegexResponseFormat(regex="a(?=b)"), "regex", "look-around"),
    (GrammarResponseFormat(grammar="start: nothing"), "grammar", "nothing"),
]


@pytest.mark.parametrize("response_format,field,told", WITH_THE_MODEL)
@pytest.mark.parametrize("call", ["completion", "chat_completion", "batch_completion", "batch_chat_completion"])
async def test_what_cannot_be_enforced_is_refused_before_any_token(
    fake_models: FakeModels, response_format: ResponseFormat, field: str, told: str, call: str
) -> None:
    decoder = fake_models.add("random")
    provider = fake_models.provider()
    prompt: Any = [UserMessage(content="x")] if "chat" in call else "x"
    with pytest.raises(InvalidRequestError, match=told) as caught:
        await getattr(provider, call)(
            "random", [prompt] if "batch" in call else prompt, response_format=response_format
        )
    assert caught.value.field == f"response_format.{field}"
    assert (decoder.prefills, decoder.decodes) == ([], [])
    provider.close()


def test_a_format_beside_tools_is_refused_by_name(provider: Any) -> None:
    tools = [ToolDefinition(tool_name="get_weather", description="", parameters={})]
    with pytest.raises(UnsupportedFieldError) as caught:
        provider.chat_completion("random", [UserMessage(content="x")], tools=tools, response_format=JSON)
    assert caught.value.field == "response_format"


async def test_a_grammar_that_the_vocabulary_cannot_follow_is_an_error_after_what_it_could(
    fake_models: FakeModels,
) -> None:
    fake_models.add("narrow", FakeDecoder(lambda _: torch.zeros(110), vocab_size=110), eos_ids=frozenset())
    provider = fake_models.provider()
    chunks = provider.completion("narrow", "ab", response_format=RegexResponseFormat(regex="[ab][yz]"), stream=True)
    assert (await anext(chunks)).delta in {"a", "b"}
    with pytest.raises(GenerationError, match="vocabulary"):
        await anext(chunks)
    provider.close()
