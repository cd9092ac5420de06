"""The checks of ``workbench doctor``: functions that return one finding, or one for each model."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from workbench.commands.output import human_size
from workbench.errors import InvalidRequestError, WorkbenchError

Status = Literal["ok", "warn", "fail"]

_GIGABYTE = 10**9
_LEAST_PYTHON = (3, 11)
_LEAST_TRANSFORMERS = (5, 3)  # older versions run code named in a config even if remote code is disabled
_LEAST_TORCH = (2, 10)  # older versions run code in weight files

# Instruction sets by their names on Linux: the name of the unit, and the operations that it speeds up.
_CPU_FLAGS = {
    "amx_bf16": ("AMX", "bf16"),
    "amx_int8": ("AMX", "int8"),
    "avx512_bf16": ("AVX-512 BF16", "bf16"),
    "avx512_vnni": ("AVX-512 VNNI", "int8"),
    "avx_vnni": ("AVX VNNI", "int8"),
    "avx512f": ("AVX-512", "float32"),
    "avx2": ("AVX2", "float32"),
    "asimd": ("NEON", "float32"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    name: str
    status: Status
    message: str
    advice: str = ""
    """Instruction for the user; empty if there is nothing to do."""


def python() -> Finding:
    version = platform.python_version()
    if sys.version_info < _LEAST_PYTHON:
        return Finding("python", "fail", version, "install Python 3.11 or newer and create a new environment with it")
    return Finding("python", "ok", f"{version} at {sys.executable}")


def torch() -> Finding:
    if (missing := _missing("torch")) is not None:
        return missing
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    message = f"{torch.__version__} ({build}), {torch.get_num_threads()} threads"
    return _at_least("torch", message, torch.__version__, _LEAST_TORCH)


def transformers() -> Finding:
    if (missing := _missing("transformers")) is not None:
        return missing
    version = importlib.metadata.version("transformers")
    return _at_least("transformers", version, version, _LEAST_TRANSFORMERS)


def cpu() -> Finding:
    from workbench.machine import is_x86, processor_features

    features = processor_features()
    found = [meaning for flag, meaning in _CPU_FLAGS.items() if flag in features]
    if not found:
        if is_x86():
            return Finding("cpu", "warn", f"{platform.machine()} without AVX2", "expect slow generation")
        return Finding("cpu", "ok", f"{platform.machine()}; no features reported")
    units = ", ".join(dict.fromkeys(unit for unit, _ in found))
    fast = ", ".join(dict.fromkeys(precision for _, precision in found))
    return Finding("cpu", "ok", f"{platform.machine()} with {units}: fast at {fast}")


def kernels() -> Finding:
    """Which arithmetic the compiled functions use on this CPU."""
    from workbench.engine.fused_prompt import best_arithmetic
    from workbench.engine.kernels.panels import ARITHMETICS
    from workbench.machine import thread_count

    named = ARITHMETICS[best_arithmetic(is_float32=False)]
    return Finding("kernels", "ok", f"prompts in {named}, single tokens in float32, on up to {thread_count()} threads")


def device() -> Finding:
    """Which device models are computed on unless they are registered for another, and why."""
    from workbench.devices import DEVICE_VARIABLE
    from workbench.engine.devices import choose, present_devices

    named = os.environ.get(DEVICE_VARIABLE)
    try:
        choice = choose(named or "auto", DEVICE_VARIABLE if named else "device")
    except InvalidRequestError as error:
        return Finding("device", "fail", str(error), f"change or unset {DEVICE_VARIABLE}")
    others = [f"{name} ({title})" for name, title in present_devices().items() if name not in (choice.device, "cpu")]
    also = f"; also here: {', '.join(others)}" if others else ""
    return Finding("device", "ok", f"{choice.device}: {choice.why}{also}")


def memory() -> Finding:
    from workbench.machine import memory_available_bytes, memory_limit_bytes

    available = memory_available_bytes()
    message = f"{human_size(available)} free of {human_size(memory_limit_bytes())}"
    if available < _GIGABYTE:
        return Finding("memory", "fail", message, "close other kernels and programs: a model needs about 1 GB")
    if available < 2 * _GIGABYTE:
        return Finding("memory", "warn", message, "enough for one small model; close other kernels for more")
    return Finding("memory", "ok", message)


def disk() -> Finding:
    from workbench import catalog

    cache = catalog.cache_dir()
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    message = f"{human_size(free)} free for the cache {cache}"
    if free < _GIGABYTE:
        return Finding("disk", "warn", message, "free some space, or set WORKBENCH_CACHE to a folder on another disk")
    return Finding("disk", "ok", message)


def settings() -> Iterator[Finding]:
    """Return the settings of the environment: the run config, and the folders that are written to."""
    from workbench.catalog import cache_dir
    from workbench.paths import state_dir
    from workbench.stack import load_run_config

    if chosen := os.environ.get("WORKBENCH_CONFIG"):
        yield _checked("WORKBENCH_CONFIG", chosen, load_run_config, "fix or unset it")
    for name, folder in (("WORKBENCH_CACHE", cache_dir), ("WORKBENCH_STATE", state_dir)):
        advice = f"set {name} to a writable folder"
        yield _checked(
            name,
            os.environ.get(name, "not set; using the default folder"),
            partial(_check_writable, name, folder),
            advice,
        )


def _checked(name: str, value: str, check: Callable[[], object], advice: str) -> Finding:
    """Return the finding of a check that raises a `WorkbenchError` if it fails."""
    try:
        check()
    except WorkbenchError as error:
        return Finding(name, "fail", str(error), advice)
    return Finding(name, "ok", value)


def _check_writable(name: str, chosen: Callable[[], Path]) -> None:
    """Raise `InvalidRequestError` unless a folder, which need not exist, can be written to."""
    folder = chosen()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InvalidRequestError(name, str(folder), "a writable folder")


def models() -> Iterator[Finding]:
    from workbench import catalog

    for entry in catalog.entries():
        yield _model(entry.name)


def _model(name: str) -> Finding:
    from workbench import catalog

    status = catalog.status(name)
    label = f"model {name}"
    if status.state == "absent":
        return Finding(label, "warn", "not installed", f"workbench models pull {name}")
    if not status.installed:
        return Finding(label, "fail", status.problem or status.state, f"workbench models pull {name}")
    try:
        catalog.verify(name)
    except WorkbenchError as error:
        return Finding(label, "fail", str(error), f"workbench models pull {name} --force")
    return Finding(label, "ok", f"intact, {human_size(status.disk_bytes)}")


def notebook() -> Finding:
    for package in ("jupyterlab", "ipykernel"):
        if importlib.util.find_spec(package) is None:
            return Finding("notebook", "warn", f"{package} is not installed", "pip install 'inference-workbench[lab]'")
    kernel = importlib.metadata.version("ipykernel")
    message = f"JupyterLab {importlib.metadata.version('jupyterlab')}, ipykernel {kernel}"
    if not (7, 4) <= _version(kernel) < (8,):
        return Finding(
            "notebook", "fail", message, "pip install 'ipykernel>=7.4,<8': other versions can lose cells or ignore Stop"
        )
    return Finding("notebook", "ok", message)


def widgets() -> Finding:
    """Check that JupyterLab finds the front ends of the widgets on its path."""
    if importlib.util.find_spec("jupyter_core") is None:
        return Finding("widgets", "warn", "Jupyter is not installed", "pip install 'inference-workbench[lab]'")
    from jupyter_core.paths import jupyter_path

    missing = [
        extension
        for extension in ("anywidget", "@jupyter-widgets/jupyterlab-manager")
        if not any((Path(folder) / extension / "package.json").is_file() for folder in jupyter_path("labextensions"))
    ]
    if missing:
        advice = "pip install --force-reinstall anywidget jupyterlab-widgets, in JupyterLab's environment"
        return Finding("widgets", "fail", f"JupyterLab cannot find {' and '.join(missing)}", advice)
    return Finding("widgets", "ok", "JupyterLab finds the front ends of anywidget and ipywidgets")


def _missing(package: str) -> Finding | None:
    if importlib.util.find_spec(package) is not None:
        return None
    return Finding(package, "fail", "not installed", "pip install inference-workbench")


def _at_least(name: str, message: str, version: str, least: tuple[int, ...]) -> Finding:
    if _version(version) >= least:
        return Finding(name, "ok", message)
    wanted = ".".join(map(str, least))
    return Finding(name, "fail", message, f"pip install --upgrade '{name}>={wanted}': older versions are unsafe")


def _version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: 2.13.0+cpu is (2, 13, 0)."""
    numbers = []
    for part in text.partition("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
