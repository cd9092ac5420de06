"""Devices of torch, by their names, and their dtypes."""

from __future__ import annotations

import torch

from workbench.devices import REFERENCE
from workbench.engine.devices import CPU
from workbench.engine.precision import Precision


def target_of(name: str) -> torch.device | None:
    """Return torch's device of a name that `devices.choose` returned; None for the CPU with its own decoders."""
    if name == CPU:
        return None
    return torch.device(CPU if name == REFERENCE else name)


def device_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype of weights on a device: float32 if that is asked for, else bf16 or, without it, float16."""
    if precision == "float32":
        return torch.float32
    return torch.bfloat16 if _has_bf16(device) else torch.float16


def shown_precision(precision: Precision, device: str) -> str:
    """Return the precision that a card shows of weights that `held_precision` returned for a device."""
    target = target_of(device)
    if target is None or device_dtype(precision, target) != torch.float16:
        return precision
    return "float16"


def _has_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bf16; unlike torch's own function, whichever device is the current one."""
    if device.type != "cuda" or torch.version.hip:
        return True
    return torch.cuda.get_device_capability(device) >= (8, 0)


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a dtype without its module, such as ``bfloat16``."""
    return str(dtype).removeprefix("torch.")
