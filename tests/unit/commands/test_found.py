"""``workbench models list --found`` prints what is on this machine, and starts no provider."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes.found_models import empty_home, fill, write_folder
from workbench.found import find_models

if TYPE_CHECKING:
    from tests.unit.commands.conftest import Cli


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_home(tmp_path / "home", monkeypatch)


def test_each_model_is_a_row_with_its_facts(cli: Cli, home: Path) -> None:
    fill(home)
    table, _, command = cli("models", "list", "--found").out.partition("\n\n")
    header, *rows = table.splitlines()
    assert " ".join(header.split()) == "NAME PLACE ARCHITECTURE PARAMS PRECISION SIZE FITS IN MEMORY CAN BE SERVED"
    assert len(rows) == len(find_models()) == 9
    by_name = {row.split("  ")[0]: row for row in rows}
    assert by_name["llama3.2:1b"].split()[1:5] == ["Ollama", "llama", "4.67k", "Q4_K_M"]
    assert by_name["llama3.2:1b"].split()[-2:] == by_name["org/tiny"].split()[-2:] == ["yes", "yes"]
    mlx = by_name["~/.lmstudio/models/publisher/mlx"]
    assert mlx.endswith("no: its quantized weights are not supported: mlx")
    assert command == "Serve one by its name: workbench models register NAME\n"


def test_json_has_every_field(cli: Cli, home: Path) -> None:
    fill(home)
    rows = {row["name"]: row for row in json.loads(cli("models", "list", "--found", "--json").out)}
    assert (rows["org/tiny"]["servable"], rows["~/.lmstudio/models/publisher/mlx"]["servable"]) == (True, False)
    assert rows["llama3.2:1b"]["aliases"] == ["llama3.2:latest"]
    assert rows["org/tiny"]["memory_bytes"] == 4 * 2112


def test_the_folders_of_a_run_config_are_searched_too(cli: Cli, home: Path) -> None:
    write_folder(home / "mine/model")
    config = home / "run.yaml"
    config.write_text(f"providers: {{inference: []}}\nmodel_folders: [{json.dumps(str(home / 'mine'))}]\n")
    assert cli("models", "list", "--found", "--config", str(config)).out.splitlines()[1].startswith("~/mine/model ")
    config.write_text("providers: {inference: []}\nmodel_folders: [~/mine, /missing]\n")
    outcome = cli("models", "list", "--found", "--config", str(config))
    assert outcome.code == 2
    assert "model_folders[1] must be an existing folder; got '/missing'" in outcome.err


def test_a_machine_without_models_says_so(cli: Cli, home: Path) -> None:
    assert cli("models", "list", "--found").out.startswith("No models of Ollama")
    assert json.loads(cli("models", "list", "--found", "--json").out) == []


def test_found_and_served_are_two_lists(cli: Cli) -> None:
    assert cli("models", "list", "--found", "--served").code == 2
