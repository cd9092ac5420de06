"""Providers of every dialect in front of a scripted server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes.scripted_server import Reply, ScriptedServer, scripted_server
from workbench import providers
from workbench.protocol import Provider
from workbench.providers.openai import OpenAIProvider
from workbench.providers.openai import client as client_module

TOKEN = "canary-7f3a91"

MakeProvider = Callable[..., OpenAIProvider]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        server.script("/v1/models", Reply({"object": "list", "data": [{"id": "small", "object": "model"}]}))
        yield server


@pytest.fixture
def slept_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between attempts; nobody really waits."""
    slept: list[float] = []

    async def note(delay_s: float) -> None:
        slept.append(delay_s)

    monkeypatch.setattr(client_module, "sleep", note)
    return slept


@pytest.fixture
def make(server: ScriptedServer, slept_s: list[float]) -> Iterator[MakeProvider]:
    """Makes a provider that serves the model ``small``, which is closed after the test."""
    made: list[OpenAIProvider] = []

    def make(dialect: str = "openai", **config: Any) -> OpenAIProvider:
        config = {"url": server.url, "api_token": TOKEN, "models": ["small"]} | config
        provider = providers.create(Provider(provider_id="there", provider_type=f"remote::{dialect}", config=config))
        assert isinstance(provider, OpenAIProvider)
        made.append(provider)
        return provider

    yield make
    for provider in made:
        provider.close()
