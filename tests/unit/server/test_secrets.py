"""No answer of the server, right or wrong, holds a secret of its run config."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.fakes.http_server import serving
from workbench import providers

CANARY = "sk-canary-0123456789"
BODIES: list[Any] = [
    None,
    {},
    [],
    {"model": "one", "content": "x", "messages": [{"role": "user", "content": "x"}], "contents": ["x"]},
    {"model": "one", "content": "x"},
    {"model": "one", "content_batch": ["x"]},
    {"model": "one", "messages": [{"role": "user", "content": "x"}]},
    {"model": "none", "content": "x"},
    {"model": {"identifier": "two", "llama_model": "w", "provider_id": "a"}},
    {"model": {"identifier": "two", "llama_model": "w", "provider_id": "none"}},
    {"identifier": "none"},
]


def test_every_route_is_asked_well_and_badly_and_none_tells_a_secret(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(providers.PROVIDER_TYPES, "inline::secretive", "tests.fakes.providers:SecretiveProvider")
    monkeypatch.setenv("CANARY", CANARY)
    config = {"models": ["one"], "api_token": CANARY, "auth": "${env.CANARY}", "headers": {"x": CANARY}}
    instance = {"provider_id": "a", "provider_type": "inline::secretive", "config": config}
    told = []
    with caplog.at_level(logging.DEBUG), serving({"providers": {"inference": [instance]}}) as served:
        client = served.client()
        described = client.get("/openapi.json")
        asked = [("GET", path, None) for path in described.json()["paths"]]
        asked += [("POST", path, body) for path in described.json()["paths"] for body in BODIES]
        for method, path, body in asked:
            answer = client.request(method, path, json=body)
            told.append(f"{answer.status_code} {answer.headers} {answer.text}")
        told.append(described.text)
    assert len(told) > 100
    assert any(answer.startswith("200") for answer in told)
    assert not any(answer.startswith("500") for answer in told)
    written = capfd.readouterr()
    assert CANARY not in "\n".join([*told, written.out, written.err, caplog.text])
