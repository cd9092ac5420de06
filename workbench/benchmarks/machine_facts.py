"""What a figure depends on besides the program: the machine, and the versions of what computes."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from workbench.engine.machine import memory_limit_bytes, thread_count

_TELLING_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
)
_PACKAGES = ("inference-workbench", "torch", "transformers", "xllamacpp", "openvino-genai")


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """Read once, after measuring."""

    processor: str
    features: tuple[str, ...]
    """Instruction sets that matter to matrix products."""
    cores: int
    threads: int
    memory_limit_bytes: int
    versions: dict[str, str]


def machine_facts() -> MachineFacts:
    return MachineFacts(
        processor=_cpuinfo("model name") or platform.processor() or platform.machine(),
        features=tuple(flag for flag in _TELLING_FLAGS if flag in _cpuinfo("flags", "Features").split()),
        cores=os.cpu_count() or 1,
        threads=thread_count(),
        memory_limit_bytes=memory_limit_bytes(),
        versions={"python": platform.python_version()} | _versions(),
    )


def _versions() -> dict[str, str]:
    found = {"torch": str(torch.__version__)}
    for package in _PACKAGES:
        try:
            found.setdefault(package, metadata.version(package))
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpuinfo(*keys: str) -> str:
    """The first value of one of these keys in Linux's description of the processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() in keys), "")
