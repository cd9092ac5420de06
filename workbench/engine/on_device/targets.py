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
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a dtype without its module, such as ``bfloat16``."""
    return str(dtype).removeprefix("torch.")
