"""A server's models in the notebook facade: the same calls, and no secret in anything that is shown."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import pytest

import workbench as wb
from tests.fakes.scripted_server import Reply, ScriptedServer, Stream, chat_events, completion_events

CANARY = "canary-b81e04"


def config_of(server: ScriptedServer, **more: Any) -> dict[str, Any]:
    config = {"url": server.url, "api_token": "${env.REMOTE_TOKEN}", "max_retries": 0} | more
    return {"providers": {"inference": [{"provider_id": "there", "provider_type": "remote::openai", "config": config}]}}


@pytest.fixture(autouse=True)
def canary_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMOTE_TOKEN", CANARY)


def test_the_same_calls_work_against_a_server(server: ScriptedServer) -> None:
    server.script("/v1/completions", Stream(completion_events("Once", " upon")))
    server.script("/v1/chat/completions", Stream(chat_events("Hi")))
    with wb.Workbench(config=config_of(server)) as bench:
        run = bench.completion("x")
        assert [chunk.delta for chunk in run] == ["Once", " upon", ""]
        assert (run.text, run.state, len(run.tokens)) == ("Once upon", "finished", 2)
        assert bench.chat_completion([wb.UserMessage(content="Hello")]).result().completion_message.content == "Hi"
        assert [model.identifier for model in bench.list_models()] == ["small"]
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {CANARY}"}


def test_cancelling_a_run_hangs_up(server: ScriptedServer) -> None:
    server.script("/v1/completions", Stream(completion_events("Once", finish_reason=None), "silent"))
    with wb.Workbench(config=config_of(server)) as bench:
        run = bench.completion("x")
        next(iter(run))
        run.cancel()
        assert server.hung_up.wait(60)
        run.result(60)
        assert (run.text, run.state) == ("Once", "cancelled")


def test_a_canary_in_the_config_is_shown_nowhere(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server.script("/v1/completions", Reply({"error": {"message": f"no key {CANARY}"}}, 401))
    shown = []
    with wb.Workbench(config=config_of(server)) as bench:
        run = bench.completion("x")
        with pytest.raises(wb.RemoteError) as caught:
            run.result(60)
        shown += ["".join(traceback.format_exception(caught.value)), repr(run), repr(bench), str(bench.list_models())]
        shown += [repr(bench.config), bench.config.model_dump_json(), str(vars(caught.value))]
        shown += [str(bench.card("small"))]
    shown += [caplog.text, *capsys.readouterr()]
    assert not [text for text in shown if CANARY in text]


def test_a_literal_token_is_shown_nowhere_either(server: ScriptedServer) -> None:
    with wb.Workbench(config=config_of(server, api_token=CANARY)) as bench:
        assert CANARY not in repr(bench.config) + str(bench.config.model_dump()) + bench.config.model_dump_json()


def test_a_server_that_is_away_when_a_session_opens_is_a_warning(server: ScriptedServer) -> None:
    server.script(
        "/v1/models", Reply({"error": {"message": f"starting {CANARY}"}}, 500), Reply({"data": [{"id": "small"}]})
    )
    with pytest.warns(UserWarning, match="there") as caught:
        bench = wb.Workbench(config=config_of(server))
    assert not any(CANARY in str(warning.message) for warning in caught)
    with bench:
        assert bench.list_models() == []
        listed = asyncio.run(bench.models.list_models())
        assert [model.identifier for model in listed] == ["small"], "it was asked again"
