"""Loading of a model to a device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from traceback import clear_frames
from typing import TYPE_CHECKING

import torch

from workbench.engine.adapters import Adapter
from workbench.engine.block_structure import BlockStructure
from workbench.engine.decoders import GeneralDecoder
from workbench.engine.devices import memory_bytes
from workbench.engine.model_reading import WeightReader
from workbench.engine.on_device.decoder import DeviceDecoder
from workbench.engine.on_device.dense import DenseReader
from workbench.engine.on_device.general import moved
from workbench.engine.on_device.proof import prove_device, reference_forward
from workbench.engine.on_device.targets import device_dtype, name_of
from workbench.engine.packing import opened, rotary_versions
from workbench.engine.precision import Precision
from workbench.engine.step_errors import first_line
from workbench.errors import InsufficientMemoryError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from workbench.devices import DeviceProof

_KV_SHARE = 0.5
"""Share of a device's free memory for slots; while they grow, the old ones are there as well."""


def load_on_device(
    folder: Path,
    config: PreTrainedConfig,
    structure: BlockStructure | None,
    precision: Precision,
    device: torch.device,
    adapter: Adapter | None,
    load_general: Callable[[], GeneralDecoder],
    context_length: int,
) -> tuple[DeviceDecoder | GeneralDecoder, DeviceProof]:
    """Return the decoder of a model on a device, and how it compares with float32 on the CPU.

    Args:
        structure: that of the model; None if only transformers' own forward computes it.
        load_general: function that loads transformers' model in float32 on the CPU.

    Raises:
        InsufficientMemoryError: the device has too little memory for the weights.
        UnprovenModelError: the device computes something else.
    """
    dtype = device_dtype(precision, device)
    try:
        if structure is not None:
            return _own_decoder(folder, config, structure, dtype, device, adapter)
        return _general_decoder(load_general(), dtype, device, context_length)
    except Exception as error:
        clear_frames(error.__traceback__)  # or the weights would stay on the device as long as somebody has the error
        if not isinstance(error, torch.OutOfMemoryError):
            raise
        raise InsufficientMemoryError(
            f"{folder.name} does not fit into the memory of {device} in {name_of(dtype)}: {first_line(error)}; choose "
            f"another device or a smaller model"
        ) from error


def _general_decoder(
    decoder: GeneralDecoder, dtype: torch.dtype, device: torch.device, context_length: int
) -> tuple[GeneralDecoder, DeviceProof]:
    return decoder, moved(decoder, dtype, device, context_length)


def _own_decoder(
    folder: Path,
    config: PreTrainedConfig,
    structure: BlockStructure,
    dtype: torch.dtype,
    device: torch.device,
    adapter: Adapter | None,
) -> tuple[DeviceDecoder, DeviceProof]:
    rotary = rotary_versions(config, structure)
    with opened(folder, structure.full_name, adapter) as files:
        weights = WeightReader(structure, files, DenseReader(structure, files, device, dtype)).weights()
        decoder = DeviceDecoder(weights, rotary=rotary, kv_budget_bytes=int(_KV_SHARE * memory_bytes(str(device))[0]))
        return decoder, prove_device(decoder, reference_forward(structure, files), rotary)
