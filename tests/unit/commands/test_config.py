"""``workbench config`` shows what is used, checks it as a whole, and shows no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from workbench import providers
from workbench.stack import default_run_config, load_run_config, run_config_schema

if TYPE_CHECKING:
    from tests.unit.commands.conftest import Cli

CANARY = "sk-canary-0123456789"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(providers.PROVIDER_TYPES, "inline::secretive", "tests.fakes.providers:SecretiveProvider")
    return tmp_path / "run.yaml"


def write(path: Path, **config: Any) -> None:
    instance = {"provider_id": "a", "provider_type": "inline::secretive", "config": config}
    path.write_text(yaml.safe_dump({"image_name": "mine", "providers": {"inference": [instance]}}))


def test_the_default_is_shown_in_a_form_that_can_be_loaded_again(cli: Cli, tmp_path: Path) -> None:
    shown = tmp_path / "shown.yaml"
    shown.write_text(cli("config", "show").out)
    assert load_run_config(shown) == default_run_config()


def test_a_config_is_shown_with_its_secrets_hidden_and_its_references_as_written(
    cli: Cli, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    write(path, api_token=CANARY, auth="${env.CANARY}", headers={"x": CANARY})
    outcome = cli("config", "show", str(path))
    (instance,) = yaml.safe_load(outcome.out)["providers"]["inference"]
    assert instance["config"] == {"api_token": "**********", "auth": "${env.CANARY}", "headers": {"x": "**********"}}
    assert CANARY not in outcome.out + outcome.err


def test_a_right_config_is_in_order_and_a_wrong_one_is_bad_usage_with_every_key(cli: Cli, path: Path) -> None:
    write(path, api_token=CANARY)
    outcome = cli("config", "check", str(path))
    assert (outcome.code, outcome.out) == (0, "a: inline::secretive, ok\n")
    write(path, api_token=[CANARY], port=CANARY, auht=CANARY)
    for arguments in ((), ("--debug",)):
        outcome = cli("config", "check", str(path), *arguments)
        assert outcome.code == 2
        assert all(f"config.{key} must be" in outcome.err for key in ("api_token", "port", "auht"))
        assert CANARY not in outcome.out + outcome.err


def test_the_schema_is_the_loader_s(cli: Cli) -> None:
    assert json.loads(cli("config", "schema").out) == json.loads(json.dumps(run_config_schema()))
