"""The local provider over models without weights: chunks, folding, stop reasons, refusals, cancellation."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.models import EOM, EOS, IM_END, VOCAB, FakeDecoder, Gate, random_speech, scripted_speech
from tests.fakes.observing import Observed
from tests.fakes.serving import FakeModels
from tests.fakes.tasks import other_tasks_ended
from workbench.errors import ClosedError, ContextLengthError, InvalidRequestError, ModelNotFoundError
from workbench.protocol import (
    ChatCompletionResponseEventType,
    LogProbConfig,
    SamplingParams,
    SamplingStrategy,
    StopReason,
    UserMessage,
)
from workbench.providers.transformers import TransformersProvider

SCRIPT_PROMPT = "\0"
"""After a NUL byte a scripted model speaks its text."""


@pytest.fixture
def provider(fake_models: FakeModels) -> Any:
    """Serves ``random``, which says something else after every prompt."""
    fake_models.add("random")
    provider = fake_models.provider()
    yield provider
    provider.close()


@pytest.fixture
def saying(fake_models: FakeModels) -> Any:
    """Makes a provider whose model ``script`` says a text and then ends."""
    made: list[TransformersProvider] = []

    def make(text: str | bytes, end: int = EOS, **facts: Any) -> TransformersProvider:
        fake_models.add("script", FakeDecoder(scripted_speech(text, end)), **facts)
        made.append(fake_models.provider())
        return made[-1]

    yield make
    for provider in made:
        provider.close()


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.002)


def params(**more: Any) -> SamplingParams:
    return SamplingParams(max_tokens=12, **more)


# ------------------------------------------------------------------------------------------------ streams and wholes


@pytest.mark.parametrize("logprobs,prompts", [(None, 10), (LogProbConfig(), 10), (LogProbConfig(top_k=5), 50)])
async def test_a_streamed_answer_is_the_whole_one(
    provider: TransformersProvider, logprobs: LogProbConfig | None, prompts: int
) -> None:
    observed = Observed(provider)
    for index in range(prompts):
        asked = params(stop=["e", "ab"] if index % 3 == 0 else None)
        whole = await observed.completion("random", f"prompt {index}", asked, False, logprobs)
        whole_folded = observed.folded
        chunks = [chunk async for chunk in observed.completion("random", f"prompt {index}", asked, True, logprobs)]
        tokens = observed.folded.tokens
        assert "".join(chunk.delta for chunk in chunks) == whole.completion_message.content
        assert [chunk.stop_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1].stop_reason == whole.completion_message.stop_reason
        entries = [entry for chunk in chunks for entry in chunk.logprobs or ()]
        assert entries == (whole.logprobs or [])
        assert [token.token_id for token in tokens] == [token.token_id for token in whole_folded.tokens]
        if logprobs is not None:
            assert len(entries) == len(tokens) == len(whole_folded.tokens)


async def test_a_chat_stream_is_one_start_progress_and_one_complete(provider: TransformersProvider) -> None:
    messages: list[Any] = [UserMessage(content="Hi")]
    whole = await provider.chat_completion("random", messages, params(), logprobs=LogProbConfig())
    events = [
        chunk.event
        async for chunk in provider.chat_completion("random", messages, params(), stream=True, logprobs=LogProbConfig())
    ]
    kinds = [event.event_type for event in events]
    assert kinds[0] == ChatCompletionResponseEventType.start
    assert kinds[-1] == ChatCompletionResponseEventType.complete
    assert kinds[1:-1] == [ChatCompletionResponseEventType.progress] * (len(kinds) - 2)
    assert [event.stop_reason for event in events[:-1]] == [None] * (len(events) - 1)
    assert "".join(event.delta for event in events) == whole.completion_message.content
    assert [entry for event in events for entry in event.logprobs or ()] == whole.logprobs


async def test_each_entry_holds_the_sampled_token_and_the_alternatives_asked_for(
    provider: TransformersProvider,
) -> None:
    observed = Observed(provider)
    whole = await observed.completion("random", "x", params(), logprobs=LogProbConfig(top_k=7))
    for entry, record in zip(whole.logprobs or (), observed.folded.tokens, strict=True):
        (sampled,) = [token for token in entry.tokens if token.is_sampled]
        assert (sampled.token_id, sampled.logprob) == (record.token_id, record.logprob)
        assert len(entry.tokens) == 8
        assert [token.logprob for token in entry.tokens] == sorted((t.logprob for t in entry.tokens), reverse=True)
        assert entry.logprobs_by_token[record.text] >= record.logprob


async def test_the_bytes_of_the_tokens_are_the_text(saying: Any) -> None:
    text = "naïve 😀 👩‍👩‍👧‍👦 한국어"
    whole = await saying(text).completion("script", SCRIPT_PROMPT, logprobs=LogProbConfig())
    assert whole.completion_message.content == text
    assert b"".join(bytes(entry.tokens[0].bytes) for entry in whole.logprobs) == text.encode()


async def test_without_logprobs_there_are_none_but_records_all_the_same(provider: TransformersProvider) -> None:
    observed = Observed(provider)
    whole = await observed.completion("random", "x", params())
    assert whole.logprobs is None
    folded = observed.folded
    assert folded.usage is not None
    assert len(folded.tokens) == folded.usage.generated_tokens > 0
    assert folded.usage.prompt_tokens == 1


async def test_a_text_that_ends_inside_a_character_is_whole_in_the_stream(saying: Any) -> None:
    provider = saying("ab😀")
    for count in range(1, 7):
        asked = SamplingParams(max_tokens=count)
        expected = "ab😀".encode()[:count].decode("utf-8", "replace")
        chunks = [chunk.delta async for chunk in provider.completion("script", SCRIPT_PROMPT, asked, True)]
        assert "".join(chunks) == expected
        assert (await provider.completion("script", SCRIPT_PROMPT, asked)).completion_message.content == expected


# ------------------------------------------------------------------------------------------------------- the end


@pytest.mark.parametrize(
    "end,reason", [(EOS, StopReason.end_of_turn), (IM_END, StopReason.end_of_turn), (EOM, StopReason.end_of_message)]
)
async def test_end_tokens_are_told_apart_and_stay_out_of_the_answer(saying: Any, end: int, reason: StopReason) -> None:
    whole = await saying("said", end).completion("script", SCRIPT_PROMPT, logprobs=LogProbConfig())
    assert whole.completion_message.content == "said"
    assert whole.completion_message.stop_reason == reason
    assert len(whole.logprobs) == 4


async def test_the_end_token_is_measured_as_the_others_are_and_is_none_of_them(saying: Any) -> None:
    provider, asked = saying("said"), LogProbConfig(top_k=3)
    observed = [Observed(provider) for _ in range(4)]
    await asyncio.gather(*(one.completion("script", SCRIPT_PROMPT, logprobs=asked) for one in observed))
    end, *others = (one.folded.end for one in observed)
    assert end is not None
    assert (end.position, end.token_id, end.text, end.is_special) == (4, EOS, "<|endoftext|>", True)
    assert (end.rank, len(end.alternatives)) == (1, 3)
    assert end.logprob == pytest.approx(20 - math.log(math.exp(20) + VOCAB - 1), abs=1e-6)
    assert [emission.end is None for emission in observed[0].emissions] == [True] * 4 + [False]
    for other in others:
        assert other is not None
        assert replace(other, elapsed_s=end.elapsed_s) == end


@pytest.mark.parametrize(
    "text,asked",
    [
        ("abcdef", SamplingParams(max_tokens=3)),
        ("abc", SamplingParams(max_tokens=3)),
        ("a.b", SamplingParams(stop=["."])),
    ],
    ids=["cut", "as long as it may be", "stop string"],
)
async def test_what_no_end_token_has_ended_has_none(saying: Any, text: str, asked: SamplingParams) -> None:
    observed = Observed(saying(text))
    await observed.completion("script", SCRIPT_PROMPT, asked)
    assert observed.emissions
    assert observed.folded.end is None


async def test_an_end_token_as_the_first_gives_an_empty_answer(saying: Any) -> None:
    provider = saying("")
    whole = await provider.completion("script", SCRIPT_PROMPT, logprobs=LogProbConfig(top_k=3))
    assert (whole.completion_message.content, whole.logprobs) == ("", [])
    assert whole.completion_message.stop_reason == StopReason.end_of_turn
    assert len([chunk async for chunk in provider.completion("script", SCRIPT_PROMPT, stream=True)]) == 1


async def test_a_stop_string_ends_the_turn_before_it(saying: Any) -> None:
    whole = await saying("one. two.").completion("script", SCRIPT_PROMPT, SamplingParams(stop=[". "]))
    assert whole.completion_message.content == "one"
    assert whole.completion_message.stop_reason == StopReason.end_of_turn


async def test_max_tokens_running_out_is_told(saying: Any) -> None:
    whole = await saying("abcdef").completion("script", SCRIPT_PROMPT, SamplingParams(max_tokens=3))
    assert whole.completion_message.content == "abc"
    assert whole.completion_message.stop_reason == StopReason.out_of_tokens


@pytest.mark.parametrize("max_tokens", [0, None, 10**12])
async def test_without_a_limit_the_context_is_the_limit(saying: Any, max_tokens: int | None) -> None:
    provider = saying("a" * 500, context_length=50)
    whole = await provider.completion("script", SCRIPT_PROMPT * 10, SamplingParams(max_tokens=max_tokens))
    assert whole.completion_message.content == "a" * 40
    assert whole.completion_message.stop_reason == StopReason.out_of_tokens


# ------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("length", [50, 51, 5000])
async def test_a_prompt_as_long_as_the_context_is_refused_with_both_numbers(
    fake_models: FakeModels, stream: bool, length: int
) -> None:
    decoder = fake_models.add("small", context_length=50)
    provider = fake_models.provider()
    with pytest.raises(ContextLengthError) as caught:
        await first_of(provider.completion("small", "x" * length, stream=stream), stream)
    assert (caught.value.prompt_tokens, caught.value.context_length) == (length, 50)
    assert str(length) in str(caught.value)
    assert "50" in str(caught.value)
    assert decoder.prefills == []
    provider.close()


async def first_of(answer: Any, stream: bool) -> Any:
    return await anext(answer) if stream else await answer


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "messages",
    [[], [UserMessage(content="x" * 5000)], [UserMessage(content="Hi"), "no message"]],
    ids=["none", "too long", "no message"],
)
async def test_a_bad_chat_is_refused_at_the_first_step(
    provider: TransformersProvider, stream: bool, messages: Any
) -> None:
    with pytest.raises(InvalidRequestError):
        await first_of(provider.chat_completion("random", messages, stream=stream), stream)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("content", ["", [], None, 7])
async def test_a_bad_content_is_refused_at_the_first_step(
    provider: TransformersProvider, stream: bool, content: Any
) -> None:
    with pytest.raises(InvalidRequestError, match="content"):
        await first_of(provider.completion("random", content, stream=stream), stream)


@pytest.mark.parametrize(
    "field,value",
    [
        ("temperature", float("nan")),
        ("temperature", -1),
        ("temperature", 1e9),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_k", -1),
        ("top_k", 2.5),
        ("max_tokens", -1),
        ("repetition_penalty", 0.0),
        ("min_p", 1.5),
        ("frequency_penalty", 3),
        ("logit_bias", {5: 101}),
        ("seed", -1),
        ("stop", [""]),
        ("stop", ["x"] * 1000),
    ],
)
def test_values_assigned_after_construction_are_checked_before_anything_is_loaded(
    provider: TransformersProvider, fake_models: FakeModels, field: str, value: Any
) -> None:
    asked = SamplingParams()
    setattr(asked, field, value)
    with pytest.raises(InvalidRequestError, match=rf"sampling_params\.{field}"):
        provider.completion("random", "x", asked)
    with pytest.raises(InvalidRequestError, match=rf"sampling_params\.{field}"):
        provider.chat_completion("random", [UserMessage(content="x")], asked, stream=True)
    assert fake_models.loads == []


async def test_a_bias_for_a_token_that_the_model_lacks_is_refused_before_anything_is_computed(
    fake_models: FakeModels,
) -> None:
    decoder = fake_models.add("one")
    provider = fake_models.provider()
    message = rf"sampling_params\.logit_bias must be .* from 0 to {VOCAB - 1}; got 'token id {VOCAB}'"
    for asked in (params(logit_bias={5: 1.0, VOCAB: -1.0}), params(logit_bias={VOCAB: 1.0})):
        with pytest.raises(InvalidRequestError, match=message):
            await provider.completion("one", "x", asked)
        with pytest.raises(InvalidRequestError, match=message):
            await provider.batch_completion("one", ["x", "y"], asked)
    assert decoder.prefills == []
    assert await provider.completion("one", "x", params(logit_bias={VOCAB - 1: 1.0}))


def test_an_unknown_model_is_refused_with_the_names_served(provider: TransformersProvider) -> None:
    with pytest.raises(ModelNotFoundError, match=r"nobody.*random"):
        provider.completion("nobody", "x")


# -------------------------------------------------------------------------------------------------------- batches


async def test_a_batch_keeps_its_order_and_equals_single_answers(provider: TransformersProvider) -> None:
    contents: list[Any] = [f"text {index} " * (1 + index % 5) for index in range(20)]
    asked = SamplingParams(strategy=SamplingStrategy.top_p, temperature=1.0, seed=4, max_tokens=15)
    batch = await provider.batch_completion("random", contents, asked)
    alone = [(await provider.completion("random", content, asked)).completion_message for content in contents]
    assert batch.completion_message_batch == alone
    assert len({message.content for message in alone}) > 10


async def test_a_batch_of_chats_equals_single_answers(provider: TransformersProvider) -> None:
    conversations: list[Any] = [[UserMessage(content=f"question {index}")] for index in range(6)]
    batch = await provider.batch_chat_completion("random", conversations, params())
    alone = [(await provider.chat_completion("random", one, params())).completion_message for one in conversations]
    assert batch.completion_message_batch == alone


@pytest.mark.parametrize("bad", ["", None, "x" * 5000])
async def test_one_bad_item_refuses_the_batch_before_any_compute(fake_models: FakeModels, bad: Any) -> None:
    decoder = fake_models.add("one")
    provider = fake_models.provider()
    with pytest.raises(InvalidRequestError) as caught:
        await provider.batch_completion("one", ["fine", "fine", bad, "fine"], params())
    assert decoder.prefills == []
    assert caught.value.field.startswith("content_batch[2]")
    provider.close()


async def test_a_fault_in_one_row_of_a_batch_stops_the_others(fake_models: FakeModels) -> None:
    decoder = fake_models.add("one")
    provider = fake_models.provider()

    def fail(caches: Any) -> None:
        if caches[0].ids[:1] == [ord("2")] and caches[0].length > 5:
            raise ArithmeticError

    decoder.before_decode = fail
    with pytest.raises(ArithmeticError):
        await provider.batch_completion("one", ["1", "2", "3"], SamplingParams(max_tokens=4000))
    wait_until(lambda: fake_models.engines["one"].in_flight == 0)
    provider.close()


async def test_an_empty_batch_is_an_empty_answer(provider: TransformersProvider) -> None:
    assert (await provider.batch_completion("random", [], params())).completion_message_batch == []


# -------------------------------------------------------------------------------------------- seeds and conflicts


async def test_a_seed_gives_one_answer_streamed_whole_and_in_a_batch(provider: TransformersProvider) -> None:
    asked = SamplingParams(strategy=SamplingStrategy.top_k, temperature=1.5, top_k=50, seed=11, max_tokens=20)
    whole = await provider.completion("random", "x", asked)
    streamed = [chunk.delta async for chunk in provider.completion("random", "x", asked, stream=True)]
    batch = await provider.batch_completion("random", ["y", "x", "z"], asked)
    answer = whole.completion_message
    assert "".join(streamed) == answer.content
    assert batch.completion_message_batch[1] == answer
    others = [await provider.completion("random", "x", asked.model_copy(update={"seed": seed})) for seed in range(5)]
    assert len({other.completion_message.content for other in others}) == 5


# --------------------------------------------------------------------------------------------------- cancellation


def held(fake_models: FakeModels) -> tuple[TransformersProvider, FakeDecoder, Gate]:
    """A model that takes a step only when it may."""
    gate = Gate()
    decoder = fake_models.add("held")
    decoder.before_decode = gate
    return fake_models.provider(), decoder, gate


async def breaking_off(stream: Any) -> None:
    async for chunk in stream:
        if getattr(chunk, "delta", "") or getattr(chunk, "event", None):
            break


async def closing(stream: Any) -> None:
    await anext(stream)
    await stream.aclose()


async def cancelling_the_task(stream: Any) -> None:
    async def read() -> None:
        async for _ in stream:
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def timing_out(stream: Any) -> None:
    async def read() -> None:
        async for _ in stream:
            pass

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(), 0.05)


async def forgetting(stream: Any) -> None:
    await anext(stream)
    await anext(stream)


@pytest.mark.parametrize("leave", [breaking_off, closing, cancelling_the_task, timing_out, forgetting])
@pytest.mark.parametrize("chat", [False, True])
async def test_leaving_a_stream_in_any_way_stops_the_compute_within_a_step(
    fake_models: FakeModels, leave: Callable[[Any], Any], chat: bool
) -> None:
    provider, decoder, gate = held(fake_models)
    gate.step(3)
    stream: Any = (
        provider.chat_completion("held", [UserMessage(content="x")], stream=True)
        if chat
        else provider.completion("held", "x", stream=True)
    )
    await leave(stream)
    del stream
    gc.collect()
    await other_tasks_ended()  # the loop closes what was forgotten
    steps = len(decoder.decodes)
    gate.open()
    engines = fake_models.engines  # none where the stream was left before its model was loaded
    await asyncio.to_thread(wait_until, lambda: all(engine.in_flight == 0 for engine in engines.values()))
    assert len(decoder.decodes) <= steps + 1
    assert (await provider.completion("held", "y", params())).completion_message.content
    await asyncio.to_thread(provider.close)


@pytest.mark.parametrize("batch", [False, True])
async def test_a_cancelled_call_that_does_not_stream_stops_too(fake_models: FakeModels, batch: bool) -> None:
    provider, decoder, gate = held(fake_models)
    answer = provider.batch_completion("held", ["x", "y"]) if batch else provider.completion("held", "x")
    task = asyncio.ensure_future(answer)
    gate.step(3)
    await asyncio.to_thread(gate.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    steps = len(decoder.decodes)
    gate.open()
    await asyncio.to_thread(wait_until, lambda: fake_models.engines["held"].in_flight == 0)
    assert len(decoder.decodes) <= steps + 4
    await asyncio.to_thread(provider.close)


async def test_the_event_loop_stays_free_while_sixteen_requests_run(fake_models: FakeModels) -> None:
    decoder = fake_models.add("busy", FakeDecoder(random_speech(), rows_per_step=16))
    decoder.before_decode = lambda _: time.sleep(0.005)  # computing lets the interpreter go, as torch does
    provider = fake_models.provider()
    await provider.completion("busy", "load", params())
    tasks = [asyncio.ensure_future(provider.completion("busy", f"{index}", params())) for index in range(16)]
    lags = []
    while not all(task.done() for task in tasks):
        before = time.thread_time()  # of this thread alone: what other programs do on the machine is not our work
        await asyncio.sleep(0.001)
        lags.append(time.thread_time() - before)
    assert max(lags) < 0.05


async def test_the_event_loop_turns_while_a_step_is_computed(fake_models: FakeModels) -> None:
    provider, _, gate = held(fake_models)
    tasks = [asyncio.ensure_future(provider.completion("held", f"{index}", params())) for index in range(16)]
    await asyncio.to_thread(gate.wait)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    gate.open()
    assert len(await asyncio.gather(*tasks)) == 16
    await asyncio.to_thread(provider.close)


# ----------------------------------------------------------------------------------------------- loading and life


async def test_a_model_loads_once_however_many_ask_first(fake_models: FakeModels) -> None:
    fake_models.add("one")
    provider = fake_models.provider()
    assert fake_models.loads == []
    await asyncio.gather(*(provider.completion("one", f"{index}", params()) for index in range(8)))
    assert fake_models.loads == ["one"]
    assert provider.card("one").loaded
    provider.close()


@pytest.mark.parametrize("arithmetic", ["bf16 dot products (AVX-512)", None])
async def test_the_card_of_a_loaded_model_says_what_its_prompts_are_computed_in(
    fake_models: FakeModels, arithmetic: str | None
) -> None:
    fake_models.add("one").prompt_arithmetic = arithmetic
    provider = fake_models.provider()
    assert provider.card("one").prompt_arithmetic is None
    await asyncio.to_thread(provider.load, "one")
    assert provider.card("one").prompt_arithmetic == arithmetic
    provider.close()


async def test_a_fault_in_the_engine_reaches_the_stream_with_its_type(fake_models: FakeModels) -> None:
    decoder = fake_models.add("one")
    provider = fake_models.provider()
    await provider.completion("one", "x", params())

    def fail(_: Any) -> None:
        raise ZeroDivisionError("in the model")

    decoder.before_decode = fail
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError, match="in the model"):
        await provider.completion("one", "x", params())
    with pytest.raises(ZeroDivisionError):
        _ = [chunk async for chunk in provider.completion("one", "x", params(), stream=True)]
    assert time.monotonic() - began < 1
    provider.close()


async def test_closing_fails_what_runs_and_refuses_what_comes(fake_models: FakeModels) -> None:
    provider, decoder, gate = held(fake_models)
    decoder.speech = scripted_speech("never done " * 10_000)
    task = asyncio.ensure_future(provider.completion("held", "\0"))
    await asyncio.to_thread(gate.wait)
    gate.open()
    await asyncio.to_thread(provider.close)
    with pytest.raises(ClosedError):
        await task
    with pytest.raises(ClosedError):
        await provider.completion("held", "x")


async def test_a_model_that_is_still_loading_at_the_close_is_not_left_behind(fake_models: FakeModels) -> None:
    fake_models.add("slow")
    provider = fake_models.provider()
    fake_models.may_load.clear()
    task = asyncio.ensure_future(provider.completion("slow", "x", params()))
    await asyncio.to_thread(wait_until, lambda: fake_models.loads == ["slow"])
    closing = asyncio.ensure_future(asyncio.to_thread(provider.close))
    await asyncio.sleep(0.05)
    fake_models.may_load.set()
    with pytest.raises(ClosedError):
        await task
    await closing
    assert not [thread for thread in threading.enumerate() if thread.name == "inference-slow"]
