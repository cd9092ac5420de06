"""Files that store the proofs of devices, so that a model that is loaded again is not compared again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from workbench.devices import DeviceProof
from workbench.engine.devices import present_devices
from workbench.engine.on_device.targets import name_of
from workbench.engine.packed_file import model_key
from workbench.engine.packed_models import content_key
from workbench.engine.proof_cache import read_json, write_json


def proof_key(folder: Path, adapter: Path | None, device: torch.device, dtype: torch.dtype) -> str:
    """Return a hash of whatever a proof depends on: the model's files, the device, the dtype, versions and sources."""
    versions = torch.version.cuda, torch.version.hip
    parts = (model_key(folder), content_key(folder, adapter), str(device), _title(device), name_of(dtype), versions)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def cached_or_made(path: Path, prove: Callable[[], DeviceProof]) -> DeviceProof:
    """Return the proof in a file, or call ``prove`` and write its result there.

    A refusal is not stored: another driver may compute what this one does not.
    """
    if (cached := _proof(read_json(path))) is not None:
        return cached
    proof = prove()
    write_json(path, asdict(proof))
    return proof


def _proof(cached: dict[str, Any]) -> DeviceProof | None:
    """Return the proof in a cache file, or None if the file has none, or not in this form."""
    try:
        proof = DeviceProof(**cached | {"notes": tuple(cached["notes"])})
    except (TypeError, KeyError):
        return None
    numbers = proof.kl, proof.tokens_per_second, proof.cpu_tokens_per_second
    return proof if all(isinstance(number, float) for number in numbers) else None


def _title(device: torch.device) -> str:
    return present_devices().get(str(device), "")
