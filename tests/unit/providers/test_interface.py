"""A provider of one generator has the whole protocol: streams, wholes, chats, batches, refusals, its life."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.fakes.observing import Observed
from workbench.errors import ConfigError, InvalidRequestError, ModelNotFoundError, UnsupportedFieldError
from workbench.protocol import (
    BatchInference,
    ChatCompletionResponseStreamChunk,
    CompletionResponseStreamChunk,
    EmbeddingsResponse,
    Inference,
    InterleavedTextMedia,
    LogProbConfig,
    ModelDef,
    Provider,
    SamplingParams,
    StopReason,
    ToolCall,
    ToolCallDelta,
    ToolCallParseStatus,
    UserMessage,
)
from workbench.providers.capabilities import Capabilities
from workbench.providers.interface import InferenceProvider, ProviderConfig
from workbench.providers.requests import Request
from workbench.records import Embeddings, Emission, TokenRecord, Usage

HELLO: list[Any] = [UserMessage(content="hello")]
CALL = ToolCall(call_id="1", tool_name="look", arguments={})


class Yielding(InferenceProvider):
    """Yields what the test says, and remembers how it was left."""

    def __init__(self, *pieces: str | Emission, **config: Any) -> None:
        super().__init__(Provider(provider_id="y", provider_type="test::yielding", config=config or {"models": ["m"]}))
        self.pieces = pieces
        self.requests: list[Request] = []
        self.closed = 0
        self.all_closed = asyncio.Event()

    async def generate(self, request: Request) -> AsyncIterator[str | Emission]:
        self.requests.append(request)
        try:
            for piece in self.pieces:
                await asyncio.sleep(0)
                if isinstance(piece, str) and piece in request.text and piece.startswith("!"):
                    raise ArithmeticError(piece)
                yield piece
        finally:
            self.closed += 1
            if self.closed == len(self.requests):
                self.all_closed.set()


async def test_it_satisfies_the_protocol() -> None:
    provider = Yielding()
    assert isinstance(provider, Inference)
    assert isinstance(provider, BatchInference)


async def test_texts_are_an_answer_that_ends_the_turn() -> None:
    provider = Yielding("one ", "two")
    chunks = [chunk async for chunk in provider.completion("m", "x", stream=True)]
    assert [chunk.delta for chunk in chunks] == ["one ", "two", ""]
    assert [chunk.stop_reason for chunk in chunks] == [None, None, StopReason.end_of_turn]
    whole = await provider.completion("m", "x")
    assert whole.completion_message.content == "one two"
    assert whole.completion_message.stop_reason == StopReason.end_of_turn


async def test_each_text_counts_as_a_token_of_which_no_more_is_known() -> None:
    observed = Observed(Yielding("one ", "two"))
    await observed.completion("m", "x")
    folded = observed.folded
    assert folded.usage is not None
    assert folded.usage.generated_tokens == 2
    assert [(token.position, token.text, token.bytes) for token in folded.tokens] == [
        (0, "one ", b"one "),
        (1, "two", b"two"),
    ]
    assert all(math.isnan(token.logprob) and token.rank == 0 and token.token_id == -1 for token in folded.tokens)


@pytest.mark.parametrize(
    "limit,said,reason", [(1, "a", "out_of_tokens"), (3, "abc", "out_of_tokens"), (4, "abc", "end_of_turn")]
)
@pytest.mark.parametrize("chat", [False, True])
async def test_max_tokens_of_the_texts_are_taken(limit: int, said: str, reason: str, chat: bool) -> None:
    provider, params = Yielding("a", "b", "c"), SamplingParams(max_tokens=limit)
    ask: Any = provider.chat_completion("m", HELLO, params) if chat else provider.completion("m", "x", params)
    message = (await ask).completion_message
    assert (message.content, message.stop_reason) == (said, reason)
    assert provider.closed == 1


async def test_nothing_comes_after_the_emission_with_the_stop_reason() -> None:
    last = Emission("b", stop_reason=StopReason.out_of_tokens)
    provider = Yielding(Emission("a"), last, "never", Emission("c"))
    chunks = [chunk async for chunk in provider.completion("m", "x", stream=True)]
    assert [chunk.delta for chunk in chunks] == ["a", "b"]
    events = [one.event async for one in provider.chat_completion("m", HELLO, stream=True)]
    assert [event.event_type for event in events] == ["start", "progress", "complete"]
    assert [event.delta for event in events] == ["", "a", "b"]
    assert provider.closed == 2


async def test_a_provider_that_says_nothing_gives_an_empty_turn() -> None:
    assert (await Yielding().completion("m", "x")).completion_message.content == ""
    events = [one.event async for one in Yielding().chat_completion("m", HELLO, stream=True)]
    assert [event.event_type for event in events] == ["start", "complete"]
    assert events[-1].stop_reason == StopReason.end_of_turn


async def test_news_of_calls_become_events_and_a_turn_that_ends_in_one_waits_for_its_answer() -> None:
    provider = Yielding(
        "Let me look.",
        Emission(ToolCallDelta(content="", parse_status=ToolCallParseStatus.started)),
        Emission(ToolCallDelta(content=CALL, parse_status=ToolCallParseStatus.success)),
    )
    chunks: list[ChatCompletionResponseStreamChunk] = [
        one async for one in provider.chat_completion("m", HELLO, stream=True)
    ]
    assert [one.event.event_type for one in chunks] == ["start", "progress", "progress", "progress", "complete"]
    assert chunks[-1].event.stop_reason == StopReason.end_of_message
    message = (await provider.chat_completion("m", HELLO)).completion_message
    assert (message.content, message.tool_calls) == ("Let me look.", [CALL])


async def test_logprobs_are_made_of_the_records_where_they_are_requested() -> None:
    tokens = [TokenRecord(position, position, text, text.encode(), -1.0, 1, 0.5) for position, text in enumerate("abc")]
    provider = Yielding(Emission("b", tuple(tokens[1:2]), prompt_tokens=tuple(tokens[:1])), Emission("c", (tokens[2],)))
    asked: Any = {"logprobs": LogProbConfig()}
    chunks = [one async for one in provider.completion("m", "x", stream=True, **asked)]
    assert [[entry.tokens[0].text for entry in one.logprobs or ()] for one in chunks] == [["a", "b"], ["c"], []]
    whole = await provider.completion("m", "x", **asked)
    assert whole.logprobs == [entry for one in chunks for entry in one.logprobs or ()]
    assert (await provider.completion("m", "x")).logprobs is None


async def test_a_call_in_a_completion_is_the_providers_mistake_and_ends_it() -> None:
    call = Emission(ToolCallDelta(content=CALL, parse_status=ToolCallParseStatus.success))
    with pytest.raises(TypeError, match="ToolCallDelta"):
        await Yielding(call).completion("m", "x")


async def test_anything_else_is_the_providers_mistake() -> None:
    provider = Yielding(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got <class 'int'>"):
        await provider.completion("m", "x")


@pytest.mark.filterwarnings("ignore:generate should yield:DeprecationWarning")
async def test_chunks_events_and_news_of_calls_of_the_protocol_are_accepted() -> None:
    call: Any = ToolCallDelta(content=CALL, parse_status=ToolCallParseStatus.success)
    events: list[Any] = [one async for one in Yielding("a", call).chat_completion("m", HELLO, stream=True)]
    assert [one.event.event_type for one in events] == ["start", "progress", "progress", "complete"]
    assert [one async for one in Yielding(*events).chat_completion("m", HELLO, stream=True)] == events
    chunks: list[Any] = [one async for one in Yielding("a", "b").completion("m", "x", stream=True)]
    assert [one async for one in Yielding(*chunks).completion("m", "x", stream=True)] == chunks


async def test_what_is_accepted_for_one_version_is_warned_of() -> None:
    chunk: Any = CompletionResponseStreamChunk(delta="a")
    with pytest.warns(DeprecationWarning, match=r"records\.Emission; CompletionResponseStreamChunk is accepted"):
        await Yielding(chunk).completion("m", "x")


async def test_a_provider_of_embeddings_in_the_protocols_form_is_asked_with_a_warning() -> None:
    class Embedding(Yielding):
        async def embeddings(self, model: str, contents: list[InterleavedTextMedia]) -> EmbeddingsResponse:
            return EmbeddingsResponse(embeddings=[[1.0] for _ in contents])

    with pytest.warns(DeprecationWarning, match="should define embed"):
        assert await Embedding().embed("m", ["x"]) == Embeddings([[1.0]], Usage())


@pytest.mark.parametrize("chat", [False, True])
async def test_a_reader_that_leaves_closes_the_generator_at_once(chat: bool) -> None:
    provider = Yielding(*"abcdef")
    stream: Any = (
        provider.chat_completion("m", HELLO, stream=True) if chat else provider.completion("m", "x", stream=True)
    )
    await anext(stream)
    await anext(stream)
    await stream.aclose()
    assert provider.closed == 1


async def test_a_batch_keeps_its_order_and_tells_each_request_its_place() -> None:
    provider = Yielding("a")
    answer = await provider.batch_completion("m", ["x", "y", "z"], SamplingParams(max_tokens=3))
    assert len(answer.completion_message_batch) == 3
    assert sorted((one.field, one.text) for one in provider.requests) == [
        ("content_batch[0]", "x"),
        ("content_batch[1]", "y"),
        ("content_batch[2]", "z"),
    ]
    chats = await provider.batch_chat_completion("m", [HELLO, HELLO])
    assert [message.content for message in chats.completion_message_batch] == ["a", "a"]


async def test_one_failure_in_a_batch_cancels_the_others() -> None:
    provider = Yielding("a", "!x", *["b"] * 10_000)
    with pytest.raises(ArithmeticError):
        await provider.batch_completion("m", ["y", "!x", "z"])
    await asyncio.wait_for(provider.all_closed.wait(), 60)


BAD: list[tuple[Callable[[Any], Any], str]] = [
    (lambda p: p.completion("m", 7), "content"),
    (lambda p: p.completion("m", ["a", 7]), "content"),
    (lambda p: p.chat_completion("m", []), "messages"),
    (lambda p: p.chat_completion("m", "hello"), "messages"),
    (lambda p: p.chat_completion("m", [*HELLO, "hello"]), "messages[1]"),
    (lambda p: p.completion("m", "x", {"seed": 1}), "sampling_params"),
    (lambda p: p.completion("m", "x", None, False, 3), "logprobs"),
    (lambda p: p.chat_completion("m", HELLO, None, None, "never"), "tool_choice"),
    (lambda p: p.chat_completion("m", HELLO, None, None, "required"), "tools"),
    (lambda p: p.chat_completion("m", HELLO, None, 3), "tools"),
    (lambda p: p.chat_completion("m", HELLO, None, None, None, "xml"), "tool_prompt_format"),
    (lambda p: p.batch_completion("m", "abc"), "content_batch"),
    (lambda p: p.batch_completion("m", ["a", None]), "content_batch[1]"),
    (lambda p: p.batch_chat_completion("m", [HELLO, []]), "messages_batch[1]"),
    (lambda p: p.batch_completion("m", ["a"], None, LogProbConfig()), "logprobs"),
]


@pytest.mark.parametrize("ask,field", BAD)
async def test_what_is_wrong_in_itself_never_reaches_the_provider(ask: Callable[[Any], Any], field: str) -> None:
    provider = Yielding("a")
    with pytest.raises(InvalidRequestError) as caught:
        await ask(provider)
    assert caught.value.field == field
    assert provider.requests == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda p: p.embeddings("m", ["x"]),
        lambda p: p.score("m", "x", ["y"]),
        lambda p: p.render("m", "x"),
        lambda p: p.register_model(ModelDef(identifier="new", llama_model="new")),
    ],
)
async def test_what_is_not_written_is_refused_with_what_there_is(ask: Callable[[Any], Any]) -> None:
    with pytest.raises(UnsupportedFieldError, match=r"provider y .test::yielding. offers completion, chat, batch"):
        await ask(Yielding())


async def test_without_a_generator_nothing_is_generated() -> None:
    class Nothing(InferenceProvider):
        capabilities = Capabilities(completion=False, chat=False, batch=False)

    provider = Nothing(Provider(provider_id="n", provider_type="test::nothing", config={"models": ["m"]}))
    with pytest.raises(UnsupportedFieldError, match="offers nothing"):
        provider.completion("m", "x")


async def test_models_come_by_config_and_by_registration_and_go_again() -> None:
    class Registering(Yielding):
        capabilities = Capabilities(register=True)

    provider = Registering("a", models=["m"])
    await provider.register_model(ModelDef(identifier="new", llama_model="weights"))
    assert [(model.identifier, model.llama_model) for model in await provider.list_models()] == [
        ("m", "m"),
        ("new", "weights"),
    ]
    assert provider.card("new").source == "weights"
    await provider.unregister_model("m")
    for call in (lambda: provider.completion("m", "x"), lambda: provider.card("m"), lambda: provider.load("m")):
        with pytest.raises(ModelNotFoundError, match="new"):
            call()
    with pytest.raises(ModelNotFoundError):
        await provider.unregister_model("m")
    assert (await provider.health()).status == "OK"
    provider.close()


class Tuned(ProviderConfig):
    level: int = 1


@pytest.mark.parametrize(
    "config,said",
    [
        ({"modles": ["m"]}, "provider 'y': modles.*did you mean models"),
        ({"models": "m"}, "provider 'y': models must be"),
        ({"models": ["m", "m"]}, "provider 'y': config.models names 'm' more than once"),
        ({"level": "high"}, "provider 'y': level must be"),
    ],
)
def test_a_wrong_config_is_refused_with_the_provider_and_the_key(config: dict[str, Any], said: str) -> None:
    class Tunable(Yielding):
        Config = Tuned

    with pytest.raises(ConfigError, match=said):
        Tunable(**config)
    assert Tunable(level=3).config.level == 3
