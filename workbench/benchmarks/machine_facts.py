"""Properties of the machine and versions of the libraries, on which all figures depend."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata

import torch

from workbench.machine import memory_limit_bytes, processor, processor_features, thread_count

_PACKAGES = ("inference-workbench", "torch", "transformers", "xllamacpp", "openvino-genai")


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """Properties of the machine, read after measuring."""

    processor: str
    features: tuple[str, ...]
    """Instruction sets that speed up matrix products."""
    cores: int
    threads: int
    memory_limit_bytes: int
    versions: dict[str, str]


def machine_facts() -> MachineFacts:
    return MachineFacts(
        processor=processor(),
        features=processor_features(),
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
