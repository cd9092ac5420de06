"""What every provider type keeps to: the laws of the protocol for what it declares, a refusal by name for all else."""

from __future__ import annotations

import asyncio
import json
import math
import re
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from tests.conformance.conftest import FIXTURES, Served
from tests.fakes.observing import Observed
from workbench.errors import (
    InvalidRequestError,
    ModelNotFoundError,
    UnsupportedContentError,
    UnsupportedFieldError,
    WorkbenchError,
)
from workbench.protocol import (
    URL,
    GrammarResponseFormat,
    ImageMedia,
    JsonSchemaResponseFormat,
    LogProbConfig,
    ModelDefWithProvider,
    RegexResponseFormat,
    SamplingParams,
    SamplingStrategy,
    StopReason,
    ToolChoice,
    ToolDefinition,
    ToolParamDefinition,
    ToolPromptFormat,
    UserMessage,
)
from workbench.providers import PROVIDER_TYPES, provider_class
from workbench.providers.interface import InferenceProvider
from workbench.sampling_stages import SAMPLING_STAGES, StageSpec

PROMPT = "The capital of France is the city of Paris, and the capital of Italy is"
CHAT: list[Any] = [UserMessage(content="Say again: one two three four five six seven eight nine ten.")]
PICTURE = ImageMedia(image=URL(uri="data:image/png;base64,iVBORw0KGgo="))
WEATHER = ToolDefinition(
    tool_name="get_weather",
    description="Tell the weather of a city.",
    parameters={"city": ToolParamDefinition(param_type='{"type": "string", "maxLength": 12}')},
)
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


def params(max_tokens: int = 12, **more: Any) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, **more)


async def completed(served: Served, prompt: Any = PROMPT, asked: SamplingParams | None = None, **more: Any) -> Any:
    return await served.router.completion(served.model, prompt, asked or params(), **more)


async def chatted(served: Served, messages: Any = None, asked: SamplingParams | None = None, **more: Any) -> Any:
    return await served.router.chat_completion(served.model, messages or CHAT, asked or params(), **more)


def observed(served: Served) -> Any:
    return SimpleNamespace(router=Observed(served.router), model=served.model)


async def refused(asking: Any, field: str) -> None:
    with pytest.raises(UnsupportedFieldError, match="provider one") as caught:
        await asking
    assert caught.value.field == field


def test_every_provider_type_of_ours_is_here() -> None:
    assert set(FIXTURES) == set(PROVIDER_TYPES)
    assert all(issubclass(provider_class(name), InferenceProvider) for name in PROVIDER_TYPES)


# ----------------------------------------------------------------------------------------------- models and life


async def test_its_models_are_listed_and_described(served: Served) -> None:
    listed = {model.identifier for model in await served.provider.list_models()}
    assert listed == {model.identifier for model in await served.stack.models.list_models()}
    assert {name for name in (served.candidate.generates, served.candidate.embeds) if name} <= listed
    for identifier in listed:
        card = served.provider.card(identifier)
        assert (card.identifier, card.provider_id) == (identifier, "one")
        assert card.provider_type == served.candidate.provider_type
        assert served.provider.get_model(identifier).identifier == identifier


async def test_an_unknown_model_is_refused_with_the_names_of_those_that_are_served(served: Served) -> None:
    for ask, *more in (
        (served.router.completion, "x"),
        (served.provider.completion, "x"),
        (served.provider.chat_completion, CHAT),
        (served.provider.card,),
    ):
        with pytest.raises(ModelNotFoundError, match=re.escape(served.model)):
            ask("nobody", *more)
    for coroutine in (
        served.provider.embeddings("nobody", ["x"]),
        served.provider.batch_completion("nobody", ["x"]),
        served.provider.unregister_model("nobody"),
    ):
        with pytest.raises(ModelNotFoundError):
            await coroutine


async def test_it_is_healthy(served: Served) -> None:
    assert (await served.provider.health()).status == "OK"


async def test_a_model_comes_at_run_time_and_goes_again(served: Served) -> None:
    if not served.can.register:
        unknown = ModelDefWithProvider(identifier="further", llama_model="x", provider_id="one")
        await refused(served.stack.models.register_model(unknown), "model")
        return
    model = ModelDefWithProvider(identifier="another", llama_model=served.candidate.registers, provider_id="one")
    await served.stack.models.register_model(model)
    assert await served.router.completion("another", PROMPT, params(4))
    await served.stack.models.unregister_model("another")
    with pytest.raises(ModelNotFoundError):
        served.router.completion("another", PROMPT)
    with pytest.raises(ModelNotFoundError):
        served.provider.completion("another", PROMPT)
    assert await completed(served, asked=params(4))


async def test_a_closed_provider_answers_with_a_typed_error(served: Served) -> None:
    assert await completed(served, asked=params(2))
    served.close()
    served.close()
    with pytest.raises(WorkbenchError, match="closed"):
        await completed(served)


# --------------------------------------------------------------------------------------------- streams and wholes


async def test_a_streamed_completion_is_the_whole_one(served: Served) -> None:
    whole = await completed(served)
    chunks = [chunk async for chunk in served.router.completion(served.model, PROMPT, params(), stream=True)]
    assert len(chunks) > 1
    assert "".join(chunk.delta for chunk in chunks) == whole.completion_message.content != ""
    assert [chunk.stop_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].stop_reason == whole.completion_message.stop_reason
    assert whole.logprobs is None


async def test_a_streamed_chat_is_one_start_progress_and_one_complete(served: Served) -> None:
    whole = await chatted(served)
    chunks = [chunk async for chunk in served.router.chat_completion(served.model, CHAT, params(), stream=True)]
    events = [chunk.event for chunk in chunks]
    assert [event.event_type for event in events] == ["start", *["progress"] * (len(events) - 2), "complete"]
    assert "".join(event.delta for event in events) == whole.completion_message.content != ""
    assert [event.stop_reason for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1].stop_reason == whole.completion_message.stop_reason


async def test_the_records_of_the_tokens_are_the_text(served: Served) -> None:
    watched = observed(served)
    whole = await completed(watched, "naïve 😀 한국어 " * 4)
    folded = watched.router.folded
    said = b"".join(token.bytes for token in folded.tokens if not token.is_special).decode(errors="replace")
    assert said.strip() == whole.completion_message.content.strip()
    assert [token.position for token in folded.tokens] == list(range(len(folded.tokens)))
    assert all(token.elapsed_s >= 0 for token in folded.tokens)
    assert folded.usage is not None
    assert folded.usage.generated_tokens == len(folded.tokens) > 0


@pytest.mark.parametrize("limit", [1, 3])
async def test_no_more_tokens_come_than_were_asked_for(served: Served, limit: int) -> None:
    watched = observed(served)
    whole = await completed(watched, asked=params(limit))
    folded = watched.router.folded
    assert len(folded.tokens) <= limit
    assert (len(folded.tokens) == limit) == (whole.completion_message.stop_reason == StopReason.out_of_tokens)


async def test_a_batch_is_its_requests_alone_in_order(served: Served) -> None:
    prompts = [f"{index} {PROMPT}" for index in range(4)]
    chats = [[UserMessage(content=prompt)] for prompt in prompts]
    batch = await served.router.batch_completion(served.model, prompts, params())
    alone = [(await completed(served, prompt)).completion_message for prompt in prompts]
    assert batch.completion_message_batch == alone
    assert len({message.content for message in alone}) > 1
    batch = await served.router.batch_chat_completion(served.model, chats, params())
    assert batch.completion_message_batch == [(await chatted(served, chat)).completion_message for chat in chats]
    assert (await served.router.batch_completion(served.model, [], params())).completion_message_batch == []


async def test_requests_at_once_are_what_they_are_alone(served: Served) -> None:
    prompts = [f"{index} {PROMPT}" for index in range(8)]
    alone = [(await completed(served, prompt)).completion_message for prompt in prompts]
    together = await asyncio.gather(*(completed(served, prompt) for prompt in prompts))
    assert [whole.completion_message for whole in together] == alone


async def test_a_stream_that_is_left_harms_no_other(served: Served) -> None:
    alone = (await completed(served)).completion_message
    for leave in range(1, 4):
        stream = served.router.completion(served.model, PROMPT, params(200), stream=True)
        for _ in range(leave):
            await anext(stream, None)
        await stream.aclose()
    task = asyncio.ensure_future(completed(served, asked=params(200)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await completed(served)).completion_message == alone


# ------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("strategy", SamplingStrategy)
async def test_a_strategy_is_honoured_or_refused(served: Served, strategy: SamplingStrategy) -> None:
    asked = params(strategy=strategy, temperature=0.0 if strategy == SamplingStrategy.greedy else 0.8, top_k=5)
    if strategy in served.can.strategies:
        assert (await completed(served, asked=asked)).completion_message.content
    else:
        await refused(_asking(served, asked), "sampling_params.strategy")


async def test_a_seed_repeats_an_answer_or_is_refused(served: Served) -> None:
    sampled: dict[str, Any] = {"strategy": "top_p", "temperature": 1.5, "top_p": 1.0}
    if not served.can.seed:
        await refused(_asking(served, params(seed=1)), "sampling_params.seed")
        return
    answers = [(await completed(served, asked=params(seed=seed, **sampled))).completion_message for seed in range(6)]
    again = [(await completed(served, asked=params(seed=seed, **sampled))).completion_message for seed in range(6)]
    assert answers == again
    assert len({message.content for message in answers}) > 1


async def test_a_stop_string_ends_an_answer_before_it_or_is_refused(served: Served) -> None:
    if not served.can.stop:
        await refused(_asking(served, params(stop=["x"])), "sampling_params.stop")
        return
    free = (await completed(served)).completion_message.content
    stop = free[len(free) // 2 :][:3]
    for stream in (False, True):
        asked = params(stop=[stop])
        answer = served.router.completion(served.model, PROMPT, asked, stream=stream)
        text = "".join([one.delta async for one in answer]) if stream else (await answer).completion_message.content
        assert text == free[: free.index(stop)]
    assert (await completed(served, asked=params(stop=[stop]))).completion_message.stop_reason == StopReason.end_of_turn


@pytest.mark.parametrize("stage", [stage for stage in SAMPLING_STAGES if stage.is_ability], ids=lambda one: one.field)
async def test_a_stage_of_sampling_is_honoured_or_refused(served: Served, stage: StageSpec) -> None:
    strategy = max(served.can.strategies - {SamplingStrategy.greedy}, default=SamplingStrategy.greedy)
    if not stage.changes_argmax and strategy == SamplingStrategy.greedy:
        return  # nothing uses it
    drawn: dict[str, Any] = {"strategy": strategy, "temperature": 1.0, "top_k": 5}
    examples: dict[str, Any] = {"repetition_penalty": 1.3, "min_p": 0.1, "logit_bias": {5: 1.0}}
    value = examples.get(stage.field, 0.5)
    asked = params(**drawn | {stage.field: value})
    if getattr(served.can, stage.field):
        assert (await completed(served, asked=asked)).completion_message.stop_reason
    else:
        await refused(_asking(served, asked), f"sampling_params.{stage.field}")
    assert await completed(served, asked=params(4, **drawn | {stage.field: stage.neutral}))


@pytest.mark.parametrize(
    "field,value",
    [("temperature", -1), ("temperature", math.nan), ("top_p", 0), ("top_k", -1), ("max_tokens", -1), ("stop", [""])],
)
async def test_a_bad_parameter_is_refused_by_its_name_before_any_work(served: Served, field: str, value: Any) -> None:
    asked = params()
    setattr(asked, field, value)
    for ask in (served.router, served.provider):
        with pytest.raises(InvalidRequestError, match=rf"sampling_params\.{field}"):
            ask.completion(served.model, PROMPT, asked, stream=True)


@pytest.mark.parametrize("messages", [[], ["hello"], "hello", None])
async def test_what_is_no_conversation_is_refused(served: Served, messages: Any) -> None:
    for ask in (served.router, served.provider):
        with pytest.raises(InvalidRequestError, match="messages"):
            await ask.chat_completion(served.model, messages, params())


def _asking(served: Served, asked: SamplingParams | None = None, **more: Any) -> Any:
    """A completion whose refusal comes when it is awaited, as in all others."""

    async def ask() -> Any:
        return await served.router.completion(served.model, PROMPT, asked or params(), **more)

    return ask()


# ------------------------------------------------------------------------------------------------------- logprobs


@pytest.mark.parametrize("top_k", [0, 3])
@pytest.mark.parametrize("chat", [False, True])
async def test_logprobs_come_with_every_token_or_are_refused(served: Served, top_k: int, chat: bool) -> None:
    ask = chatted if chat else completed
    if not served.can.logprobs:
        await refused(ask(served, logprobs=LogProbConfig(top_k=top_k)), "logprobs")
        return
    watched = observed(served)
    whole = await ask(watched, logprobs=LogProbConfig(top_k=top_k))
    folded = watched.router.folded
    assert len(whole.logprobs) == len(folded.tokens) > 0
    for entry, record in zip(whole.logprobs, folded.tokens, strict=True):
        (sampled,) = [token for token in entry.tokens if token.is_sampled]
        assert (sampled.token_id, sampled.text) == (record.token_id, record.text)
        assert sampled.logprob == record.logprob <= 0
        assert len(entry.tokens) == top_k + 1
        assert [token.logprob for token in entry.tokens] == sorted((one.logprob for one in entry.tokens), reverse=True)
        assert math.fsum(math.exp(token.logprob) for token in entry.tokens) <= 1 + 1e-3
        assert record.text in entry.logprobs_by_token
    call: Any = served.router.chat_completion if chat else served.router.completion
    stream = call(served.model, CHAT if chat else PROMPT, params(), stream=True, logprobs=LogProbConfig(top_k=top_k))
    chunks = [chunk.event if chat else chunk async for chunk in stream]
    entries = [entry for chunk in chunks for entry in chunk.logprobs or ()]
    assert [_ids(entry) for entry in entries] == [_ids(entry) for entry in whole.logprobs]


async def test_more_alternatives_than_there_can_be_are_refused(served: Served) -> None:
    if served.can.logprobs and served.can.max_top_k is not None:
        asking = completed(served, logprobs=LogProbConfig(top_k=served.can.max_top_k + 1))
        await refused(asking, "logprobs.top_k")
        whole = await completed(served, logprobs=LogProbConfig(top_k=served.can.max_top_k))
        assert len(whole.logprobs[0].tokens) == served.can.max_top_k + 1


async def test_logprobs_of_the_prompt_come_first_or_are_refused(served: Served) -> None:
    watched = observed(served)
    asking = completed(watched, logprobs=LogProbConfig(prompt=True))
    if not served.can.prompt_logprobs:
        await refused(asking, "logprobs.prompt" if served.can.logprobs else "logprobs")
        return
    whole = await asking
    folded = watched.router.folded
    assert len(whole.logprobs) == len(folded.prompt_tokens) + len(folded.tokens)
    assert "".join(token.text for token in folded.prompt_tokens) in PROMPT
    assert len(folded.prompt_tokens) > 3


def _ids(entry: Any) -> list[tuple[int, bool]]:
    return [(token.token_id, token.is_sampled) for token in entry.tokens]


# --------------------------------------------------------------------------------------------- tools and formats


@pytest.mark.parametrize("prompt_format", ToolPromptFormat)
async def test_a_required_call_comes_in_every_format_or_is_refused(
    served: Served, prompt_format: ToolPromptFormat
) -> None:
    more: dict[str, Any] = {"tools": [WEATHER], "tool_choice": ToolChoice.required, "tool_prompt_format": prompt_format}
    asked = params(400, seed=1, strategy="top_p", temperature=1.0) if served.can.seed else params(400)
    if not served.can.tools:
        await refused(chatted(served, asked=asked, **more), "tools")
    elif not served.can.required_tool_choice:
        await refused(chatted(served, asked=asked, **more), "tool_choice")
    elif prompt_format not in served.can.tool_prompt_formats:
        await refused(chatted(served, asked=asked, **more), "tool_prompt_format")
    else:
        message = (await chatted(served, asked=asked, **more)).completion_message
        assert [call.tool_name for call in message.tool_calls] == ["get_weather"] * len(message.tool_calls)
        assert all(isinstance(call.arguments["city"], str) for call in message.tool_calls)
        assert message.tool_calls
        assert message.stop_reason == StopReason.end_of_message


async def test_a_streamed_call_is_the_whole_one(served: Served) -> None:
    if not served.can.required_tool_choice:
        return
    asked = params(400, seed=1, strategy="top_p", temperature=1.0) if served.can.seed else params(400)
    whole = (await chatted(served, asked=asked, tools=[WEATHER], tool_choice=ToolChoice.required)).completion_message
    events = [
        chunk.event
        async for chunk in served.router.chat_completion(
            served.model, CHAT, asked, [WEATHER], ToolChoice.required, stream=True
        )
    ]
    statuses = [event.delta.parse_status for event in events if not isinstance(event.delta, str)]
    calls = [event.delta.content for event in events if not isinstance(event.delta, str)][-1:]
    assert statuses[0] == "started"
    assert statuses[-1] == "success"
    assert calls[0].arguments == whole.tool_calls[-1].arguments


async def test_tools_that_may_be_called_leave_the_answer_free(served: Served) -> None:
    if served.can.tools:
        message = (await chatted(served, asked=params(30), tools=[WEATHER])).completion_message
        assert message.content or message.tool_calls
    else:
        await refused(chatted(served, tools=[WEATHER]), "tools")
    assert await chatted(served, asked=params(2), tools=[])


@pytest.mark.parametrize("kind", ["json_schema", "regex", "grammar"])
async def test_a_response_format_is_kept_or_refused(served: Served, kind: str) -> None:
    formats: dict[str, Any] = {
        "json_schema": JsonSchemaResponseFormat(json_schema=SCHEMA),
        "regex": RegexResponseFormat(regex="[a-c]{3,5}!"),
        "grammar": GrammarResponseFormat(grammar='start: "yes" | "no"'),
    }
    for ask in (completed, chatted):
        asking = ask(served, asked=params(60), response_format=formats[kind])
        if kind not in served.can.response_formats:
            await refused(asking, "response_format")
            continue
        text = (await asking).completion_message.content
        if kind == "json_schema":
            jsonschema.validate(json.loads(text), SCHEMA)
        elif kind == "regex":
            assert re.fullmatch("[a-c]{3,5}!", text)
        else:
            assert text in ("yes", "no")


async def test_an_image_is_read_or_refused_by_its_place(served: Served) -> None:
    message = UserMessage(content=["What is this?", PICTURE])
    with pytest.raises(UnsupportedContentError, match="messages"):
        await chatted(served, [message])
    with pytest.raises(UnsupportedContentError, match="content"):
        await completed(served, ["What is this?", PICTURE])


# ------------------------------------------------------------------------------------------------ beside generating


async def test_embeddings_come_in_order_or_are_refused(served: Served) -> None:
    if not served.can.embeddings:
        await refused(served.router.embeddings(served.model, ["x"]), "model")
        return
    model = served.candidate.embeds
    texts = ["one two", "three", "four five six"]
    vectors = (await served.router.embeddings(model, texts)).embeddings
    alone = [(await served.router.embeddings(model, [text])).embeddings[0] for text in texts]
    assert len({len(vector) for vector in vectors}) == 1
    for vector, other in zip(vectors, alone, strict=True):
        assert vector == pytest.approx(other, abs=1e-3)
        assert all(map(math.isfinite, vector))
    assert math.dist(vectors[0], vectors[2]) > 1e-3
    for bad in ([], "text", [7]):
        with pytest.raises(InvalidRequestError, match="contents"):
            await served.router.embeddings(model, bad)


async def test_continuations_are_scored_or_refused(served: Served) -> None:
    if not served.can.score:
        await refused(served.router.score(served.model, PROMPT, ["x"]), "model")
        return
    continuations = [" the city", " of Rome and more"]
    for prompt in (PROMPT, CHAT):
        scores = await served.router.score(served.model, prompt, continuations)
        assert [score.text for score in scores] == continuations
        assert all(score.logprob < 0 and score.tokens for score in scores)


async def test_a_prompt_is_rendered_or_refused(served: Served) -> None:
    if not served.can.render:
        await refused(served.router.render(served.model, PROMPT), "model")
        return
    prompt = await served.router.render(served.model, PROMPT)
    assert prompt.text == PROMPT
    watched = observed(served)
    await completed(watched, asked=params(1))
    usage = watched.router.folded.usage
    assert usage is not None
    assert usage.prompt_tokens == len(prompt.tokens)
    assert any(token.is_control for token in (await served.router.render(served.model, CHAT)).tokens)
