"""Choice of the device that a model is computed on, and the memory of that device.

``auto`` takes the first CUDA device, then Apple's GPU (``mps``), then Intel's (``xpu``), then the CPU. torch is
imported by the first call that needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.devices import REFERENCE, checked_device
from workbench.errors import InvalidRequestError
from workbench.machine import memory_available_bytes, memory_limit_bytes, processor

if TYPE_CHECKING:
    from workbench.engine.precision import Precision

CPU = "cpu"
"""Name of the CPU with its own decoders."""

_BY_NAME = "chosen by name"


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """A device by torch's name, with its number, and the reason why it was chosen."""

    device: str
    why: str


def choose(name: str = "auto", field: str = "device") -> DeviceChoice:
    """Return the device that a setting names on this machine.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` (the first), ``cuda:N``, ``mps``, ``xpu`` or ``torch:cpu``.
        field: name of the setting, for the message of an error.

    Raises:
        InvalidRequestError: it is not such a name, or the device is not there; the message lists those that are.
    """
    checked_device(name, field)
    if name in (CPU, REFERENCE):
        return DeviceChoice(name, _BY_NAME)
    found = present_devices()
    if name == "auto":
        return _automatic(*next(iter(found.items())))
    device = "cuda:0" if name == "cuda" else name
    if device not in found:
        names = ["auto", *found]
        allowed = f"{', '.join(names[:-1])} or {names[-1]} on this machine ({_why_absent(_kind(device))})"
        raise InvalidRequestError(field, name, allowed)
    return DeviceChoice(device, f"{found[device]}, {_BY_NAME}")


def candidates(name: str) -> list[DeviceChoice]:
    """Return the devices that a setting allows, the preferred one first: all that are here for ``auto``, else one.

    Raises:
        InvalidRequestError: as for `choose`.
    """
    first = choose(name)
    if name != "auto" or first.device == CPU:
        return [first]
    others = [DeviceChoice(device, title) for device, title in present_devices().items() if device != first.device]
    return [first, *others]


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


def held_precision(precision: Precision, device: str) -> Precision:
    """Return the precision in which weights are held: on the CPU the given one, elsewhere float32 or bf16.

    A device without bf16 holds float16 in its place; `on_device.targets.device_dtype` has the dtype.
    """
    return precision if device == CPU or precision == "float32" else "bf16"


def _automatic(device: str, title: str) -> DeviceChoice:
    """Return the choice of the first device, and why none stands before it."""
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
