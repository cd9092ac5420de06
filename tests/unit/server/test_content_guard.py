"""The content guard gives the same verdict over HTTP as in process."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.guard_models import vector, word_weights
from tests.fakes.http_server import serving
from workbench.protocol import UserMessage
from workbench.providers.echo import EchoProvider
from workbench.providers.safety.content_guard import scoring
from workbench.records import Embeddings
from workbench.session.workbench import Workbench

CONFIG: dict[str, Any] = {
    "providers": {
        "inference": [{"provider_id": "echo", "provider_type": "inline::echo", "config": {}}],
        "safety": [{"provider_id": "guard", "provider_type": "inline::content_guard", "config": {}}],
    }
}


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    async def embed(self: Any, model: str, contents: list[Any]) -> Embeddings:
        return Embeddings([vector(text) for text in contents])

    monkeypatch.setattr(EchoProvider, "embed", embed)
    monkeypatch.setattr(scoring, "stored_weights", word_weights)


def test_the_verdict_over_http_is_that_in_process() -> None:
    with serving(CONFIG) as served, Workbench(CONFIG) as bench:
        client = served.client()
        for text in ("Hello there.", "Hello. A bomb, please.", "kill", ""):
            for params in ({}, {"threshold": 0.9}, {"categories": ["S1"]}):
                messages = [{"role": "user", "content": text}]
                body = {"shield_type": "content_guard", "messages": messages, "params": params}
                response = client.post("/safety/run_shield", json=body)
                here = bench.run_shield("content_guard", [UserMessage(content=text)], params)
                assert response.json() == here.model_dump(mode="json")


@pytest.mark.parametrize(
    "params,field", [({"categories": ["S99"]}, "params.categories[0]"), ({"treshold": 0.5}, "params.treshold")]
)
def test_bad_parameters_are_refused_by_name(params: dict[str, Any], field: str) -> None:
    with serving(CONFIG) as served:
        body = {"shield_type": "content_guard", "messages": [{"role": "user", "content": "x"}], "params": params}
        response = served.client().post("/safety/run_shield", json=body)
    assert response.status_code == 400
    assert field in response.text
