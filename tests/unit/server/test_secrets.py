"""A secret of the run config is in no answer of the server, in no line of its log and nothing that it prints."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.fakes.http_server import Served, serving
from tests.unit.server.conftest import ECHO

CANARY = "canary-7f3a9c"


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("CANARY", CANARY)
    remote = {
        "provider_id": "gone",
        "provider_type": "remote::vllm",
        # Nobody listens at port 1, so every question to it fails, with the token at hand.
        "config": {"url": "http://127.0.0.1:1/v1", "api_token": "${env.CANARY}", "models": ["far"], "max_retries": 0},
    }
    return {"providers": {"inference": [*ECHO["providers"]["inference"], remote]}}


def answers(served: Served) -> list[str]:
    client = served.client()
    description = client.get("/openapi.json").json()
    asked: dict[str, Any] = {"model": "far", "content": "Hi", "messages": [{"role": "user", "content": "Hi"}]}
    told = []
    for path, methods in description["paths"].items():
        for method in methods:
            options: dict[str, Any] = {"json": asked} if method == "post" else {}
            response = client.request(method, path.replace("{model}", "far"), **options)
            told.append(f"{response.headers}{response.text}")
    for stream in (True, False):
        told += [
            client.post("/inference/completion", json={"model": "far", "content": "Hi", "stream": stream}).text,
            client.post("/v1/completions", json={"model": "far", "prompt": "Hi", "stream": stream}).text,
        ]
    return told


@pytest.mark.filterwarnings("ignore::UserWarning")  # that the server is not there is told by a warning too
def test_a_secret_of_the_config_is_told_nowhere(
    config: dict[str, Any], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(config) as served:
        told = answers(served)
        assert any("RemoteConnectionError" in one for one in told)  # it was tried
        assert not [one for one in told if CANARY in one]
        assert CANARY not in repr(vars(served.stack)) + repr(served.stack.config)
    printed = capfd.readouterr()
    assert CANARY not in caplog.text + printed.out + printed.err
