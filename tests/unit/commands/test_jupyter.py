from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes.devices import LAPTOP, stand_on
from workbench.commands import jupyter
from workbench.errors import InvalidRequestError

if TYPE_CHECKING:
    from tests.unit.commands.conftest import Cli

    Started = list[tuple[list[str], dict[str, str]]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """What the process would have become."""
    calls: Started = []

    def replace(command: list[str], environment: dict[str, str]) -> int:
        calls.append((command, environment))
        return 0

    monkeypatch.setattr(jupyter, "replace_process", replace)
    return calls


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_playground.ipynb").touch()
    monkeypatch.setattr(jupyter, "_CLONE", tmp_path)
    return tmp_path


def cli_arguments(option: str, value: Path) -> argparse.Namespace:
    return argparse.Namespace(device=None, copy=None, no_browser=True, port=None, lab_options=[option, str(value)])


def test_play_opens_the_playground_of_the_clone(cli: Cli, started: Started, clone: Path) -> None:
    assert cli("play").code == 0
    ((command, _),) = started
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={clone}" in command
    assert "--LabApp.default_url=/lab/tree/notebooks/00_playground.ipynb" in command


@pytest.mark.usefixtures("clone")
def test_a_device_is_that_of_the_kernels(cli: Cli, started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_on(monkeypatch, LAPTOP)
    for command in ("play", "lab"):
        assert cli(command, "--device", "cpu").code == 0
        assert started.pop()[1]["WORKBENCH_DEVICE"] == "cpu"
        outcome = cli(command, "--device", "cuda")
        assert (outcome.code, started) == (2, [])
        assert "--device must be auto or cpu on this machine" in outcome.err
    monkeypatch.setenv("WORKBENCH_CONFIG", "run.yaml")
    assert "--device cannot change the run config run.yaml" in cli("play", "--device", "cpu").err
    assert started == []


def test_lab_opens_the_folder_of_the_notebooks(cli: Cli, started: Started, clone: Path) -> None:
    cli("lab")
    ((command, _),) = started
    assert "--LabApp.default_url=/lab/tree/notebooks" in command


@pytest.mark.usefixtures("clone")
def test_options_are_handed_on_and_what_stands_after_two_dashes_too(cli: Cli, started: Started) -> None:
    cli("play", "--no-browser", "--port", "8899", "--", "--ServerApp.token=x", "-y")
    ((command, _),) = started
    assert {"--no-browser", "--port=8899"} <= set(command)
    assert command[-2:] == ["--ServerApp.token=x", "-y"]


@pytest.mark.usefixtures("clone")
def test_the_news_prompt_is_off_and_the_users_own_configuration_comes_first(
    cli: Cli, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/mine")
    cli("play")
    ((_, environment),) = started
    mine, ours = environment["JUPYTER_CONFIG_PATH"].split(os.pathsep)
    assert mine == "/mine"
    overrides = json.loads(Path(ours, "labconfig", "default_setting_overrides.json").read_text(encoding="utf-8"))
    assert overrides["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


@pytest.mark.usefixtures("clone")
def test_a_saved_notebook_keeps_what_its_widgets_show(cli: Cli, started: Started) -> None:
    cli("play")
    ((_, environment),) = started
    ours = environment["JUPYTER_CONFIG_PATH"].split(os.pathsep)[-1]
    overrides = json.loads(Path(ours, "labconfig", "default_setting_overrides.json").read_text(encoding="utf-8"))
    (schema,) = Path(sys.prefix).glob("share/jupyter/labextensions/@jupyter-widgets/*/schemas/**/plugin.json")
    assert overrides["@jupyter-widgets/jupyterlab-manager:plugin"] == {"saveState": True}
    assert "saveState" in json.loads(schema.read_text(encoding="utf-8"))["properties"]


@pytest.mark.parametrize("option", [["--ServerApp.root_dir={}"], ["--ServerApp.root_dir", "{}"], ["--notebook-dir={}"]])
def test_the_users_own_root_folder_is_served_and_gets_the_notebooks(
    cli: Cli, started: Started, clone: Path, tmp_path_factory: pytest.TempPathFactory, option: list[str]
) -> None:
    root = tmp_path_factory.mktemp("root")
    given = [part.format(root) for part in option]
    assert cli("play", "--", *given).code == 0
    ((command, _),) = started
    assert command[-len(given) :] == given
    assert not any(part.startswith("--ServerApp.root_dir") for part in command[: -len(given)])
    assert "--LabApp.default_url=/lab/tree/notebooks/00_playground.ipynb" in command
    assert (root / "notebooks" / "00_playground.ipynb").is_file()


def test_a_root_folder_around_the_clone_serves_the_clones_own_notebooks(
    cli: Cli, started: Started, clone: Path
) -> None:
    assert cli("play", "--", f"--ServerApp.root_dir={clone.parent}").err == ""
    ((command, _),) = started
    assert f"--LabApp.default_url=/lab/tree/{clone.name}/notebooks/00_playground.ipynb" in command


def test_an_exam_is_not_opened_under_a_root_folder_that_does_not_hold_it(
    cli: Cli, started: Started, clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("root")
    arguments = cli_arguments("--ServerApp.root_dir", root)
    with pytest.raises(InvalidRequestError, match="a folder that contains"):
        jupyter.start_lab(arguments, notebook="02_sampling.ipynb", root=clone / "exam")
    assert not started
    assert not list(root.iterdir())


@pytest.mark.parametrize("command", ["play", "lab"])
def test_in_a_clone_one_can_work_on_a_copy(
    cli: Cli, started: Started, clone: Path, tmp_path_factory: pytest.TempPathFactory, command: str
) -> None:
    mine = tmp_path_factory.mktemp("mine")
    checkpoints = clone / "notebooks" / ".ipynb_checkpoints"
    checkpoints.mkdir()
    assert str(mine / "notebooks") in cli(command, "--copy", str(mine)).err
    assert [path.name for path in (mine / "notebooks").iterdir()] == ["00_playground.ipynb"]
    ((became, _),) = started
    assert f"--ServerApp.root_dir={mine}" in became
    assert cli(command, "--copy", str(mine)).err == ""  # what is there already stays


@pytest.mark.usefixtures("clone")
def test_open_tabs_are_kept_in_our_own_state(cli: Cli, started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STATE", "/state")
    cli("play")
    ((command, _),) = started
    assert "--LabApp.workspaces_dir=/state/jupyterlab-workspaces" in command


def test_outside_a_clone_the_shipped_notebooks_are_copied_once(
    cli: Cli, started: Started, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jupyter, "_CLONE", tmp_path / "site-packages")
    monkeypatch.setattr(jupyter, "_shipped_notebooks", lambda: clone / "notebooks")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert str(elsewhere / "notebooks") in cli("play").err
    copied = elsewhere / "notebooks" / "00_playground.ipynb"
    copied.write_text("changed by the user", encoding="utf-8")
    assert cli("play").err == ""
    assert copied.read_text(encoding="utf-8") == "changed by the user"
    assert all(f"--ServerApp.root_dir={elsewhere}" in command for command, _ in started)


def test_no_notebooks_anywhere_is_a_clear_failure(
    cli: Cli, started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jupyter, "_CLONE", tmp_path)
    monkeypatch.setattr(jupyter, "_DISTRIBUTION", "no-such-distribution")
    monkeypatch.chdir(tmp_path)
    outcome = cli("play")
    assert outcome.code == 1
    assert "clone of the repository" in outcome.err
    assert not started


def test_without_jupyterlab_it_says_what_to_install(
    cli: Cli, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = cli("play")
    assert outcome.code == 1
    assert "inference-workbench[lab]" in outcome.err
    assert not started


def test_where_no_process_can_be_replaced_its_exit_code_is_waited_for() -> None:
    """On Windows. Ctrl+C is JupyterLab's meanwhile, and this process's again afterwards."""
    before = signal.getsignal(signal.SIGINT)
    program = "import os, sys; sys.exit(7 if os.environ == {**os.environ, 'ONLY': 'this'} else 1)"
    assert jupyter._run([sys.executable, "-c", program], {**os.environ, "ONLY": "this"}) == 7
    assert signal.getsignal(signal.SIGINT) is before
