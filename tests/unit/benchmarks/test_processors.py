from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from workbench.benchmarks import processors
from workbench.benchmarks.processors import RECIPES, check_processor, exceeds, held_to, widest
from workbench.errors import InvalidRequestError
from workbench.machine import is_x86, processor_features


def test_processes_that_start_in_the_context_are_held_and_later_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    monkeypatch.delenv("NUMBA_CPU_NAME", raising=False)

    def measure() -> None:
        with held_to("avx2"):
            assert RECIPES["avx2"].items() <= os.environ.items()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure()
    assert os.environ["ATEN_CPU_CAPABILITY"] == "default"
    assert "NUMBA_CPU_NAME" not in os.environ


def test_without_a_processor_the_environment_stays() -> None:
    before = dict(os.environ)
    with held_to(None):
        assert dict(os.environ) == before


@pytest.mark.skipif(not (is_x86() and "avx2" in processor_features()), reason="this machine cannot act as avx2")
def test_torch_and_numba_read_the_variables() -> None:
    code = (
        "import torch; from numba.core import config;"
        "print(torch.backends.cpu.get_cpu_capability(), config.CPU_NAME, config.CPU_FEATURES)"
    )
    with held_to("avx2"):
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert widest(done.stdout) == "avx2"
    assert "haswell" in done.stdout


def test_an_unknown_processor_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InvalidRequestError, match="--processor must be one of avx2; got 'pentium'"):
        check_processor("pentium")


def test_other_machines_than_x86_cannot_act_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(InvalidRequestError, match=r"must be left out on this machine \(arm64\)"):
        check_processor("avx2")


@pytest.mark.parametrize("features,fits", [(("avx2", "avx512f"), True), (("sse4_2",), False), ((), True)])
def test_a_processor_can_act_as_a_smaller_one_only(
    monkeypatch: pytest.MonkeyPatch, features: tuple[str, ...], fits: bool
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    monkeypatch.setattr(processors, "processor_features", lambda: features)
    if fits:
        check_processor("avx2")
        return
    with pytest.raises(InvalidRequestError, match="does not have it"):
        check_processor("avx2")


@pytest.mark.parametrize(
    "names,expected",
    [
        ("AVX512", "avx512"),
        ("+avx2,+fma", "avx2"),
        ("avx2 avx512f amx-tile", "amx"),
        ("SSE3 = 1 | AVX = 1", ""),
        ("DEFAULT", ""),
    ],
)
def test_the_widest_instruction_set_that_is_named(names: str, expected: str) -> None:
    assert widest(names) == expected


def test_a_program_exceeds_a_processor_by_what_it_uses() -> None:
    assert [exceeds(used, "avx2") for used in ("", "avx2", "avx512", "amx")] == [False, False, True, True]
    assert not exceeds("amx", None)
