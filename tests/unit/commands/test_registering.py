"""Models are registered, listed and unregistered from the command line, and kept between two commands."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.tiny_models import save_model

if TYPE_CHECKING:
    from tests.unit.commands.conftest import Cli


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run.yaml"
    own = {"models": ["own"], "embedding_models": []}
    instances = [{"provider_id": name, "provider_type": "inline::echo", "config": own} for name in ("a", "b")]
    path.write_text(yaml.safe_dump({"providers": {"inference": instances}}))
    monkeypatch.setenv("WORKBENCH_CONFIG", str(path))
    return path


def served(cli: Cli) -> list[str]:
    return [line.split()[0] for line in cli("models", "list", "--served").out.splitlines()[1:]]


def test_a_registered_model_is_listed_until_it_is_unregistered(cli: Cli) -> None:
    assert served(cli) == ["own", "b/own"]
    outcome = cli("models", "register", "mine", "weights", "--provider", "b", "--metadata", '{"note": "mine"}')
    assert (outcome.code, outcome.out) == (0, "mine: registered with b, from weights\n")
    assert cli("models", "register", "other").out == "other: registered with a, from other\n"
    assert served(cli) == ["own", "b/own", "mine", "other"]
    assert json.loads(cli("models", "list", "--served", "--json").out)[2] == {
        "name": "mine",
        "identifier": "mine",
        "llama_model": "weights",
        "metadata": {"note": "mine"},
        "provider_id": "b",
    }
    assert cli("models", "unregister", "b/mine", "other").out == "b/mine: unregistered\nother: unregistered\n"
    assert served(cli) == ["own", "b/own"]


def test_a_model_of_the_run_config_is_said_to_be_served_still(cli: Cli) -> None:
    assert (
        cli("models", "unregister", "own").out
        == "own: still served, because its provider's config or server lists it\n"
    )
    assert served(cli) == ["own", "b/own"]


@pytest.mark.parametrize(
    "arguments,words",
    [
        (("register", "own", "other-weights"), "identifier"),
        (("register", "mine", "--provider", "c"), "a, b"),
        (("register", ""), "identifier"),
        (("register", "mine", "--metadata", "[1]"), "JSON object"),
        (("register", "mine", "--metadata", "{"), "not valid JSON"),
        (("register",), "NAME"),
        (("unregister", "nobody"), "b/own, own"),
        (("unregister",), "NAME"),
        (("list", "--config", "run.yaml"), "--served"),
    ],
)
def test_bad_usage_is_told_in_words_and_changes_nothing(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    outcome = cli("models", *arguments)
    assert outcome.code == 2
    assert words in outcome.err
    assert served(cli) == ["own", "b/own"]


def test_what_is_refused_after_a_restart_is_one_line_of_warning_and_can_be_forgotten(cli: Cli, config: Path) -> None:
    cli("models", "register", "mine", "weights")
    own = yaml.safe_load(config.read_text())
    own["providers"]["inference"][0]["config"]["models"] = ["own", "mine"]
    config.write_text(yaml.safe_dump(own))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        outcome = cli("models", "list", "--served")
    assert outcome.code == 0
    (line,) = outcome.err.splitlines()
    assert line.startswith("workbench: warning: mine, registered with provider 'a', could not be restored: ")
    assert "`workbench models unregister mine`" in line


def test_a_model_is_registered_in_a_precision(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_model(tmp_path / "tiny", "gpt2")
    monkeypatch.delenv("WORKBENCH_CONFIG")
    assert (
        cli("models", "register", "mine", str(folder)).out
        == f"mine: registered with local, from {folder}, in float32\n"
    )
    outcome = cli("models", "register", "small", str(folder), "--precision", "int4")
    assert outcome.out == f"small: registered with local, from {folder}, in int4\n"
    served = json.loads(cli("models", "list", "--served", "--json").out)
    assert [(one["name"], one["metadata"]) for one in served[-2:]] == [("mine", {}), ("small", {"precision": "int4"})]
    refused = cli("models", "register", "mine", str(folder), "--precision", "int3")
    assert (refused.code, "int3" in refused.err) == (2, True)
