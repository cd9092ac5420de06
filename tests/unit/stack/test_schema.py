"""The exported schema takes what the loader takes, and refuses what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from jsonschema.protocols import Validator

from tests.fakes import resources
from workbench import providers
from workbench.errors import ConfigError
from workbench.stack import default_run_config, load_run_config, run_config_schema
from workbench.stack.apis import PROVIDER_APIS


@pytest.fixture(scope="module")
def described() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        resources.serve_fakes(patch)
        read: dict[str, Any] = json.loads(json.dumps(run_config_schema()))
        jsonschema.Draft202012Validator.check_schema(read)
        yield read


@pytest.fixture(scope="module")
def schema(described: dict[str, Any]) -> Validator:
    return jsonschema.Draft202012Validator(described)


def config_of(provider_type: str = "inline::echo", provider_id: str = "a", **config: Any) -> dict[str, Any]:
    instance = {"provider_id": provider_id, "provider_type": provider_type, "config": config}
    return {"providers": {"inference": [instance]}}


GOOD = [
    {"providers": {}},
    {"providers": {"inference": []}, "version": "2", "apis": ["models"], "image_name": "x"},
    {"providers": {}, "model_folders": [".", "~"]},
    config_of(models=["x"], delay_s=0.5, context_length=5),
    config_of(models=["${env.MODEL}"], delay_s="${env.DELAY}"),
    config_of("inline::transformers", models=["x"], quantization={"type": "fp8"}, device="cpu"),
    config_of("inline::transformers", quantization=None, max_active="${env.ACTIVE}"),
    {"providers": {"safety": [], "memory": []}, "apis": ["safety", "shields", "memory", "memory_banks"]},
    resources.config_of(safety=[resources.safety("guard", "a", api_token="x")], memory=[resources.memory("m", "b")]),
]
BAD = [
    {},
    {"providers": []},
    {"providers": {"agents": []}},
    {"providers": {}, "version": "1"},
    {"providers": {}, "apis": ["agents"]},
    {"providers": {}, "model_folders": "."},
    {"providers": {"safety": [resources.memory()]}},
    {"providers": {"memory": [resources.echo()]}},
    {"providers": {"inference": [resources.safety()]}},
    resources.config_of(safety=[resources.safety(shield=[])]),
    resources.config_of(safety=[resources.safety("guard", "")]),
    resources.config_of(memory=[resources.memory(banks=7)]),
    {"providers": {}, "routing_table": {}},
    config_of("inline::none"),
    config_of(model=["x"]),
    config_of(models="x"),
    config_of(delay_s=-1),
    config_of(context_length="many"),
    config_of("inline::transformers", quantization={"type": "int3"}),
    config_of("inline::transformers", quantization={"type": "int8", "bits": 8}),
    config_of("inline::transformers", max_active=0),
]


@pytest.mark.parametrize("config", GOOD)
def test_what_the_loader_takes_is_valid(schema: Validator, config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resources.serve_fakes(monkeypatch)
    for name, value in {"MODEL": "x", "DELAY": "0.25", "ACTIVE": "3"}.items():
        monkeypatch.setenv(name, value)
    load_run_config(config)
    assert [error.message for error in schema.iter_errors(config)] == []


@pytest.mark.parametrize("config", BAD)
def test_what_the_loader_refuses_is_not(schema: Validator, config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resources.serve_fakes(monkeypatch)
    with pytest.raises(ConfigError):
        load_run_config(config)
    assert not schema.is_valid(config)


def test_the_default_is_valid(schema: Validator) -> None:
    schema.validate(default_run_config().model_dump(mode="json", exclude_unset=True))


@pytest.mark.parametrize("api", PROVIDER_APIS)
def test_every_provider_type_is_in_it_under_its_own_api(described: dict[str, Any], api: str) -> None:
    definitions = described["$defs"]
    items = definitions["Providers"]["properties"][api]["items"]
    instances = [one["$ref"].rpartition("/")[2] for one in items.get("oneOf", [items])]
    types = [definitions[name]["properties"]["provider_type"]["const"] for name in instances]
    assert sorted(types) == providers.provider_types(api)


def test_a_key_of_a_provider_says_what_it_is(described: dict[str, Any]) -> None:
    settings = described["$defs"]["TransformersConfig"]["properties"]
    assert "decode together" in settings["max_active"]["description"]


def test_a_type_that_cannot_be_imported_is_described_with_any_config(monkeypatch: pytest.MonkeyPatch) -> None:
    resources.serve_fakes(monkeypatch)
    real = providers.class_of

    def failing(api: str, provider_type: str, provider_id: str = "") -> Any:
        if provider_type == "inline::echo":
            raise ConfigError("its package is not installed")
        return real(api, provider_type, provider_id)

    monkeypatch.setattr(providers, "class_of", failing)
    validator = jsonschema.Draft202012Validator(run_config_schema())
    assert validator.is_valid(config_of(anything="goes"))
    assert not validator.is_valid(config_of("inline::transformers", anything="goes"))
