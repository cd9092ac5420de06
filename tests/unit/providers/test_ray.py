"""The pool of actors: requests are spread, a dead actor loses and doubles nothing, and nothing is left at the end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes.observing import Observed
from tests.fakes.ray_starts import Start
from tests.fakes.requests import chat_request, completion_request
from tests.tiny_models import save_model
from workbench.errors import (
    ClosedError,
    ConfigError,
    ContextLengthError,
    InvalidRequestError,
    ModelNotFoundError,
    RemoteConnectionError,
    UnsupportedFieldError,
)
from workbench.protocol import (
    Edit,
    JsonSchemaResponseFormat,
    LogProbConfig,
    ModelDef,
    Provider,
    SamplingParams,
    SamplingStrategy,
    UserMessage,
)
from workbench.providers import create
from workbench.providers.echo.words import words_of
from workbench.providers.ray.wire import request_from_json, request_to_json

pytestmark = pytest.mark.timeout(600)  # a cluster takes its time to come up on a busy machine

Make = Callable[..., Any]
WORDS = "word " * 30


@pytest.fixture
def pool_of(ray_cluster: None) -> Iterator[Make]:
    """Makes a provider over actors of a config, which is closed after the test."""
    made: list[Any] = []

    def make(actors: int = 2, engine_type: str = "inline::echo", retries: int = 3, **engine: Any) -> Any:
        config = {"actors": actors, "engine_type": engine_type, "engine": engine, "retries": retries}
        made.append(create(Provider(provider_id="pool", provider_type="inline::ray", config=config)))
        return made[-1]

    yield make
    for provider in made:
        provider.close()


@pytest.fixture(scope="module")
def pair(ray_cluster: None) -> Iterator[Any]:
    """A provider over two actors, for tests that leave both alive."""
    config = {"actors": 2, "engine_type": "inline::echo", "engine": {"delay_s": 0.02}}
    provider = create(Provider(provider_id="pool", provider_type="inline::ray", config=config))
    yield provider
    provider.close()


def pids(provider: Any) -> list[int]:
    import ray

    found: list[int] = ray.get([actor.pid.remote() for actor in provider._pool.actors])
    return found


async def content(asking: Any) -> str:
    text: str = (await asking).completion_message.content
    return text


def test_a_request_travels_as_json_and_arrives_as_it_was() -> None:
    schema = JsonSchemaResponseFormat(json_schema={"type": "object"})
    params = SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.5, seed=3, stop=["x"], max_tokens=9)
    asked = completion_request("m", ["a 😀", "b"], params, LogProbConfig(top_k=2, prompt=True), schema, field="f[2]")
    assert request_from_json(request_to_json(asked)) == asked
    chat = chat_request("m", [UserMessage(content="x")], sampling_params=params, field="messages_batch[0]")
    again = request_from_json(request_to_json(chat))
    assert (again.messages, again.sampling_params, again.field) == ([UserMessage(content="x")], params, chat.field)
    values: list[Any] = [0.1, [1.5e-45, -3.4e38], [[1.0, 2.0], [3.0, 4.0]]]
    edits = [Edit(point="resid_post.last", operation="set", value=value, start=2, stop=4) for value in values]
    edited = replace(completion_request("m", "a"), edits=tuple(edits))
    assert request_from_json(request_to_json(edited)).edits == tuple(edits)


def test_numbers_inside_the_models_of_actors_cannot_be_read() -> None:
    config = {"engine_type": "inline::transformers", "engine": {"models": ["smollm2-135m-instruct"]}}
    provider = create(Provider(provider_id="pool", provider_type="inline::ray", config=config))
    assert provider.capabilities.edits, "they can be changed"
    with pytest.raises(UnsupportedFieldError, match=r"pool \(inline::ray\) does not look into models") as caught:
        provider.points("smollm2-135m-instruct")
    assert caught.value.field == "model"
    provider.close()


def test_nothing_is_started_before_the_first_request() -> None:
    program = """
import asyncio, sys
from workbench.providers import create
from workbench.protocol import Provider
provider = create(Provider(provider_id="p", provider_type="inline::ray", config={"engine_type": "inline::echo"}))
assert [model.identifier for model in asyncio.run(provider.list_models())] == ["echo", "echo-embedding"]
assert provider.card("echo").provider_type == "inline::ray"
assert asyncio.run(provider.health()).status == "OK"
provider.close()
assert not {"ray", "torch"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_attempt_to_start_a_cluster_that_fails_leaves_no_process_behind(ray_start: Start) -> None:
    import ray

    assert ray_start.failed
    assert ray_start.left == []
    assert ray_start.unraisable == []
    assert ray.is_initialized()


@pytest.mark.parametrize(
    "config,said",
    [
        ({"actors": 0}, "provider 'pool': actors must be greater than or equal to 1; got 0"),
        ({"adress": "auto"}, "adress.*did you mean address"),
        ({"engine_type": "inline::ray"}, "engine_type must not be inline::ray itself"),
        ({"engine_type": "inline::none"}, "unknown provider_type 'inline::none'"),
        ({"engine_type": "inline::echo", "engine": {"delay": 1}}, "delay.*did you mean delay_s"),
    ],
)
def test_a_wrong_config_is_refused_before_anything_is_started(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        create(Provider(provider_id="pool", provider_type="inline::ray", config=config))


async def test_concurrent_requests_are_spread_over_the_actors(pair: Any) -> None:
    texts = await asyncio.gather(*(content(pair.completion("echo", f"{index} {WORDS}")) for index in range(20)))
    assert texts == [f"{index} {WORDS}" for index in range(20)]
    busy: list[list[int]] = []
    streams = [pair.completion("echo", f"{index} {WORDS}", stream=True) for index in range(8)]
    for stream in streams:
        await anext(stream)
    busy.append(list(pair._pool._busy))
    for stream in streams:
        await stream.aclose()
    assert busy == [[4, 4]]
    assert pair._pool._busy == [0, 0]


async def test_answers_are_those_of_the_engine_alone_with_all_their_details(pair: Any) -> None:
    alone = create(Provider(provider_id="e", provider_type="inline::echo", config={}))
    asked: Any = ("echo", "to be or not", SamplingParams(max_tokens=3), False, LogProbConfig(top_k=3, prompt=True))
    there, here = Observed(pair), Observed(alone)
    assert await there.completion(*asked) == await here.completion(*asked)
    one, other = there.folded, here.folded
    assert [token.alternatives for token in one.tokens] == [token.alternatives for token in other.tokens]
    assert one.prompt_tokens == other.prompt_tokens
    assert (await pair.embed("echo", ["a", "b", "c"])) == (await alone.embed("echo", ["a", "b", "c"]))
    assert (await pair.score("echo", "a b", ["a b"])) == (await alone.score("echo", "a b", ["a b"]))
    assert (await pair.render("echo", "a b")) == (await alone.render("echo", "a b"))


async def test_two_hundred_answers_of_the_engine_are_right_though_an_actor_is_killed_among_them(
    pool_of: Make, tmp_path: Path
) -> None:
    folder = str(save_model(tmp_path / "tiny", "llama"))
    params = SamplingParams(max_tokens=12)
    prompts: list[Any] = [f"The quick brown fox {index}" for index in range(200)]
    alone = create(Provider(provider_id="here", provider_type="inline::transformers", config={"models": [folder]}))
    expected = (await alone.batch_completion("tiny", prompts, params)).completion_message_batch
    await asyncio.to_thread(alone.close)

    provider = pool_of(engine_type="inline::transformers", models=[folder])
    assert await content(provider.completion("tiny", "warm", params))
    victim, _ = await asyncio.to_thread(pids, provider)
    done: list[int] = []

    async def ask(index: int) -> Any:
        chunks = [chunk async for chunk in provider.completion("tiny", prompts[index], params, stream=True)]
        done.append(index)
        if len(done) == 40:
            os.kill(victim, signal.SIGKILL)
        return "".join(chunk.delta for chunk in chunks), chunks[-1].stop_reason

    answers = await asyncio.gather(*(ask(index) for index in range(200)))
    assert answers == [(message.content, message.stop_reason) for message in expected]
    assert sorted(done) == list(range(200))
    assert len(set(answers)) > 100


async def test_a_stream_goes_on_where_a_killed_actor_left_it_even_without_a_seed(pool_of: Make) -> None:
    provider = pool_of(delay_s=0.02)
    params = SamplingParams(strategy=SamplingStrategy.top_p, temperature=3.0, top_p=1.0)
    observed = Observed(provider)
    stream = observed.completion("echo", WORDS, params, stream=True, logprobs=LogProbConfig())
    chunks = [await anext(stream) for _ in range(5)]
    busy = provider._pool._busy.index(1)
    os.kill((await asyncio.to_thread(pids, provider))[busy], signal.SIGKILL)
    chunks += [chunk async for chunk in stream]
    tokens = observed.folded.tokens
    assert [token.position for token in tokens] == list(range(len(words_of(WORDS))))
    assert "".join(chunk.delta for chunk in chunks) == "".join(token.text for token in tokens)
    assert "".join(token.text for token in tokens).replace("~", "").split() == ["word"] * 30
    assert len({token.rank for token in tokens}) > 2


async def test_a_dead_actor_is_started_anew_and_said_to_be_missing_meanwhile(pool_of: Make) -> None:
    provider = pool_of(actors=1)
    assert await content(provider.completion("echo", "a"))
    (victim,) = await asyncio.to_thread(pids, provider)
    os.kill(victim, signal.SIGKILL)
    assert await content(provider.completion("echo", "a b")) == "a b"
    assert await asyncio.to_thread(pids, provider) != [victim]
    assert (await provider.health()).status == "OK"


async def test_actors_that_die_each_time_are_an_error_and_no_endless_loop(pool_of: Make) -> None:
    provider = pool_of(actors=1, retries=0, delay_s=0.05)
    stream = provider.completion("echo", WORDS, stream=True)
    await anext(stream)
    os.kill((await asyncio.to_thread(pids, provider))[0], signal.SIGKILL)
    with pytest.raises(RemoteConnectionError, match="one request lost 1 actors"):
        async for _ in stream:
            pass


async def test_a_reader_that_leaves_stops_the_actor(pool_of: Make) -> None:
    provider = pool_of(actors=1, delay_s=0.02)
    stream = provider.completion("echo", WORDS * 100, stream=True)
    await anext(stream)
    await stream.aclose()
    assert provider._pool._busy == [0]
    assert await content(provider.completion("echo", "after")) == "after"


async def test_one_bad_item_refuses_a_batch_before_any_compute(pool_of: Make) -> None:
    provider = pool_of(context_length=20)
    with pytest.raises(ContextLengthError) as caught:
        await provider.batch_completion("echo", ["a", WORDS, "b"])
    assert caught.value.field == "content_batch[1]"
    with pytest.raises(InvalidRequestError, match="embeddings only"):
        provider.completion("echo-embedding", "x")


async def test_a_model_is_served_by_every_actor_once_it_is_registered_and_by_none_after(pair: Any) -> None:
    await pair.register_model(ModelDef(identifier="new", llama_model="x"))
    assert await asyncio.gather(*(content(pair.completion("new", f"{index}")) for index in range(6))) == [*"012345"]
    await asyncio.to_thread(pair.load, "new")
    assert pair.card("new").provider_type == "inline::ray"
    await pair.unregister_model("new")
    with pytest.raises(ModelNotFoundError):
        pair.completion("new", "x")


async def test_closing_ends_the_actors_and_what_is_in_flight(pool_of: Make) -> None:
    provider = pool_of(delay_s=1)
    assert await content(provider.completion("echo", "a")) == "a"
    found = await asyncio.to_thread(pids, provider)
    running = asyncio.ensure_future(content(provider.completion("echo", WORDS)))
    stream = provider.completion("echo", WORDS, stream=True)
    await anext(stream)
    await asyncio.to_thread(provider.close)
    with pytest.raises(ClosedError):
        await running
    with pytest.raises(ClosedError):
        async for _ in stream:
            pass
    with pytest.raises(ClosedError):
        await content(provider.completion("echo", "x"))
    provider.close()
    await asyncio.to_thread(psutil.wait_procs, [one for one in psutil.process_iter() if one.pid in found], 60)
    assert not any(psutil.pid_exists(pid) for pid in found)


def test_the_address_of_another_cluster_is_refused(ray_cluster: None) -> None:
    config = {"engine_type": "inline::echo", "address": "127.0.0.1:1"}
    provider: Any = create(Provider(provider_id="pool", provider_type="inline::ray", config=config))
    with pytest.raises(ConfigError, match="address must be that of the cluster"):
        asyncio.run(content(provider.completion("echo", "x")))
    provider.close()
