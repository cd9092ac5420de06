"""Weights of a model folder, read one at a time by name.

A folder may have a ``blocks.safetensors`` beside the ordinary weights: the quantized blocks of the GGUF file that it
was converted from, so that they need not be quantized a second time. Matrices in one of the `grouped_layouts` have the
name and shape that they would have without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from safetensors import safe_open
from torch import Tensor, nn

from workbench.engine.grouped_formats import Groups, read_groups
from workbench.engine.grouped_layouts import ADVICE, GroupedLayout, matrices
from workbench.engine.model_folder import read_json
from workbench.engine.quantization_settings import stored_format
from workbench.engine.weight_sizes import GROUP, StoredFormat
from workbench.errors import ModelFormatError

BLOCKS_FILE = "blocks.safetensors"


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix in 4 bits: ``scale * q + minimum`` for groups of 32 along each row."""

    q: Tensor
    """uint8 from 0 to 15, shape (rows, columns)."""
    scale: Tensor
    """float32, shape (rows, columns / 32)."""
    minimum: Tensor
    """float32, shape (rows, columns / 32)."""

    @classmethod
    def of(cls, weight: Tensor) -> Self:
        """Quantize a float matrix: each group from its smallest value (q = 0) to its largest (q = 15)."""
        groups = weight.float().unflatten(1, (-1, GROUP))  # (rows, groups, 32)
        minimum, maximum = groups.amin(-1), groups.amax(-1)
        scale = (maximum - minimum) / 15
        step = torch.where(scale > 0, scale, 1.0)
        q = ((groups - minimum.unsqueeze(-1)) / step.unsqueeze(-1)).round_().clamp_(0, 15)
        return cls(q.to(torch.uint8).flatten(1), scale, minimum)

    @classmethod
    def cat(cls, parts: list[Blocks]) -> Self:
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("q", "scale", "minimum")))

    def rows(self, order: Tensor) -> Blocks:
        """Return the matrix with its rows in another order."""
        return Blocks(self.q[order], self.scale[order], self.minimum[order])

    def dense(self) -> Tensor:
        """Return the float32 matrix, shape (rows, columns)."""
        groups: Tensor = self.q.unflatten(1, (-1, GROUP)) * self.scale.unsqueeze(-1) + self.minimum.unsqueeze(-1)
        return groups.flatten(1)


@dataclass(frozen=True, slots=True)
class Int8Blocks:
    """A matrix in 8 bits: ``scale * q`` for groups of 32 along each row."""

    q: Tensor
    """int8, shape (rows, columns)."""
    scale: Tensor
    """float32, shape (rows, columns / 32)."""

    @classmethod
    def of(cls, weight: Tensor) -> Self:
        """Quantize a float matrix: the largest number of each group becomes 127 or -127."""
        groups = weight.float().unflatten(1, (-1, GROUP))  # (rows, groups, 32)
        scale = groups.abs().amax(-1, keepdim=True) / 127
        q = (groups / torch.where(scale == 0, 1.0, scale)).round_()
        return cls(q.to(torch.int8).flatten(1), scale.squeeze(-1))

    @classmethod
    def cat(cls, parts: list[Int8Blocks]) -> Self:
        return cls(torch.cat([part.q for part in parts]), torch.cat([part.scale for part in parts]))

    def rows(self, order: Tensor) -> Int8Blocks:
        """Return the matrix with its rows in another order."""
        return Int8Blocks(self.q[order], self.scale[order])


class Checkpoint(Protocol):
    """The weights of a model by name: those of safetensors files, or of a GGUF file."""

    def names(self) -> set[str]:
        """Return the names of all tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""

    def is_same(self, first: str, second: str) -> bool:
        """Return whether two tensors are equal."""

    def dense(self, name: str) -> Tensor:
        """Return the tensor as stored in the file; if that is in blocks, in float32."""

    def blocks(self, name: str) -> Blocks:
        """Return the matrix in 4-bit blocks: the file's own, or else quantized, with padded columns."""

    def int8_blocks(self, name: str) -> Int8Blocks:
        """Return the matrix in 8-bit blocks, like `blocks`."""

    def kept(self, names: Sequence[str]) -> tuple[str, Tensor] | None:
        """Return type and rows, uint8 (rows, bytes), of matrices that the step reads as the file has them, or None."""

    def stored_format(self, names: list[str]) -> StoredFormat:
        """Return the smallest format that holds several matrices together with exactly the file's numbers."""


class WeightFiles:
    """Context manager that reads the safetensors files of one folder.

    Args:
        full_name: function from a tensor's name in the files to the name by which methods find it.
    """

    def __init__(self, folder: Path, full_name: Callable[[str], str] = str) -> None:
        self._folder = folder
        self._full_name = full_name
        self._files = ExitStack()
        self._file_of: dict[str, tuple[Any, str]] = {}
        self._grouped: dict[str, dict[str, str]] = {}
        self._format: GroupedLayout | None = None
        self._blocks: Any = None
        self._block_types: dict[str, str] = {}

    def __enter__(self) -> Self:
        for path in shards(self._folder):
            file = self._files.enter_context(safe_open(path, framework="pt"))
            self._file_of |= {self._full_name(name): (file, name) for name in file.keys()}  # noqa: SIM118 - no mapping
        self._format = stored_format(self._folder)
        if self._format is not None:
            self._grouped = matrices(self._format, {name: self._stored_shape(name) for name in self._file_of})
        path = self._folder / BLOCKS_FILE
        if path.exists():
            self._blocks = self._files.enter_context(safe_open(path, framework="pt"))
            self._block_types = json.loads(self._blocks.metadata()["types"])
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def names(self) -> set[str]:
        parts = {part for matrix in self._grouped.values() for part in matrix.values()}
        return (set(self._file_of) - parts) | set(self._grouped)

    def shape(self, name: str) -> tuple[int, ...]:
        if name in self._grouped and self._format is not None:
            return self._format.shape(self._part_shapes(name)) or ()
        return self._stored_shape(name)

    def is_same(self, first: str, second: str) -> bool:
        """Return whether two tensors are equal."""
        return torch.equal(self.dense(first), self.dense(second))

    def dense(self, name: str) -> Tensor:
        """Return the tensor as stored in the file; in float32 if its format is grouped."""
        if name in self._grouped:
            return self._groups(name).dense()
        return self._stored(name)

    def blocks(self, name: str) -> Blocks:
        """Return the matrix in 4-bit blocks: the file's own, or else quantized, with padded columns."""
        if name in self._grouped:
            groups = self._groups(name)
            return Blocks(groups.q, *groups.per_block())
        if self._block_types.get(name) != "Q4_1":
            return Blocks.of(pad_columns(self.dense(name)))
        rows, columns = self.shape(name)
        packed, scale, minimum = (
            self._part(f"{name}.{part}", (rows, columns // per))
            for part, per in (("q", 2), ("scale", GROUP), ("minimum", GROUP))
        )
        q = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(1)  # the low half is the even column
        return Blocks(q, scale.float(), minimum.float())

    def int8_blocks(self, name: str) -> Int8Blocks:
        """Return the matrix in 8-bit blocks, like `blocks`."""
        if self._block_types.get(name) != "Q8_0":
            return Int8Blocks.of(pad_columns(self.dense(name)))
        rows, columns = self.shape(name)
        q, scale = (self._part(f"{name}.{part}", (rows, columns // per)) for part, per in (("q", 1), ("scale", GROUP)))
        return Int8Blocks(q, scale.float())

    def kept(self, names: Sequence[str]) -> None:
        """Return None: no format of these files is read as it is."""

    def stored_format(self, names: list[str]) -> StoredFormat:
        """Return ``bf16`` if all are stored in it, or else ``float32``."""
        return "bf16" if all(self.dense(name).dtype == torch.bfloat16 for name in names) else "float32"

    def _groups(self, name: str) -> Groups:
        assert self._format is not None, "only its matrices are grouped"
        parts = self._grouped[name]
        try:
            return read_groups(self._format, lambda part: self._stored(parts[part]), self._part_shapes(name))
        except ModelFormatError as error:
            raise ModelFormatError(f"{name} in {self._folder} is not supported: {error}. {ADVICE}") from None

    def _part_shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        return {part: self._stored_shape(full) for part, full in self._grouped[name].items()}

    def _stored(self, name: str) -> Tensor:
        file, stored = self._file_of[name]
        tensor: Tensor = file.get_tensor(stored)
        return tensor

    def _stored_shape(self, name: str) -> tuple[int, ...]:
        file, stored = self._file_of[name]
        return tuple(file.get_slice(stored).get_shape())

    def _part(self, name: str, shape: tuple[int, int]) -> Tensor:
        tensor: Tensor = self._blocks.get_tensor(name)
        if tuple(tensor.shape) != shape:
            found = tuple(tensor.shape)
            raise ModelFormatError(f"{name} in {BLOCKS_FILE} has shape {found}, not {shape}; fetch the model again")
        return tensor


def pad_columns(weight: Tensor) -> Tensor:
    """Pad the columns with zeros to whole groups."""
    return nn.functional.pad(weight, (0, -weight.shape[1] % GROUP))


def shards(folder: Path) -> list[Path]:
    """Return the weight files of the index, or the single file; a folder may have others."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise ModelFormatError(f"{index} does not say which file holds which weight; fetch the model again")
        return sorted({folder / name for name in weight_map.values()})
    return [folder / "model.safetensors"]
