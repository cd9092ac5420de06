"""Stacks over a server, whose list is the server's and whose token nobody hears; and stacks of several processes."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.scripted_server import Reply, ScriptedServer, scripted_server
from workbench import Workbench
from workbench.errors import ModelNotFoundError, WorkbenchError
from workbench.stack import Stack

TOKEN = "canary-7f3a91-0123456789"


def config_of(url: str) -> dict[str, Any]:
    there = {"url": url, "api_token": TOKEN, "max_retries": 0}
    here = {"models": ["own"], "embedding_models": []}
    instances = [
        {"provider_id": "there", "provider_type": "remote::openai", "config": there},
        {"provider_id": "here", "provider_type": "inline::echo", "config": here},
    ]
    return {"providers": {"inference": instances}}


def listing(*names: str) -> Reply:
    return Reply({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


async def names(stack: Stack) -> list[str]:
    return [f"{model.provider_id}/{model.identifier}" for model in await stack.models.list_models()]


async def test_the_list_is_what_the_server_lists_now_and_aliases_come_back_with_it(server: ScriptedServer) -> None:
    server.script("/v1/models", listing("small", "large"))
    stack = Stack(config_of(server.url))
    await stack.open()
    assert await names(stack) == ["there/small", "there/large", "here/own"]
    await stack.models.register_model(
        stack.models.find("small").definition.model_copy(update={"identifier": "nick", "metadata": {}})
    )
    server.script("/v1/models", listing("small", "new"))
    assert await names(stack) == ["there/small", "here/own", "there/nick", "there/new"]
    stack.close()
    again = Stack(config_of(server.url))
    await again.open()
    assert await names(again) == ["there/small", "there/new", "here/own", "there/nick"]
    again.close()


async def test_without_its_server_the_stack_opens_says_so_and_finds_it_later(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = Reply({"error": {"message": f"the token {TOKEN} is of no use"}}, 500)
    server.script("/v1/models", wrong)
    stack = Stack(config_of(server.url))
    told: list[str] = []
    with caplog.at_level(logging.DEBUG):
        with pytest.warns(UserWarning, match="'there' cannot list its models") as warned:
            await stack.open()
        told += [str(one.message) for one in warned]
        with pytest.raises(ModelNotFoundError, match=r"served models: own.* Provider there did not answer") as missed:
            stack.models.find("small")
        told += traceback.format_exception(missed.value)
        told += [info.status for info in (await stack.inspect.provider_health()).values()]
        assert (await stack.inspect.health()).status == "OK", "the other provider can take requests"
        assert await names(stack) == ["here/own"]
        server.script("/v1/models", listing("small"))
        assert await names(stack) == ["here/own", "there/small"]
        server.script("/v1/completions", wrong)
        with pytest.raises(WorkbenchError) as failed:
            await stack.inference.completion("small", "x")
        told += traceback.format_exception(failed.value)
    assert any("Bearer" in asked.headers.get("authorization", "") for asked in server.asked)
    assert TOKEN not in "\n".join([*told, caplog.text, repr(stack.__dict__), repr(stack.providers["there"].__dict__)])
    stack.close()


SESSION = """
import sys
import workbench as wb

instance = {"provider_id": "a", "provider_type": "inline::echo", "config": {"models": ["own"], "embedding_models": []}}
with wb.Workbench({"providers": {"inference": [instance]}}) as bench:
    for step in range(40):
        name = f"{sys.argv[1]}-{step}"
        bench.register_model(name, "weights")
        assert bench.completion("x", model=name).result(60).completion_message.content
        if step % 2:
            bench.unregister_model(name)
"""


def test_two_sessions_in_two_processes_share_the_file_and_a_third_finds_what_both_have_registered() -> None:
    processes = [subprocess.Popen([sys.executable, "-c", SESSION, who], stderr=subprocess.PIPE) for who in "xy"]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    instance = {"provider_id": "a", "provider_type": "inline::echo", "config": {"models": [], "embedding_models": []}}
    with Workbench({"providers": {"inference": [instance]}}) as bench:
        found = {model.identifier for model in bench.list_models()}
    assert found == {f"{who}-{step}" for who in "xy" for step in range(0, 40, 2)}
