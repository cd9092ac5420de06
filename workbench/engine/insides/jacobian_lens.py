"""The Jacobian lens of a model: for each layer, the mean Jacobian of the last residual stream by that layer's.

A hidden state ``h`` of ``resid_post.i`` reads as ``unembed(norm(J_i h))``: what it contributes, on average, to the last
residual stream. ``J`` of the last layer is the identity. A file has, for every other layer, the diagonal in float32 and
all other numbers in int8 with one scale a row: the diagonal is far larger, and would leave them few steps.

==============  ========  ==========================
 tensor          dtype     shape
==============  ========  ==========================
 off_diagonal    int8      (layers - 1, hidden, hidden)
 scale           float32   (layers - 1, hidden)
 diagonal        float32   (layers - 1, hidden)
==============  ========  ==========================
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from workbench.errors import ModelFormatError
from workbench.tensor_headers import SafetensorsTensor, read_safetensors_header

FORMAT = "jacobian-lens-1"

_LARGEST_INT8 = 127


@dataclass(frozen=True, slots=True)
class LensFacts:
    """What a lens was fitted to."""

    model: str
    """Name of the model."""
    weights_sha256: str
    """Digest of its weights, as the caller of the fit computed it."""
    texts: int = 0
    positions: int = 0
    """Number of source positions in all texts."""
    seconds: float = 0.0
    """Time that the fit took."""


@dataclass(frozen=True, slots=True)
class JacobianLens:
    """The mean Jacobians of a model."""

    matrices: Tensor
    """Float32, shape (layers - 1, hidden, hidden); row k is the gradient of component k of the last stream."""
    facts: LensFacts

    @property
    def layers(self) -> int:
        return len(self.matrices) + 1

    @property
    def hidden(self) -> int:
        return self.matrices.shape[-1]

    def transport(self, layer: int, hidden_states: Tensor) -> Tensor:
        """Return ``J_layer h`` of hidden states of ``resid_post.layer``, shape (..., hidden)."""
        if layer == self.layers - 1:
            return hidden_states
        return hidden_states @ self.matrices[layer].T

    def check_model(self, layers: int, hidden: int) -> None:
        """Raise ModelFormatError unless the lens has the sizes of a model."""
        if (self.layers, self.hidden) != (layers, hidden):
            raise ModelFormatError(
                f"the Jacobian lens of {self.facts.model} is for {self.layers} layers of size {self.hidden}; the model "
                f"has {layers} of size {hidden}. Fit a lens for it."
            )

    def save(self, path: Path) -> None:
        """Write the lens to a file; matrices that were not read from one are rounded."""
        diagonal = self.matrices.diagonal(dim1=1, dim2=2)
        rest = self.matrices - torch.diag_embed(diagonal)
        scale = rest.abs().amax(-1) / _LARGEST_INT8  # (layers - 1, hidden)
        rounded = (rest / torch.where(scale == 0, 1.0, scale).unsqueeze(-1)).round().to(torch.int8)
        tensors = {"off_diagonal": rounded, "scale": scale, "diagonal": diagonal.contiguous()}
        write_tensors(path, tensors, FORMAT, asdict(self.facts))


def read_lens(path: Path) -> JacobianLens:
    """Return the lens in a file.

    Raises:
        ModelFormatError: the file is missing or damaged, or no Jacobian lens.
    """
    header = read_safetensors_header(path)
    _check_layout(path, header)
    tensors, facts = read_tensors(path, FORMAT)
    rest = tensors["off_diagonal"].float() * tensors["scale"].unsqueeze(-1)
    if not rest.isfinite().all() or not tensors["diagonal"].isfinite().all():
        raise damaged(path, "it has numbers that are not finite")
    try:
        return JacobianLens(rest + torch.diag_embed(tensors["diagonal"]), checked_facts(facts))
    except TypeError as error:
        raise damaged(path, f"its metadata are incomplete: {error}") from None


def _check_layout(path: Path, header: Mapping[str, SafetensorsTensor]) -> None:
    shape = header["off_diagonal"].shape if "off_diagonal" in header else ()
    if len(shape) != 3 or shape[1] != shape[2]:
        raise damaged(path, "it has no tensor off_diagonal of shape (layers - 1, hidden, hidden)")
    expected = {
        "off_diagonal": SafetensorsTensor("I8", shape),
        "scale": SafetensorsTensor("F32", shape[:2]),
        "diagonal": SafetensorsTensor("F32", shape[:2]),
    }
    for name, tensor in expected.items():
        if header.get(name) != tensor:
            raise damaged(path, f"tensor {name} must be {tensor.dtype} of shape {tensor.shape}")


def checked_facts(facts: Mapping[str, Any]) -> LensFacts:
    """Return the facts in a file's metadata; raise TypeError if a field is missing, unknown or of another type."""
    found = LensFacts(**facts)
    kinds: dict[str, Any] = {
        "model": str,
        "weights_sha256": str,
        "texts": int,
        "positions": int,
        "seconds": (int, float),
    }
    for name, kind in kinds.items():
        if not isinstance(getattr(found, name), kind):
            raise TypeError(f"{name} is {getattr(found, name)!r}")
    return found


def write_tensors(path: Path, tensors: Mapping[str, Tensor], kind: str, facts: Mapping[str, Any]) -> None:
    """Write a safetensors file in one step, so that a reader finds the old one or the whole new one.

    Args:
        kind: name and version of the format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(dict(tensors), partial, {"format": kind, "facts": json.dumps(facts)})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and facts of a file that `write_tensors` wrote.

    Raises:
        ModelFormatError: the file is missing or damaged, or has another format.
    """
    read_safetensors_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise damaged(path, str(error)) from error
    if metadata.get("format") != kind:
        raise damaged(path, f"its format is {metadata.get('format')!r}, not {kind!r}")
    try:
        facts = json.loads(metadata.get("facts", ""))
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise damaged(path, "its metadata do not say what it was fitted to")
    return tensors, facts


def damaged(path: Path, what: str) -> ModelFormatError:
    """Return an error that names a file and what is wrong with it."""
    return ModelFormatError(f"{path} is no Jacobian lens: {what}. Fit it again.")
