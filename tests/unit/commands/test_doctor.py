from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.fakes.devices import NVIDIA, stand_on
from workbench import catalog
from workbench.catalog import ModelStatus
from workbench.commands import checks, doctor
from workbench.commands.checks import Finding
from workbench.errors import ChecksumError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.commands.conftest import Cli

FINE = Finding("a", "ok", "fine")
SLOW = Finding("b", "warn", "slow", "buy a faster one")
BROKEN = Finding("c", "fail", "broken", "mend it")


def diagnose(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter(findings),))


@pytest.mark.parametrize("findings,code", [([FINE], 0), ([FINE, SLOW], 0), ([SLOW, BROKEN], 1)])
def test_only_a_failure_is_exit_code_1(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, findings: list[Finding], code: int
) -> None:
    diagnose(monkeypatch, *findings)
    assert cli("doctor").code == code
    assert cli("doctor", "--json").code == code


def test_each_finding_is_a_line_and_what_to_do_stands_below_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnose(monkeypatch, FINE, BROKEN)
    assert cli("doctor").out.splitlines() == ["ok    a: fine", "fail  c: broken", "      -> mend it"]


def test_json_says_the_same(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnose(monkeypatch, BROKEN)
    assert json.loads(cli("doctor", "--json").out) == {
        "ok": False,
        "findings": [{"name": "c", "status": "fail", "message": "broken", "advice": "mend it"}],
    }


def test_a_check_that_breaks_is_a_finding_and_the_others_still_count() -> None:
    def breaks() -> Finding:
        raise RuntimeError("no such file")

    broken, fine = doctor.findings([breaks, lambda: FINE])
    assert (broken.name, broken.status) == ("breaks", "fail")
    assert "no such file" in broken.message
    assert fine == FINE


@pytest.mark.parametrize(
    "check",
    [checks.python, checks.torch, checks.transformers, checks.cpu, checks.device, checks.notebook, checks.widgets],
)
def test_what_the_pinned_versions_bring_is_found_well(check: doctor.Check) -> None:
    finding = check()
    assert isinstance(finding, Finding)
    assert finding.status == "ok", finding


def test_whatever_is_not_ok_says_what_to_do() -> None:
    assert all(finding.advice for finding in doctor.findings(doctor.CHECKS) if finding.status != "ok")


@pytest.mark.parametrize("free,status", [(400 * 10**6, "fail"), (1500 * 10**6, "warn"), (9 * 10**9, "ok")])
def test_memory_is_judged_by_what_is_free(monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    monkeypatch.setattr("workbench.machine.memory_available_bytes", lambda: free)
    assert checks.memory().status == status


def test_the_device_is_said_with_its_reason_and_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_on(monkeypatch, NVIDIA)
    assert checks.device().message == "cuda:0: NVIDIA H200, the first CUDA device; also here: cuda:1 (NVIDIA T4)"
    monkeypatch.setenv("WORKBENCH_DEVICE", "mps")
    finding = checks.device()
    assert (finding.status, finding.advice) == ("fail", "change or unset WORKBENCH_DEVICE")
    assert finding.message.startswith("WORKBENCH_DEVICE must be auto, cuda:0, cuda:1 or cpu on this machine")


def test_a_full_disk_is_said_with_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "not" / "yet"))
    monkeypatch.setattr("shutil.disk_usage", FullDisk)
    finding = checks.disk()
    assert finding.status == "warn"
    assert str(tmp_path) in finding.message


def test_what_the_environment_names_wrongly_is_a_failure_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert {finding.status for finding in checks.settings()} == {"ok"}
    file = tmp_path / "file"
    file.write_text("providers: 7")
    wrong = {"WORKBENCH_CONFIG": str(file), "WORKBENCH_CACHE": f"{file}/below", "WORKBENCH_STATE": "~nobody-here/state"}
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    found = {finding.name: finding for finding in checks.settings()}
    assert {finding.status for finding in found.values()} == {"fail"}
    assert str(file) in found["WORKBENCH_CONFIG"].message
    assert found["WORKBENCH_CACHE"].message.startswith("WORKBENCH_CACHE must be a writable folder")
    assert "whose ~ names a user" in found["WORKBENCH_STATE"].message


class FullDisk:
    free = 10**6

    def __init__(self, folder: Path) -> None:
        assert folder.exists(), "asking about a folder that is not there would raise"


@pytest.mark.parametrize("state,status", [("absent", "warn"), ("damaged", "fail"), ("outdated", "fail")])
def test_a_model_that_is_not_ready_comes_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str, status: str
) -> None:
    def look(name: str) -> ModelStatus:
        return ModelStatus(name, state, tmp_path, 0)  # type: ignore[arg-type]

    monkeypatch.setattr(catalog, "status", look)
    for finding in checks.models():
        assert finding.status == status
        assert finding.advice.startswith("workbench models pull ")


def test_a_changed_file_of_a_model_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def verify(name: str) -> Path:
        raise ChecksumError("model.safetensors was changed")

    monkeypatch.setattr(catalog, "status", lambda name: ModelStatus(name, "installed", tmp_path, 1))
    monkeypatch.setattr(catalog, "verify", verify)
    assert {finding.status for finding in checks.models()} == {"fail"}


def test_front_ends_that_jupyterlab_does_not_find_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *parts: [str(tmp_path)])
    finding = checks.widgets()
    assert finding.status == "fail"
    assert "anywidget" in finding.message
