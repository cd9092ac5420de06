"""The device of a model is chosen by name or by a fixed order, and refused by name where it is not there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import budget
from tests.fakes import devices as machines
from tests.fakes.devices import GIGABYTE, stand_on
from workbench.devices import checked_device
from workbench.engine import devices, memory
from workbench.engine.devices import DeviceChoice, candidates, choose, held_precision, memory_bytes, present_devices
from workbench.engine.on_device.targets import shown_precision
from workbench.engine.precision import Precision
from workbench.engine.weight_sizes import RESERVE_BYTES
from workbench.errors import InsufficientMemoryError, InvalidRequestError
from workbench.machine import memory_limit_bytes


def test_auto_takes_the_first_kind_that_is_there_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    version = torch.__version__
    for machine, choice in (
        (machines.LAPTOP, DeviceChoice("cpu", f"torch {version} is built for the CPU only")),
        (machines.NVIDIA, DeviceChoice("cuda:0", "NVIDIA H200, the first CUDA device")),
        (machines.AMD, DeviceChoice("cuda:0", "AMD Instinct MI300X, the first CUDA device")),
        (machines.APPLE, DeviceChoice("mps", "Apple's GPU, no CUDA device was found")),
        (machines.INTEL, DeviceChoice("xpu", "Intel Arc B580, no CUDA device was found")),
        (machines.EVERYTHING, DeviceChoice("cuda:0", "NVIDIA T4, the first CUDA device")),
        (machines.NO_DRIVER, DeviceChoice("cpu", f"torch {version} is built for CUDA 13.0, but finds no such device")),
    ):
        stand_on(monkeypatch, machine)
        assert choose() == choose("auto") == choice
        assert next(iter(present_devices())) == choice.device


def test_auto_falls_back_to_every_other_device_and_a_name_to_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, name, devices_ in (
        (machines.NVIDIA, "auto", ["cuda:0", "cuda:1", "cpu"]),
        (machines.APPLE, "auto", ["mps", "cpu"]),
        (machines.LAPTOP, "auto", ["cpu"]),
        (machines.NVIDIA, "cuda:1", ["cuda:1"]),
        (machines.NVIDIA, "cpu", ["cpu"]),
    ):
        stand_on(monkeypatch, machine)
        found = candidates(name)
        assert [one.device for one in found] == devices_
        assert found[0] == choose(name)


def test_a_device_without_bf16_is_shown_with_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_on(monkeypatch, machines.NVIDIA)
    for device, shown in (("cpu", "int4"), ("torch:cpu", "bf16"), ("cuda:0", "bf16"), ("cuda:1", "float16")):
        assert shown_precision(held_precision("int4", device), device) == shown
        assert shown_precision(held_precision("float32", device), device) == "float32"
    stand_on(monkeypatch, machines.AMD)
    assert shown_precision("bf16", "cuda:0") == "bf16"


def test_a_device_is_chosen_by_name_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, name, device, title in (
        (machines.NVIDIA, "cuda", "cuda:0", "NVIDIA H200, "),
        (machines.NVIDIA, "cuda:1", "cuda:1", "NVIDIA T4, "),
        (machines.APPLE, "mps", "mps", "Apple's GPU, "),
        (machines.INTEL, "xpu", "xpu", "Intel Arc B580, "),
        (machines.NVIDIA, "cpu", "cpu", ""),
        (machines.LAPTOP, "torch:cpu", "torch:cpu", ""),
    ):
        stand_on(monkeypatch, machine)
        assert choose(name) == DeviceChoice(device, f"{title}chosen by name")


def test_a_device_that_is_not_there_is_refused_with_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    version = torch.__version__
    for machine, name, words in (
        (machines.LAPTOP, "cuda", f"auto or cpu on this machine (torch {version} is built for the CPU only)"),
        (machines.NO_DRIVER, "cuda", f"(torch {version} is built for CUDA 13.0, but finds no such device)"),
        (machines.NVIDIA, "cuda:2", "auto, cuda:0, cuda:1 or cpu on this machine"),
        (machines.NVIDIA, "mps", f"(torch {version} is built for CUDA 13.0 only)"),
        (machines.AMD, "xpu", f"auto, cuda:0 or cpu on this machine (torch {version} is built for ROCm 7.0 only)"),
        (machines.APPLE, "cuda:0", "auto, mps or cpu on this machine"),
        (machines.INTEL, "mps", "auto, xpu or cpu on this machine"),
    ):
        stand_on(monkeypatch, machine)
        with pytest.raises(InvalidRequestError, match=re.escape(words)) as refused:
            choose(name, "metadata.device")
        assert (refused.value.field, refused.value.given) == ("metadata.device", name)


@settings(max_examples=budget(100), deadline=None)
@given(st.text(max_size=9) | st.from_regex(r"(auto|cpu|cuda|mps|xpu)(:?-?\d{0,4})\n?") | st.none() | st.integers())
def test_only_names_that_torch_has_are_accepted(name: object) -> None:
    known = name in {"auto", "cpu", "cuda", "cuda:0", "cuda:7", "mps", "xpu", "torch:cpu"}
    try:
        checked_device(name, "device")
    except InvalidRequestError:
        assert not known
    else:
        assert name in {"auto", "torch:cpu"} or str(torch.device(str(name))) == re.sub(":0+(?=.)", ":", str(name))


def test_the_memory_guard_counts_the_memory_of_the_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_on(monkeypatch, machines.NVIDIA)
    assert memory_bytes("cuda:1") == (21 * GIGABYTE, 24 * GIGABYTE)  # free, and reserved without being used
    assert memory_bytes("cpu")[1] == memory_limit_bytes()
    stand_on(monkeypatch, machines.INTEL)
    assert memory_bytes("xpu") == (21 * GIGABYTE, 24 * GIGABYTE)
    monkeypatch.setattr(devices, "memory_available_bytes", lambda: 9 * GIGABYTE)
    stand_on(monkeypatch, machines.APPLE)
    assert memory_bytes("mps") == (9 * GIGABYTE, 24 * GIGABYTE)  # which is also the machine's

    shapes = {"embed.weight": (1000, 1000), "norm.weight": (1000,)}
    monkeypatch.setattr(memory, "tensor_shapes", lambda *_: shapes)
    count = 1_001_000
    cases: list[tuple[int, int, Precision, int | None, str | None]] = [
        (4 * count, 4 * count, "float32", 4 * count, None),
        (4 * count - 1, 4 * count, "float32", None, "choose bf16 .* or the device cpu"),
        (2 * count, 4 * count, "int4", 2 * count, None),
        (2 * count - 1, 4 * count, "int4", None, "choose the device cpu"),
    ]
    for free, total, precision, held, advice in cases:
        monkeypatch.setattr(
            devices, "memory_bytes", lambda _, free=free, total=total: (free + RESERVE_BYTES, total + RESERVE_BYTES)
        )
        memory.check_limit(tmp_path, precision, "mine", packed=True, device="cuda:1")
        if advice is None:
            assert memory.plan(tmp_path, precision, "mine", packed=True, device="cuda:1").nbytes == held
        else:
            with pytest.raises(InsufficientMemoryError, match=f"mine in {precision} .*of cuda:1 are free; {advice}"):
                memory.plan(tmp_path, precision, "mine", packed=True, device="cuda:1")
    monkeypatch.setattr(devices, "memory_bytes", lambda _: (2**40, RESERVE_BYTES + 2 * count))
    with pytest.raises(InsufficientMemoryError, match=r"a model can use at most .* of cuda:1; choose bf16"):
        memory.check_limit(tmp_path, "float32", "mine", packed=True, device="cuda:1")


def test_a_model_that_moves_to_a_device_needs_the_machines_own_memory_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "tensor_shapes", lambda *_: {"embed.weight": (1000, 1000)})
    monkeypatch.setattr(devices, "memory_bytes", lambda _: (2**40, 2**40))
    for function, room, words in (
        (memory.plan, "memory_available_bytes", "only 4 MiB are free"),
        (memory.check_limit, "memory_limit_bytes", "a model can use at most 4 MiB of it"),
    ):
        monkeypatch.setattr(memory, room, lambda: RESERVE_BYTES + 4_000_000)
        function(tmp_path, "bf16", "mine", packed=False, device="cuda:0")
        monkeypatch.setattr(memory, room, lambda: RESERVE_BYTES + 3_999_999)
        function(tmp_path, "bf16", "mine", packed=True, device="cuda:0")
        with pytest.raises(
            InsufficientMemoryError, match=f"mine .*moves to cuda:0.* 4 MiB .*{words}; choose a smaller"
        ):
            function(tmp_path, "bf16", "mine", packed=False, device="cuda:0")


def test_choosing_the_cpu_by_name_imports_no_torch() -> None:
    code = "import sys; from workbench.engine.devices import choose; choose('cpu'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"False\n"
