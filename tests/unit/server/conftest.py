"""Servers over models without weights: whatever stands above the weights is real, the socket too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.http_server import Served, serving
from tests.fakes.models import FakeDecoder, scripted_speech
from tests.fakes.serving import FakeModels

ECHO: dict[str, Any] = {
    "providers": {"inference": [{"provider_id": "echo", "provider_type": "inline::echo", "config": {}}]}
}


@pytest.fixture
def served(fake_models: FakeModels) -> Iterator[Served]:
    """One that serves ``random``, which says anything, and ``scripted``, which says "Hello 🌍!" after a NUL."""
    fake_models.add("random")
    fake_models.add("scripted", FakeDecoder(scripted_speech("Hello 🌍!")))
    with serving(fake_models.config) as served:
        yield served


@pytest.fixture
def client(served: Served) -> httpx.Client:
    return served.client()


@pytest.fixture(scope="module")
def echoed() -> Iterator[Served]:
    """One that serves ``echo``, which says what it was asked and calls tools, and ``echo-embedding``."""
    with serving(ECHO) as served:
        yield served
