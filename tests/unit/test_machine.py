"""What may be used is the least of what the machine, the container and the environment say."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil
import pytest

from workbench import machine
from workbench.machine import memory_available_bytes, memory_limit_bytes, thread_count

TOTAL = psutil.virtual_memory().total
NONSENSE = ["", " ", "max", "two", "2G", "nan", "-1", "-inf", "0", "0x10", "1,5", "\u0664\u0668x"]


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cgroup of our own, an environment that says nothing, and eight cores."""
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(machine, "_usable_cores", lambda: 8)
    monkeypatch.delenv("CPU_LIMIT", raising=False)
    monkeypatch.delenv("MEM_LIMIT", raising=False)
    return tmp_path


def test_without_a_limit_everything_is_ours(cgroup: Path) -> None:
    assert (thread_count(), memory_limit_bytes()) == (8, TOTAL)


@pytest.mark.parametrize(
    "text,expected",
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("6400000 100000", 8),
        ("", 8),
        ("max", 8),
        ("100000", 8),
        ("x y", 8),
        ("100000 0", 8),
    ],
)
def test_threads_follow_the_cgroups_quota(cgroup: Path, text: str, expected: int) -> None:
    (cgroup / "cpu.max").write_text(text + "\n")
    assert thread_count() == expected


@pytest.mark.parametrize("text,expected", [("3", 3), ("2.9", 2), ("0.5", 1), ("1e0", 1), ("64", 8), ("inf", 8)])
def test_threads_follow_the_environment(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: int
) -> None:
    monkeypatch.setenv("CPU_LIMIT", text)
    assert thread_count() == expected


def test_the_least_limit_counts(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cgroup / "cpu.max").write_text("300000 100000")
    (cgroup / "memory.max").write_text(str(2**30))
    for cpus, size, threads, limit in (("4", 2**31, 3, 2**30), ("2", 2**29, 2, 2**29)):
        monkeypatch.setenv("CPU_LIMIT", cpus)
        monkeypatch.setenv("MEM_LIMIT", str(size))
        assert (thread_count(), memory_limit_bytes()) == (threads, limit)


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
@pytest.mark.parametrize(
    "text,expected", [("1073741824", 2**30), ("max", TOTAL), ("9223372036854771712", TOTAL), ("", TOTAL), ("?", TOTAL)]
)
def test_memory_follows_the_cgroup_of_either_version(cgroup: Path, name: str, text: str, expected: int) -> None:
    (cgroup / name).parent.mkdir(exist_ok=True)
    (cgroup / name).write_text(text + "\n")
    assert memory_limit_bytes() == expected


@pytest.mark.parametrize("text,expected", [("1073741824", 2**30), ("1e9", 10**9), ("inf", TOTAL), ("1e400", TOTAL)])
def test_memory_follows_the_environment(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: int
) -> None:
    monkeypatch.setenv("MEM_LIMIT", text)
    assert memory_limit_bytes() == expected


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_in_the_environment_is_no_limit(cgroup: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CPU_LIMIT", text)
    monkeypatch.setenv("MEM_LIMIT", text)
    assert (thread_count(), memory_limit_bytes()) == (8, TOTAL)


def test_what_is_available_leaves_out_what_we_use(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = psutil.Process().memory_info().rss
    monkeypatch.setenv("MEM_LIMIT", str(used + 2**20))
    assert memory_available_bytes() == pytest.approx(2**20, abs=2**23)
    monkeypatch.setenv("MEM_LIMIT", str(2**20))
    assert memory_available_bytes() < 0
    monkeypatch.delenv("MEM_LIMIT")
    assert memory_available_bytes() <= psutil.virtual_memory().available + 2**30


def test_the_threads_are_at_most_the_cores_on_which_the_system_lets_us_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CPU_LIMIT", raising=False)
    assert 1 <= thread_count() <= len(psutil.Process().cpu_affinity()) <= (os.cpu_count() or 1)


def test_the_features_that_llvm_reports_are_those_that_linux_lists() -> None:
    """On other systems LLVM alone reports them. The system may keep the matrix tiles from programs."""
    listed = {feature for feature in machine.processor_features() if not feature.startswith("amx")}
    assert not listed or listed == {name for name in machine._features_elsewhere() if not name.startswith("amx")}


def test_a_processor_without_a_name_is_called_after_its_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpuinfo", lambda *_: "")
    machine.processor.cache_clear()
    try:
        assert machine.processor().endswith(f"({platform.machine()})")
    finally:
        machine.processor.cache_clear()


def test_a_machine_without_cgroups_or_affinity_still_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path / "nowhere")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert thread_count() >= 1
    assert memory_limit_bytes() > 0
