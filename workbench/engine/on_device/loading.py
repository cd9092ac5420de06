"""Loading of a model to a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
from workbench.engine.on_device.general import move, moved_and_compared
from workbench.engine.on_device.kept_proofs import cached_or_made, proof_key
from workbench.engine.on_device.proof import prove_device, reference_forward
from workbench.engine.on_device.targets import device_dtype, name_of
from workbench.engine.packing import opened, rotary_versions
from workbench.engine.precision import Precision
from workbench.engine.proof import ALL_PROVEN, Proof, plain_tokens
from workbench.engine.rotary_table import Rotary
from workbench.engine.step_errors import first_line
from workbench.engine.weights import Checkpoint
from workbench.errors import InsufficientMemoryError, UnprovenModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from workbench.devices import DeviceProof

_KV_SHARE = 0.5
"""Share of a device's free memory for slots; while they grow, the old ones are there as well."""


@dataclass(frozen=True, slots=True)
class ToDevice:
    """What is loaded to which device."""

    folder: Path
    device: torch.device
    precision: Precision
    adapter: Path | None = None
    """Folder of an adapter that is merged into the weights."""
    proofs: Path | None = None
    """Folder of the cached proofs; None caches none."""

    @property
    def dtype(self) -> torch.dtype:
        return device_dtype(self.precision, self.device)

    def proven(self, prove: Callable[[], DeviceProof]) -> DeviceProof:
        """Return the cached proof of the model on this device, or call ``prove`` and cache its result."""
        if self.proofs is None:
            return prove()
        path = self.proofs / f"device-{proof_key(self.folder, self.adapter, self.device, self.dtype)}.json"
        return cached_or_made(path, prove)


def load_on_device(
    to: ToDevice,
    config: PreTrainedConfig,
    structure: BlockStructure | None,
    adapter: Adapter | None,
    load_general: Callable[[], GeneralDecoder],
    prove_general: Callable[[GeneralDecoder], Proof],
    context_length: int,
) -> tuple[DeviceDecoder | GeneralDecoder, Proof, DeviceProof]:
    """Return the decoder of a model on a device, its proof, and how the device compares with float32 on the CPU.

    Args:
        structure: that of the model; None if only transformers' own forward computes it.
        load_general: function that loads transformers' model in float32 on the CPU.
        prove_general: function that compares the decode loop with transformers' model, on the device.

    Raises:
        InsufficientMemoryError: the device has too little memory for the weights.
        UnprovenModelError: the device computes something else, or cannot compute this model.
    """
    try:
        if structure is not None:
            return _own_decoder(to, config, structure, adapter)
        return _general_decoder(to, load_general(), prove_general, context_length)
    except Exception as error:
        clear_frames(error.__traceback__)  # or the weights would stay on the device as long as somebody has the error
        if isinstance(error, NotImplementedError):
            raise UnprovenModelError(f"{to.device} cannot compute {to.folder.name}: {first_line(error)}") from error
        if not isinstance(error, torch.OutOfMemoryError):
            raise
        raise InsufficientMemoryError(
            f"{to.folder.name} does not fit into the memory of {to.device} in {name_of(to.dtype)}: "
            f"{first_line(error)}; choose another device or a smaller model"
        ) from error


def _general_decoder(
    to: ToDevice, decoder: GeneralDecoder, prove: Callable[[GeneralDecoder], Proof], context_length: int
) -> tuple[GeneralDecoder, Proof, DeviceProof]:
    token_ids = plain_tokens(decoder, context_length)
    # Partials, because the frame of a lambda would keep the decoder in memory after an error.
    proof = to.proven(partial(moved_and_compared, decoder, to.dtype, to.device, token_ids))
    move(decoder, to.dtype, to.device)  # which the comparison has done, unless its result was cached
    return decoder, prove(decoder), proof


def _own_decoder(
    to: ToDevice, config: PreTrainedConfig, structure: BlockStructure, adapter: Adapter | None
) -> tuple[DeviceDecoder, Proof, DeviceProof]:
    rotary = rotary_versions(config, structure)
    with opened(to.folder, structure.full_name, adapter) as files:
        weights = WeightReader(structure, files, DenseReader(structure, files, to.device, to.dtype)).weights()
        kv_bytes = int(_KV_SHARE * memory_bytes(str(to.device))[0])
        decoder = DeviceDecoder(weights, rotary=rotary, kv_budget_bytes=kv_bytes)
        proof = to.proven(partial(_prove, decoder, structure, files, rotary))
    return decoder, ALL_PROVEN, proof


def _prove(
    decoder: DeviceDecoder, structure: BlockStructure, files: Checkpoint, rotary: Sequence[Sequence[Rotary]]
) -> DeviceProof:
    return prove_device(decoder, reference_forward(structure, files), rotary)
