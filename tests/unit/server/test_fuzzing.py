"""Requests made from the server's own description of itself, valid and not: 2,000 and a few."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.fakes.http_server import HEADERS, PATIENCE_S, Served, serving
from tests.fakes.resources import config_of, memory, safety, serve_fakes
from tests.fakes.serving import FakeModels
from tests.unit.server.conftest import ECHO
from workbench.server import Limits
from workbench.stack.apis import SERVED_APIS

EXAMPLES = 40
"""For each of 33 operations, and for valid and invalid requests each."""
OPERATIONS = 33

MODELS = st.sampled_from([None, "echo", "echo-embedding", "random"])
"""None leaves the request as it was made, with a model that nobody serves."""
SERVED = {"shield_type": "own", "bank_id": "notes"}
"""Names that go into requests as the model does."""


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        models = FakeModels(monkeypatch)
        models.add("random")
        serve_fakes(monkeypatch)
        instances = ECHO["providers"]["inference"] + models.config["providers"]["inference"]
        config = config_of(instances, [safety("guard", "own")], [memory("memory", "notes")])
        config["apis"] = list(SERVED_APIS)
        with serving(config, limits=Limits(max_tokens=8)) as served:
            yield served


@pytest.fixture(scope="module")
def operations(fuzzed: Served) -> dict[str, Any]:
    schema = schemathesis.openapi.from_dict(fuzzed.client().get("/openapi.json").json())
    results: list[Any] = list(schema.get_all_operations())
    found = [result.ok() for result in results]
    return {f"{operation.method} {operation.path}": operation for operation in found}


def test_enough_requests_are_made(operations: dict[str, Any]) -> None:
    assert len(operations) == OPERATIONS
    assert OPERATIONS * 2 * EXAMPLES >= 2000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("index", range(OPERATIONS))
def test_no_request_breaks_the_server(
    fuzzed: Served, operations: dict[str, Any], index: int, mode: GenerationMode
) -> None:
    operation = list(operations.values())[index]

    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), model=MODELS)
    def every(case: Case[Any], model: str | None) -> None:
        if model is not None and isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = model
        if model is not None and isinstance(case.body, dict):
            case.body |= {field: name for field, name in SERVED.items() if field in case.body}
        case.headers.update(HEADERS)
        response = case.call(base_url=fuzzed.url, timeout=PATIENCE_S)
        assert response.status_code != 500, response.text
        case.validate_response(response, checks=[status_code_conformance, response_schema_conformance])

    every()
    assert fuzzed.client().get("/health").status_code == 200
