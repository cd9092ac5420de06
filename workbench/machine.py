"""What this machine, or the container around us, really offers: threads, memory and instructions."""

from __future__ import annotations

import ctypes
import math
import os
import platform
from pathlib import Path

import psutil

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
_CGROUP = Path("/sys/fs/cgroup")
_TELLING_FEATURES = (
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


def thread_count() -> int:
    """Threads for compute: ``CPU_LIMIT`` (set by JupyterHub and Binder), the cgroup's quota, or the cores we may use.

    ``os.cpu_count()`` would count the cores of the whole node.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [float(available), _cpu_quota(), _number(os.environ.get("CPU_LIMIT"))]
    return max(1, int(min(limit for limit in limits if limit)))


def memory_limit_bytes() -> int:
    """Memory that this process may use at most: ``MEM_LIMIT``, the cgroup's limit, or all of the machine's."""
    total = int(psutil.virtual_memory().total)
    limits = [total, _number(os.environ.get("MEM_LIMIT")), _cgroup_memory()]
    return int(min(limit for limit in limits if limit))


def memory_available_bytes() -> int:
    """Memory that could still be taken: what the limit leaves over our own use, and what the machine has free."""
    used = int(psutil.Process().memory_info().rss)
    return min(memory_limit_bytes() - used, int(psutil.virtual_memory().available))


def processor() -> str:
    """The processor's name."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def processor_features() -> tuple[str, ...]:
    """Instruction sets that matter to matrix products; empty where the system does not tell."""
    known = _cpuinfo("flags", "Features").split()
    return tuple(feature for feature in _TELLING_FEATURES if feature in known)


def give_back_memory() -> None:
    """Hand memory that was freed back to the system, where the C library keeps it for later (glibc does)."""
    if _TRIM is not None:
        _TRIM(0)


def _cpuinfo(*keys: str) -> str:
    """The first value of one of these keys in Linux's description of the processor; empty elsewhere."""
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
    """A finite number above 0; None for "max", a size with a unit that we do not know, and anything else."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
