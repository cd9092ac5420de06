"""Machines with other devices than this one: torch answers as it would there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

GIGABYTE = 10**9


@dataclass(frozen=True)
class Machine:
    """What torch finds: the names of devices by kind, and what it is built for."""

    cuda: tuple[str, ...] = ()
    mps: bool = False
    xpu: tuple[str, ...] = ()
    built_for_cuda: str | None = None
    built_for_rocm: str | None = None
    built_for_mps: bool = False
    built_for_xpu: str | None = None
    total_bytes: int = 24 * GIGABYTE
    free_bytes: int = 20 * GIGABYTE
    reserved_bytes: int = 3 * GIGABYTE
    """Memory that torch has reserved for itself, of which it uses some."""
    allocated_bytes: int = 2 * GIGABYTE


CAPABILITIES = {"NVIDIA T4": (7, 5)}
"""Those of GPUs without bf16."""

LAPTOP = Machine()
NVIDIA = Machine(cuda=("NVIDIA H200", "NVIDIA T4"), built_for_cuda="13.0")
NO_DRIVER = Machine(built_for_cuda="13.0")
AMD = Machine(cuda=("AMD Instinct MI300X",), built_for_rocm="7.0")
APPLE = Machine(mps=True, built_for_mps=True)
INTEL = Machine(xpu=("Intel Arc B580",), built_for_xpu="20260000")
EVERYTHING = Machine(("NVIDIA T4",), True, ("Intel Arc B580",), built_for_cuda="13.0", built_for_mps=True)


def stand_on(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    """Let torch answer as on a machine."""

    def memory(_: str) -> tuple[int, int]:
        return machine.free_bytes, machine.total_bytes

    answers: dict[Any, dict[str, Any]] = {
        torch.version: {"cuda": machine.built_for_cuda, "hip": machine.built_for_rocm, "xpu": machine.built_for_xpu},
        torch.backends.mps: {"is_available": lambda: machine.mps, "is_built": lambda: machine.built_for_mps},
        torch.mps: {
            "recommended_max_memory": lambda: machine.total_bytes,
            "current_allocated_memory": lambda: machine.allocated_bytes,
        },
    }
    for module, names in ((torch.cuda, machine.cuda), (torch.xpu, machine.xpu)):
        answers[module] = {
            "is_available": lambda names=names: bool(names),
            "device_count": lambda names=names: len(names),
            "get_device_name": lambda index, names=names: names[index],
            "mem_get_info": memory,
            "memory_reserved": lambda _: machine.reserved_bytes,
            "memory_allocated": lambda _: machine.allocated_bytes,
        }
    names = machine.cuda
    answers[torch.cuda]["get_device_capability"] = lambda device: CAPABILITIES.get(names[device.index], (9, 0))
    for module, replaced in answers.items():
        for name, answer in replaced.items():
            monkeypatch.setattr(module, name, answer, raising=False)
