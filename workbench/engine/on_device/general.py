"""Models that only transformers' own forward computes, moved to a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from workbench.devices import DeviceProof
from workbench.engine.on_device.proof import compared, decode_speed

if TYPE_CHECKING:
    from workbench.engine.decoders import GeneralDecoder


@torch.inference_mode()
def moved_and_compared(
    decoder: GeneralDecoder, dtype: torch.dtype, device: torch.device, token_ids: list[int]
) -> DeviceProof:
    """Move a decoder's model, in float32 on the CPU, to a device, and compare its logits there with those from before.

    Raises:
        UnprovenModelError: the device computes something else.
    """
    expected, cpu_speed = decoder.full_logits(token_ids), decode_speed(decoder)
    move(decoder, dtype, device)
    return compared(device, dtype, decoder.full_logits(token_ids), expected, decode_speed(decoder), cpu_speed)


def move(decoder: GeneralDecoder, dtype: torch.dtype, device: torch.device) -> None:
    """Move a model to a device in a dtype, except rotary frequencies, which stay float32 as `from_pretrained` has them.

    In 16 bits they would turn late positions by wrong angles, which the few positions of the proof do not show.
    """
    model: Any = decoder.model
    frequencies = [
        (module, name, buffer.to(device))
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name.endswith("inv_freq")
    ]
    model.to(device=device, dtype=dtype)
    for module, name, buffer in frequencies:
        setattr(module, name, buffer)
