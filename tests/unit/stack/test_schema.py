"""The exported schema takes what the loader takes, and refuses what it refuses."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from jsonschema.protocols import Validator

from workbench import providers
from workbench.errors import ConfigError
from workbench.stack import default_run_config, load_run_config, run_config_schema


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json.dumps(run_config_schema()))
    jsonschema.Draft202012Validator.check_schema(read)
    return read


@pytest.fixture(scope="module")
def schema(described: dict[str, Any]) -> Validator:
    return jsonschema.Draft202012Validator(described)


def config_of(provider_type: str = "inline::echo", provider_id: str = "a", **config: Any) -> dict[str, Any]:
    instance = {"provider_id": provider_id, "provider_type": provider_type, "config": config}
    return {"providers": {"inference": [instance]}}


GOOD = [
    {"providers": {}},
    {"providers": {"inference": []}, "version": "2", "apis": ["models"], "image_name": "x"},
    config_of(models=["x"], delay_s=0.5, context_length=5),
    config_of(models=["${env.MODEL}"], delay_s="${env.DELAY}"),
    config_of("inline::transformers", models=["x"], quantization={"type": "fp8"}, device="cpu"),
    config_of("inline::transformers", quantization=None, max_active="${env.ACTIVE}"),
]
BAD = [
    {},
    {"providers": []},
    {"providers": {"safety": []}},
    {"providers": {}, "version": "1"},
    {"providers": {}, "apis": ["safety"]},
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
    for name, value in {"MODEL": "x", "DELAY": "0.25", "ACTIVE": "3"}.items():
        monkeypatch.setenv(name, value)
    load_run_config(config)
    assert [error.message for error in schema.iter_errors(config)] == []


@pytest.mark.parametrize("config", BAD)
def test_what_the_loader_refuses_is_not(schema: Validator, config: Any) -> None:
    with pytest.raises(ConfigError):
        load_run_config(config)
    assert not schema.is_valid(config)


def test_the_default_is_valid(schema: Validator) -> None:
    schema.validate(default_run_config().model_dump(mode="json", exclude_unset=True))


def test_every_provider_type_is_in_it_and_its_keys_say_what_they_are(described: dict[str, Any]) -> None:
    definitions = described["$defs"]
    types = {
        made["properties"]["provider_type"]["const"]
        for made in definitions.values()
        if "provider_type" in made.get("properties", {})
    }
    assert types == set(providers.provider_types())
    assert "decode together" in definitions["TransformersConfig"]["properties"]["max_active"]["description"]


def test_a_type_that_cannot_be_imported_is_described_with_any_config(monkeypatch: pytest.MonkeyPatch) -> None:
    real = providers.provider_class

    def failing(provider_type: str, provider_id: str = "") -> Any:
        if provider_type == "inline::echo":
            raise ConfigError("its package is not installed")
        return real(provider_type, provider_id)

    monkeypatch.setattr(providers, "provider_class", failing)
    validator = jsonschema.Draft202012Validator(run_config_schema())
    assert validator.is_valid(config_of(anything="goes"))
    assert not validator.is_valid(config_of("inline::transformers", anything="goes"))
