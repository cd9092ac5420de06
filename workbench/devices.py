"""Names of the devices that models can be computed on, and what a device has proved. Nothing here needs torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workbench.errors import InvalidRequestError

REFERENCE = "torch:cpu"
"""Name of the CPU that computes as a device does: the reference for devices."""
DEVICE_PATTERN = rf"^(auto|cpu|cuda(:\d{{1,3}})?|mps|xpu|{REFERENCE})$"
"""Regular expression of the names that a setting may have."""
ALLOWED_DEVICES = f"auto, cpu, cuda, cuda:N with the number of a device, mps, xpu or {REFERENCE}"
"""The same in words."""
DEVICE_VARIABLE = "WORKBENCH_DEVICE"
"""Environment variable with the device of the default run config."""


def checked_device(name: object, field: str) -> str:
    """Return a name that a setting may have, whether or not the device is there; raise `InvalidRequestError`."""
    if not isinstance(name, str) or not re.fullmatch(DEVICE_PATTERN, name, re.ASCII):
        raise InvalidRequestError(field, name, ALLOWED_DEVICES)
    return name


@dataclass(frozen=True, slots=True)
class DeviceProof:
    """Comparison of a loaded model on its device with float32 on the CPU, over a few positions of a text."""

    device: str
    dtype: str
    """Type of the weights on the device, such as ``bfloat16``."""
    kl: float
    """Largest KL divergence of a position's distribution from the reference, in nats."""
    argmax_equal: bool
    """Whether the most probable token is the reference's wherever that one is clearly ahead."""
    tokens_per_second: float
    """Speed of a short decode on the device."""
    cpu_tokens_per_second: float
    """Speed of the same computation in float32 on the CPU, estimated from one layer."""
    notes: tuple[str, ...] = ()
    """Notes for the reader, for example that the CPU is faster."""
