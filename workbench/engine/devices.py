"""Choice of the device that a model is computed on, and the memory of that device.

``auto`` takes the first CUDA device, then Apple's GPU (``mps``), then Intel's (``xpu``), then the CPU, among those that
have a decoder. torch is imported by the first call that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.devices import REFERENCE, checked_device
from workbench.errors import InvalidRequestError
from workbench.machine import memory_available_bytes, memory_limit_bytes, processor

CPU = "cpu"
DECODED = frozenset({CPU})
"""Kinds of devices that have a decoder; all others are refused here, whatever torch finds."""

_BY_NAME = "chosen by name"


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """A device by torch's name, with its number, and the reason why it was chosen."""

    device: str
    why: str


def choose(name: str = "auto", field: str = "device") -> DeviceChoice:
    """Return the device that a setting names on this machine.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` (the first), ``cuda:N``, ``mps`` or ``xpu``.
        field: name of the setting, for the message of an error.

    Raises:
        InvalidRequestError: it is not such a name, or the device is not there; the message lists those that are.
    """
    checked_device(name, field)
    if name in (CPU, REFERENCE):
        return DeviceChoice(name, _BY_NAME)
    found = present_devices()
    usable = {device: title for device, title in found.items() if _kind(device) in DECODED}
    if name == "auto":
        return _automatic(found, usable)
    device = "cuda:0" if name == "cuda" else name
    if device not in usable:
        kind = _kind(device)
        why = f"models are not computed on {kind} devices yet" if device in found else _why_absent(kind)
        names = ["auto", *usable]
        raise InvalidRequestError(field, name, f"{', '.join(names[:-1])} or {names[-1]} on this machine ({why})")
    return DeviceChoice(device, f"{usable[device]}, {_BY_NAME}")


def present_devices() -> dict[str, str]:
    """Return the devices that torch finds here, each with its title, in the order of ``auto``; the CPU is the last."""
    import torch

    found: dict[str, str] = {}
    if torch.cuda.is_available():
        found |= {f"cuda:{index}": torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
    if torch.backends.mps.is_available():
        found["mps"] = "Apple's GPU"
    if torch.xpu.is_available():
        found["xpu"] = torch.xpu.get_device_name(0)
    return found | {CPU: processor()}


def usable_devices() -> list[str]:
    """Return the devices of this machine that have a decoder, in the order of ``auto``."""
    return [CPU] if {CPU} == DECODED else [device for device in present_devices() if _kind(device) in DECODED]


def check_decoded(device: str) -> None:
    """Raise `InvalidRequestError` unless models can be computed on a device of this kind."""
    if device != REFERENCE and _kind(device) not in DECODED:
        raise InvalidRequestError(
            "device", device, f"{' or '.join(sorted(DECODED))}: other devices have no decoder yet"
        )


def memory_bytes(device: str) -> tuple[int, int]:
    """Return the free and the total memory of a device in bytes; for the CPU, what this process may use."""
    if device in (CPU, REFERENCE):
        return memory_available_bytes(), memory_limit_bytes()
    import torch

    match _kind(device):
        case "cuda":  # memory that torch has reserved and does not use is free for the next model
            free, total = torch.cuda.mem_get_info(device)
            return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), total
        case "xpu":
            free, total = torch.xpu.mem_get_info(device)
            return free + torch.xpu.memory_reserved(device) - torch.xpu.memory_allocated(device), total
        case _:  # Apple's GPU shares the memory of the machine, of which it may use this much
            total = torch.mps.recommended_max_memory()
            return min(total - torch.mps.current_allocated_memory(), memory_available_bytes()), total


def _automatic(found: Mapping[str, str], usable: Mapping[str, str]) -> DeviceChoice:
    """Return the first device that can be used, and why none stands before it."""
    device, title = next(iter(usable.items()))
    unused = next(iter(found))
    if unused != device:
        return DeviceChoice(device, f"models are not computed on {unused} ({found[unused]}) yet")
    if device == CPU:
        return DeviceChoice(device, _why_absent())
    why = "the first CUDA device" if _kind(device) == "cuda" else "no CUDA device was found"
    return DeviceChoice(device, f"{title}, {why}")


def _why_absent(kind: str | None = None) -> str:
    """Return why torch finds no device of a kind; None: of any kind but the CPU."""
    import torch

    built = _built_for()
    torch_is = f"torch {torch.__version__} is built for"
    if not built:
        return f"{torch_is} the CPU only"
    if kind is not None and kind not in built:
        return f"{torch_is} {' and '.join(built.values())} only"
    wanted = built.values() if kind is None else [built[kind]]
    return f"{torch_is} {' and '.join(wanted)}, but finds no such device"


def _built_for() -> dict[str, str]:
    """Return the kinds of devices that this build of torch supports besides the CPU, each in words."""
    import torch

    built: dict[str, str] = {}
    if torch.version.hip or torch.version.cuda:
        built["cuda"] = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
    if torch.backends.mps.is_built():
        built["mps"] = "Apple's GPUs"
    if getattr(torch.version, "xpu", None):
        built["xpu"] = "Intel's GPUs"
    return built


def _kind(device: str) -> str:
    return device.partition(":")[0]
