"""A secret in a run config reaches its provider, and nothing else ever shows it."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes import resources
from workbench import Workbench, providers
from workbench.errors import ConfigError, InvalidRequestError
from workbench.stack import Stack, load_run_config

CANARY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def secretive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(providers.PROVIDER_TYPES, "inline::secretive", "tests.fakes.providers:SecretiveProvider")


def config_of(**config: Any) -> dict[str, Any]:
    instance = {"provider_id": "a", "provider_type": "inline::secretive", "config": {"models": ["one"], **config}}
    return {"providers": {"inference": [instance]}}


PLACES: dict[str, dict[str, Any]] = {
    "under its usual name": {"api_token": CANARY},
    "under another name": {"auth": CANARY},
    "in a mapping": {"headers": {"X-Any": CANARY, "Authorization": f"Bearer {CANARY}"}},
    "in a part": {"inner": {"pin": CANARY}},
    "in a list of parts": {"many": [{"pin": CANARY}, {"pin": CANARY}]},
    "where only its name says so": {"eos_token": CANARY},
}


def shown(config: Any) -> str:
    """All the ways to print or write a run config down."""
    first = config.providers["inference"][0]
    ways = [repr(config), str(config), repr(config.model_dump()), config.model_dump_json(), repr(first.config)]
    return "\n".join([*ways, yaml.safe_dump(config.model_dump(mode="json")), f"{config!s} {first.config}"])


@pytest.mark.parametrize("place", PLACES)
def test_a_literal_secret_is_hidden_wherever_it_stands_and_reaches_its_provider(place: str) -> None:
    with Workbench(config_of(**PLACES[place])) as bench:
        assert CANARY not in shown(bench.config) + repr(bench) + repr(bench.__dict__)
        assert CANARY not in repr(bench.list_models()) + repr(bench.card("one")) + repr(bench.models.registrations())
        provider: Any = bench._stack.providers["a"]
        if place != "where only its name says so":  # a provider that takes it for no secret shows it itself
            assert CANARY not in repr(provider.config) + repr(provider.__dict__)
        seen = provider.config.model_copy()
        found = [seen.api_token, seen.auth, *seen.headers.values(), seen.inner and seen.inner.pin]
        found += [part.pin for part in seen.many]
        values = [secret.get_secret_value() for secret in found if secret] + [seen.eos_token]
        assert any(CANARY in value for value in values)
        with Workbench(bench.config) as again:
            assert again._stack.providers["a"].config == provider.config, "what is hidden is not lost"


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_of_the_environment_stays_there(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    config = json.loads(json.dumps(PLACES[place]).replace(CANARY, "${env.CANARY}"))
    stack = Stack(config_of(**config))
    assert stack.config.providers["inference"][0].config == {"models": ["one"], **config}
    assert CANARY not in shown(stack.config)
    assert CANARY.encode() not in pickle.dumps(stack.config)


@pytest.mark.parametrize(
    "config",
    [
        {"api_token": CANARY, "port": "x"},
        {"api_token": CANARY, "port": 1},
        {"api_token": {CANARY: CANARY}},
        {"api_token": [CANARY]},
        {"api_tokn": CANARY},
        {"headers": {"x": [CANARY]}},
        {"headers": CANARY},
        {"inner": CANARY},
        {"many": [CANARY]},
        {"models": CANARY},
        {"eos_token": f"bad {CANARY}"},
        {"port": CANARY},
    ],
)
@pytest.mark.parametrize("from_environment", [False, True])
def test_no_error_tells_a_secret(
    config: dict[str, Any], from_environment: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if from_environment:
        monkeypatch.setenv("CANARY", CANARY)
        config = json.loads(json.dumps(config).replace(f": {json.dumps(CANARY)}", ': "${env.CANARY}"'))
        if CANARY in json.dumps(config):
            config = json.loads(json.dumps(config).replace(CANARY, "${env.CANARY}"))
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config_of(**config)))
    for source in (config_of(**config), path):
        with pytest.raises(ConfigError) as caught:
            Stack(source)
        assert CANARY not in "".join(traceback.format_exception(caught.value))
        assert CANARY not in repr(caught.value.__dict__)


@pytest.mark.parametrize("api", ["safety", "memory"])
def test_a_secret_of_a_safety_or_memory_provider_is_hidden_too(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resources.serve_fakes(monkeypatch)
    made = {"safety": resources.safety, "memory": resources.memory}[api]

    def config_of(**config: Any) -> dict[str, Any]:
        return resources.config_of(**{api: [made("a", "own", **config)]})

    with Workbench(config_of(api_token=CANARY)) as bench:
        (instance,) = bench.config.providers[api]
        ways = [repr(bench.config), bench.config.model_dump_json(), repr(instance.config), repr(bench.__dict__)]
        running: Any = bench._stack.providers_by_api[api]["a"]
        assert CANARY not in "\n".join([*ways, repr(running.config), repr(running.__dict__)])
        assert running.config.api_token.get_secret_value() == CANARY
    for wrong in ({"api_tokn": CANARY}, {"api_token": [CANARY]}, {"api_token": CANARY, "surprise": 1}):
        with pytest.raises(ConfigError) as caught:
            Stack(config_of(**wrong))
        assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_what_was_hidden_when_it_was_written_is_not_taken_for_the_secret() -> None:
    config = load_run_config(config_of(api_token=CANARY, auth=CANARY))
    with pytest.raises(ConfigError, match=r"config\.api_token was hidden .* \$\{env\.NAME\}"):
        Stack(json.loads(config.model_dump_json()))


def test_nothing_is_printed_logged_warned_or_kept(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, own_state: Path
) -> None:
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with Workbench(config_of(api_token=CANARY, auth=CANARY)) as bench:
            with pytest.raises(InvalidRequestError):
                bench.register_model("two", "weights")
            bench._loop.wait(bench.inspect.provider_health())
            bench._loop.wait(bench.inspect.list_providers())
    written = capfd.readouterr()
    assert CANARY not in written.out + written.err + caplog.text + "".join(str(one.message) for one in warned)
    kept = [path.read_bytes() for path in own_state.rglob("*") if path.is_file()] if own_state.exists() else []
    assert all(CANARY.encode() not in content for content in kept)


def test_a_program_that_dies_of_a_wrong_config_shows_no_secret(tmp_path: Path) -> None:
    """Its traceback goes to the terminal, where the lines of code are, but no values."""
    path = tmp_path / "run.yaml"
    instance = {"provider_id": "a", "provider_type": "inline::echo", "config": {"api_token": CANARY}}
    path.write_text(yaml.safe_dump({"providers": {"inference": [instance]}}))
    command = [sys.executable, "-c", "import sys, workbench; workbench.Workbench(sys.argv[1])", str(path)]
    died = subprocess.run(command, capture_output=True, text=True, check=False)
    assert died.returncode == 1
    assert "config.api_token must be left out" in died.stderr
    assert CANARY not in died.stdout + died.stderr
