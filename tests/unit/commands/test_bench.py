from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.fakes.contestants import FakeContestant, FakeEmbedder, FakeReader, FakeReference
from workbench.benchmarks import measuring
from workbench.benchmarks.gguf_file import gguf_of
from workbench.benchmarks.interleaving import Absence, Log
from workbench.benchmarks.lineup import RIVAL_MODULES, Lineup, Settings
from workbench.benchmarks.measuring import TASK_NAMES
from workbench.benchmarks.tasks import Sizes
from workbench.commands.bench import RIVALS, SPEED_TASKS
from workbench.errors import InvalidRequestError

if TYPE_CHECKING:
    from tests.unit.commands.conftest import Cli


class FakeLineup(Lineup):
    @property
    def reference(self) -> FakeReference:
        return FakeReference(torch.tensor([0.5, 0.3, 0.1, 0.1]).log())


class Opened:
    """Stands where contestants are loaded; remembers the settings."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.contestants: list[Any] = [
            FakeReader("workbench int4", step_s=0.01, first_s=0.1),
            FakeReader("workbench float32", step_s=0.03, first_s=0.3),
            FakeContestant("transformers float32", step_s=0.04, is_rival=True),
            FakeContestant("transformers bf16", step_s=0.05, is_rival=True),
            FakeContestant("llama.cpp", step_s=0.02, is_rival=True, memory_bytes=None),
        ]
        embedders: list[Any] = [FakeEmbedder("workbench batched"), FakeEmbedder("plain loop", is_rival=True)]
        self.lineup = FakeLineup(
            Sizes(tokens=8),
            encode=lambda text: list(text.encode()),
            questions=[[1, 2, 3]],
            contestants=self.contestants,
            embedders=embedders,
            absences=[Absence("workbench bf16", "all", "it needs 9 GB")],
        )

    @contextmanager
    def __call__(self, settings: Settings, told: Log) -> Iterator[Lineup]:
        self.settings = settings
        told("loading")
        yield self.lineup


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    fake = Opened()
    monkeypatch.setattr(measuring, "open_lineup", fake)
    return fake


def test_each_of_our_figures_comes_with_its_ratio_to_the_rivals_of_its_precision(cli: Cli, opened: Opened) -> None:
    report = json.loads(cli("bench", "--tasks", "decode", "--rounds", "2", "--json").out)
    results = {result["contestant"]: result for result in report["results"]}
    assert results["workbench int4"]["median"] == pytest.approx(100)
    assert len(results["workbench int4"]["values"]) == 2
    assert results["workbench int4"]["times_better"] == pytest.approx({"transformers bf16": 5, "llama.cpp": 2})
    assert results["workbench float32"]["times_better"] == pytest.approx(
        {"transformers float32": 4 / 3, "llama.cpp": 2 / 3}
    )
    assert results["llama.cpp"]["times_better"] == {}


def test_less_time_is_better(cli: Cli, opened: Opened) -> None:
    report = json.loads(cli("bench", "--tasks", "first-token", "--json").out)
    cold = {result["contestant"]: result for result in report["results"] if result["metric"] == "first token, cold"}
    assert cold["workbench int4"]["times_better"]["transformers bf16"] == pytest.approx(10)


def test_the_report_for_people_names_figures_ratios_machine_and_who_was_left_out(cli: Cli, opened: Opened) -> None:
    outcome = cli("bench", "--tasks", "decode,embeddings,exactness", "--exactness-tokens", "6")
    assert outcome.code == 0
    (line,) = [line for line in outcome.out.splitlines() if "5.00x" in line]
    assert line.split() == [
        *("workbench", "int4", "100", "(100", "..", "100)"),
        *("5.00x", "transformers", "bf16,", "2.00x", "llama.cpp"),
    ]
    assert f"torch {torch.__version__}" in outcome.out
    assert "threads" in outcome.out or "cores" in outcome.out
    assert "left out of all: workbench bf16: it needs 9 GB" in outcome.out
    assert "left out of exactness: llama.cpp" in outcome.out
    assert "exactness" in outcome.err


def test_the_report_for_programs_has_everything(cli: Cli, opened: Opened) -> None:
    report = json.loads(cli("bench", "--tasks", ",".join(TASK_NAMES), "--exactness-tokens", "6", "--json").out)
    assert {result["task"] for result in report["results"]} == set(SPEED_TASKS)
    assert [one["tokens"] for one in report["exactness"]] == [6, 6]
    assert report["memory"]["workbench int4"] == {"weights_bytes": 1_000_000, "resident_bytes": 2_000_000}
    assert report["memory"]["llama.cpp"]["weights_bytes"] is None
    assert report["machine"]["threads"] >= 1
    assert {"python", "torch", "transformers"} <= set(report["machine"]["versions"])


def test_progress_goes_to_standard_error_so_that_json_stays_json(cli: Cli, opened: Opened) -> None:
    outcome = cli("bench", "--tasks", "decode", "--rounds", "1", "--json")
    json.loads(outcome.out)
    assert outcome.err.splitlines() == ["loading", "decode, warming up", "decode, round 1 of 1"]


def test_without_options_every_speed_is_measured_against_transformers(cli: Cli, opened: Opened) -> None:
    assert cli("bench").code == 0
    assert opened.settings is not None
    assert opened.settings.tasks == set(SPEED_TASKS)
    assert opened.settings.precisions == ("int4", "bf16", "float32")
    assert opened.settings.rivals == {"transformers"}


@pytest.mark.parametrize(
    "option,value",
    [
        ("--precision", "int4,int5"),
        ("--precision", ","),
        ("--against", "vllm"),
        ("--tasks", "speed"),
        ("--rounds", "0"),
        ("--tokens", "1"),
        ("--exactness-tokens", "-5"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_loaded(cli: Cli, opened: Opened, option: str, value: str) -> None:
    outcome = cli("bench", option, value)
    assert outcome.code == 2
    assert outcome.err.startswith(f"workbench: {option} must be")
    assert opened.settings is None


def test_a_rival_that_is_not_installed_is_said_with_the_way_to_get_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RIVAL_MODULES, "llama.cpp", "no_such_module")
    outcome = cli("bench", "--against", "llama.cpp")
    assert outcome.code == 2
    assert "pip install 'inference-workbench[bench]'" in outcome.err


def test_names_in_the_command_line_are_those_of_the_package() -> None:
    assert set(RIVALS) == set(RIVAL_MODULES)
    assert {*SPEED_TASKS, "exactness"} == set(TASK_NAMES)


def test_a_model_without_a_gguf_file_cannot_be_given_to_rivals_that_read_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="--gguf FILE"), gguf_of(str(tmp_path), None):
        pass
    with pytest.raises(InvalidRequestError, match="--gguf must be"), gguf_of("any", tmp_path / "absent.gguf"):
        pass
