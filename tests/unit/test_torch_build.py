"""Whoever sets up hears of a download of gigabytes before it begins, and of nothing else."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import torch_build

CUDA = ["filelock", 'nvidia-cublas==13.1; platform_system == "Linux"', 'cuda-bindings<14; platform_system == "Linux"']
CPU = ["filelock", "sympy>=1.13.3"]
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: str, *, has_torch: bool = False
) -> str:
    """What is said where pip reports this, and the command that it was asked with."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert {"--dry-run", "--constraint", "pins.txt"} <= set(command)
        return subprocess.CompletedProcess(command, 0, output)

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if has_torch else None)
    torch_build.main(["--constraint", "pins.txt"])
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def report(requirements: list[str]) -> str:
    return json.dumps({"install": [{"metadata": {"name": "torch", "requires_dist": requirements}}]})


def test_the_cuda_build_is_told_of_with_a_line_to_copy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f'make play PIP_ARGS="--extra-index-url {torch_build.CPU_INDEX}"'
    assert line in said(monkeypatch, capsys, report(CUDA))
    assert line in README


@pytest.mark.parametrize("output", [report(CPU), report([]), "", "no JSON", '{"install": []}', '{"install": [{}]}'])
def test_nothing_is_said_of_the_cpu_build_or_where_pip_cannot_tell(
    output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(monkeypatch, capsys, output) == ""


def test_nothing_is_said_where_torch_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(monkeypatch, capsys, report(CUDA), has_torch=True) == ""
