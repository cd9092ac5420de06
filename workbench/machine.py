"""Resources of this machine or container: threads, memory and instruction sets."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import sys
from functools import cache
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_MATMUL_FEATURES = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
)
_LLVM_NAMES = {
    "avx_vnni": "avxvnni",
    "avx512_vnni": "avx512vnni",
    "avx512_bf16": "avx512bf16",
    "avx512_fp16": "avx512fp16",
    "amx_bf16": "amx-bf16",
    "amx_int8": "amx-int8",
    "asimd": "neon",
}
"""LLVM's names of the features whose names on Linux differ."""


def thread_count() -> int:
    """Return the number of compute threads: the least of ``CPU_LIMIT``, the cgroup's quota and the usable cores.

    JupyterHub and Binder set ``CPU_LIMIT``. ``os.cpu_count()`` would count the cores of the whole node.
    """
    available = _usable_cores()
    limits = [float(available), _cpu_quota(), _number(os.environ.get("CPU_LIMIT"))]
    return max(1, int(min(limit for limit in limits if limit)))


def _usable_cores() -> int:
    """Return the number of cores on which the system lets this process run."""
    cores = os.cpu_count() or 1
    if sys.platform == "win32":
        cores = len(psutil.Process().cpu_affinity())
    elif hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return cores


def memory_limit_bytes() -> int:
    """Return this process's memory limit: the least of ``MEM_LIMIT``, the cgroup's limit and the machine's memory."""
    total = int(psutil.virtual_memory().total)
    limits = [total, _number(os.environ.get("MEM_LIMIT")), _cgroup_memory()]
    return int(min(limit for limit in limits if limit))


def memory_available_bytes() -> int:
    """Return the memory that this process can still allocate, within its limit and the machine's free memory."""
    used = int(psutil.Process().memory_info().rss)
    return min(memory_limit_bytes() - used, int(psutil.virtual_memory().available))


def is_x86() -> bool:
    """Return whether the processor is an x86 in 64-bit mode."""
    return platform.machine().lower() in ("x86_64", "amd64")


@cache
def processor() -> str:
    """Return the processor's name; its generation if the system does not report a name."""
    return _cpuinfo("model name") or _name_elsewhere()


@cache
def processor_features() -> tuple[str, ...]:
    """Return the processor's instruction sets for matrix products; empty if the system does not report them."""
    reported = _cpuinfo("flags", "Features").split() or _features_elsewhere()
    return tuple(feature for feature in _MATMUL_FEATURES if feature in reported)


def give_back_memory() -> None:
    """Return freed memory to the operating system; glibc would keep it for later allocations."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def _name_elsewhere() -> str:
    """Return LLVM's name of the processor's generation, such as ``apple-m1 (arm64)``."""
    from llvmlite import binding

    return f"{binding.get_host_cpu_name()} ({platform.machine()})"


def _features_elsewhere() -> list[str]:
    """Return the features that LLVM reports, under the names that Linux has for them."""
    from llvmlite import binding

    found = binding.get_host_cpu_features()
    return [feature for feature in _MATMUL_FEATURES if found.get(_LLVM_NAMES.get(feature, feature))]


def _cpuinfo(*keys: str) -> str:
    """Return the first value of these keys in ``/proc/cpuinfo``; empty if there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() in keys), "")


def _cpu_quota() -> float | None:
    quota, _, period = (_read("cpu.max") or "").partition(" ")
    allowed, per = _number(quota), _number(period)
    return allowed / per if allowed and per else None


def _cgroup_memory() -> float | None:
    return _number(_read("memory.max")) or _number(_read("memory/memory.limit_in_bytes"))


def _read(name: str) -> str | None:
    try:
        return (_CGROUP / name).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _number(text: str | None) -> float | None:
    """Return a finite number above 0; None for any other text, such as "max" or a size with a unit."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
