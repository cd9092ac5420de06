"""Devices of torch, by their names, and their dtypes."""

from __future__ import annotations

from typing import Any

import torch

from workbench.devices import REFERENCE
from workbench.engine.devices import CPU
from workbench.engine.precision import Precision
from workbench.errors import InvalidRequestError

_KINDS = ("cuda", "mps", "xpu")


def target_of(name: str) -> torch.device | None:
    """Return the device of a name, or None for the CPU with its own decoders.

    Raises:
        InvalidRequestError: torch has no devices of this name, or finds none here.
    """
    if name == CPU:
        return None
    if name == REFERENCE:
        return torch.device(CPU)
    allowed = f"{CPU}, {REFERENCE}, {', '.join(_KINDS)}, or one of them with an index, such as cuda:1"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InvalidRequestError("device", name, allowed) from None
    if device.type not in _KINDS:
        raise InvalidRequestError("device", name, allowed)
    module: Any = torch.get_device_module(device.type)
    count = module.device_count() if module.is_available() else 0
    if (device.index or 0) >= count:
        found = f"finds {count} {device.type} device{'' if count == 1 else 's'}"
        raise InvalidRequestError("device", name, f"{CPU}, {REFERENCE} or one that is there: torch {found}")
    return device


def device_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype of weights on a device: float32 if that is asked for, else bf16 or, without it, float16."""
    if precision == "float32":
        return torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a dtype without its module, such as ``bfloat16``."""
    return str(dtype).removeprefix("torch.")
