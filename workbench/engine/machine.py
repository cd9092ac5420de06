"""What this machine, or the container around us, really offers: threads and memory."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


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


def _cpu_quota() -> float | None:
    text = _read("cpu.max")
    if text is None or text.startswith("max"):
        return None
    quota, period = text.split()
    return float(quota) / float(period)


def _cgroup_memory() -> float | None:
    text = _read("memory.max") or _read("memory/memory.limit_in_bytes")
    return _number(text)


def _read(name: str) -> str | None:
    try:
        return (_CGROUP / name).read_text(encoding="ascii").strip()
    except OSError:
        return None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:  # "max", or a size with a unit that we do not know
        return None
