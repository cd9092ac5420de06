"""What happens when the server, or the way to it, does not do its part: safe retries, and errors that tell."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from typing import Any

import pytest

from tests.fakes.scripted_server import Reply, ScriptedServer, Stream, completion_events
from tests.unit.providers.openai.conftest import TOKEN, MakeProvider
from workbench.errors import (
    BusyError,
    ClosedError,
    ContextLengthError,
    InvalidRequestError,
    RemoteConnectionError,
    RemoteError,
    RemoteTimeoutError,
    UnsupportedFieldError,
    WorkbenchError,
)
from workbench.protocol import SamplingParams

ECHOES = {"error": {"message": f"bad header: Bearer {TOKEN}\x1b[31m\r\nforged line", "code": TOKEN}}
WHOLE = Stream(completion_events("Once"))
VECTORS = Reply({"data": [{"index": 0, "embedding": [1.0, 0.0]}]})


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_refuses_before_it_computes_is_asked_again(
    server: ScriptedServer, make: MakeProvider, slept_s: list[float], status: int
) -> None:
    server.script("/v1/completions", Reply(ECHOES, status), Reply(ECHOES, status), WHOLE)
    response = await make().completion("small", "x")
    assert response.completion_message.content == "Once"
    assert len(server.bodies("/v1/completions")) == 3
    assert 0 < slept_s[0] <= 0.5 < 2 * slept_s[1] <= 2.0


async def test_the_server_says_how_long_to_wait(
    server: ScriptedServer, make: MakeProvider, slept_s: list[float]
) -> None:
    server.script("/v1/completions", Reply(ECHOES, 429, {"Retry-After": "7"}), WHOLE)
    await make().completion("small", "x")
    assert slept_s == [7.0]


async def test_a_server_that_wants_to_be_left_alone_for_long_is_busy(
    server: ScriptedServer, make: MakeProvider, slept_s: list[float]
) -> None:
    server.script("/v1/completions", Reply(ECHOES, 429, {"Retry-After": "3600"}))
    with pytest.raises(BusyError):
        await make().completion("small", "x")
    assert slept_s == []


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_an_answer_that_may_have_been_computed_is_not_asked_for_twice_but_an_embedding_is(
    server: ScriptedServer, make: MakeProvider, status: int
) -> None:
    server.script("/v1/completions", Reply(ECHOES, status))
    server.script("/v1/embeddings", Reply(ECHOES, status), VECTORS)
    provider = make()
    with pytest.raises(RemoteError):
        await provider.completion("small", "x")
    assert len(server.bodies("/v1/completions")) == 1
    assert (await provider.embeddings("small", ["x"])).embeddings == [[1.0, 0.0]]
    assert len(server.bodies("/v1/embeddings")) == 2


async def test_attempts_end(server: ScriptedServer, make: MakeProvider, slept_s: list[float]) -> None:
    server.script("/v1/completions", Reply(ECHOES, 503))
    with pytest.raises(BusyError):
        await make(max_retries=4).completion("small", "x")
    assert len(slept_s) == 4
    assert max(slept_s) <= 8.0


async def test_nobody_there_is_asked_again_and_then_an_error(make: MakeProvider, slept_s: list[float]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(RemoteConnectionError):
        await make(url=f"http://127.0.0.1:{port}/v1").completion("small", "x")
    assert len(slept_s) == 3


async def test_silence_ends_the_wait(server: ScriptedServer, make: MakeProvider) -> None:
    server.script("/v1/completions", Stream(completion_events("Once", finish_reason=None), "silent"))
    with pytest.raises(RemoteTimeoutError, match="timeout_s"):
        await make(timeout_s=0.2).completion("small", "x")
    assert len(server.bodies("/v1/completions")) == 1


@pytest.mark.parametrize(
    "status, body, expected",
    [
        (400, {"error": {"message": "no"}}, InvalidRequestError),
        (422, {"detail": "Unexpected fields"}, InvalidRequestError),
        (413, b"too large", InvalidRequestError),
        (401, {"error": {"message": "who?"}}, RemoteError),
        (403, {}, RemoteError),
        (404, {"error": "model not found"}, RemoteError),
        (408, {}, RemoteTimeoutError),
        (501, {"error": {"message": "not here"}}, UnsupportedFieldError),
        (307, b"", RemoteError),
        (418, {"error": 7}, RemoteError),
        (200, b"<html>a proxy's page</html>", RemoteError),
    ],
)
async def test_every_status_is_an_error_of_ours(
    server: ScriptedServer, make: MakeProvider, status: int, body: Any, expected: type[WorkbenchError]
) -> None:
    headers = {"Location": "http://127.0.0.1:1/elsewhere"} if status == 307 else {}
    server.script("/v1/completions", Reply(body, status, headers))
    with pytest.raises(expected) as caught:
        await make().completion("small", "x")
    assert "provider there (remote::openai)" in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        {
            "error": {
                "message": "request (3001 tokens) exceeds the available context size (1024 tokens)",
                "n_prompt_tokens": 3001,
                "n_ctx": 1024,
            }
        },
        {
            "error": {
                "message": "request (3001 tokens) exceeds the available context size (1024 tokens), try increasing it"
            }
        },
        {
            "error": {
                "message": "This model's maximum context length is 1024 tokens. However, you requested 3017 tokens "
                "(3001 in the messages, 16 in the completion). Please reduce the length of the messages or completion."
            }
        },
        {
            "error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 3001",
            "error_type": "validation",
        },
    ],
)
async def test_a_prompt_that_does_not_fit_is_told_with_its_length(
    server: ScriptedServer, make: MakeProvider, body: Any
) -> None:
    server.script("/v1/completions", Reply(body, 400))
    with pytest.raises(ContextLengthError) as caught:
        await make().completion("small", "x")
    assert (caught.value.prompt_tokens, caught.value.context_length) == (3001, 1024)


async def test_a_limit_that_is_too_large_is_no_prompt_that_does_not_fit(
    server: ScriptedServer, make: MakeProvider
) -> None:
    message = (
        "'max_tokens' or 'max_completion_tokens' is too large: 9999. This model's maximum context length is 1024 "
        "tokens and your request has 5 input tokens (9999 > 1024 - 5)."
    )
    server.script("/v1/completions", Reply({"error": {"message": message}}, 400))
    with pytest.raises(InvalidRequestError) as caught:
        await make().completion("small", "x", SamplingParams(max_tokens=9999))
    assert not isinstance(caught.value, ContextLengthError)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 501])
async def test_a_token_that_the_server_repeats_is_not_told(
    server: ScriptedServer,
    make: MakeProvider,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    status: int,
) -> None:
    caplog.set_level(logging.DEBUG)
    server.script("/v1/completions", Reply(ECHOES, status))
    server.script("/v1/models", Reply(ECHOES, status))
    provider = make()
    with pytest.raises(WorkbenchError) as caught:
        await provider.completion("small", "x")
    assert server.asked[-1].headers["authorization"] == f"Bearer {TOKEN}", "it is sent, all the same"
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    seen = [shown, repr(provider), repr(provider.config), str(provider.config.model_dump()), caplog.text]
    seen += [provider.config.model_dump_json(), (await provider.health()).status, *capsys.readouterr()]
    assert not any(TOKEN in text for text in seen)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_an_error_event_that_repeats_the_token_does_not_tell_it(
    server: ScriptedServer, make: MakeProvider
) -> None:
    server.script("/v1/completions", Stream([ECHOES]))
    with pytest.raises(RemoteError) as caught:
        await make().completion("small", "x")
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("way", ["break", "aclose", "cancel", "timeout"])
async def test_whoever_leaves_hangs_up(server: ScriptedServer, make: MakeProvider, way: str) -> None:
    server.script("/v1/completions", Stream(completion_events("Once", finish_reason=None), "silent"))
    provider = make()
    before = asyncio.all_tasks()
    stream = provider.completion("small", "x", stream=True)
    if way == "break":
        async for _ in stream:
            break
        await stream.aclose()
    elif way == "aclose":
        await anext(stream)
        await stream.aclose()
    else:
        waiting = asyncio.ensure_future(provider.completion("small", "x"))
        assert await asyncio.to_thread(server.was_asked.wait, 60)
        if way == "cancel":
            waiting.cancel()
        with pytest.raises(TimeoutError if way == "timeout" else asyncio.CancelledError):
            await (asyncio.wait_for(waiting, 0) if way == "timeout" else waiting)
    assert await asyncio.to_thread(server.hung_up.wait, 60)
    assert asyncio.all_tasks() == before


async def test_closing_ends_what_is_on_its_way(server: ScriptedServer, make: MakeProvider) -> None:
    server.script("/v1/completions", Stream(completion_events("Once", finish_reason=None), "silent"))
    provider = make()
    stream = provider.completion("small", "x", stream=True)
    await anext(stream)
    provider.close()
    with pytest.raises(ClosedError):
        await anext(stream)
    with pytest.raises(ClosedError):
        await provider.completion("small", "x")
    assert await asyncio.to_thread(server.hung_up.wait, 60)
    provider.close()


def test_requests_of_several_event_loops_at_once_do_not_disturb_each_other(
    server: ScriptedServer, make: MakeProvider
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    server.script("/v1/completions", WHOLE)
    provider = make()

    def ask(_: int) -> list[str]:
        async def several() -> list[str]:
            responses = await asyncio.gather(*(provider.completion("small", "x") for _ in range(4)))
            return [response.completion_message.content for response in responses]

        return asyncio.run(several())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(12))) == [["Once"] * 4] * 12


async def test_one_failure_of_a_batch_cancels_the_rest(server: ScriptedServer, make: MakeProvider) -> None:
    silent = Stream(completion_events("Once", finish_reason=None), "silent")
    server.script("/v1/completions", silent, Reply({"error": {"message": "no"}}, 400))
    with pytest.raises(InvalidRequestError):
        await make().batch_completion("small", ["a", "b"])
    assert await asyncio.to_thread(server.hung_up.wait, 60)
