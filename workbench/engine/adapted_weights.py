"""Weights of a base model with an adapter merged into them as they are read, whatever files they are in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.engine.adapters import Adapter
from workbench.engine.weight_sizes import StoredFormat
from workbench.engine.weights import Blocks, Checkpoint, Int8Blocks, pad_columns


class AdaptedWeights:
    """The merged weights; satisfies `Checkpoint`. Tensors that the adapter does not change are those of the base model.

    Args:
        base: weights of the base model.
        tensors: the adapter's open safetensors file.
        full_name: function from a tensor's name in the base model's files to the name by which methods find it.
    """

    def __init__(self, base: Checkpoint, adapter: Adapter, tensors: Any, full_name: Callable[[str], str] = str) -> None:
        self._base = base
        self._tensors = tensors
        self._full_name = full_name
        self._changes = {full_name(name): change for name, change in adapter.changes.items()}

    def names(self) -> set[str]:
        return self._base.names() | set(self._changes)

    def shape(self, name: str) -> tuple[int, ...]:
        change = self._changes.get(name)
        return self._base.shape(name if change is None else self._full_name(change.source))

    def is_same(self, first: str, second: str) -> bool:
        """Return whether two tensors are equal."""
        if {first, second} & set(self._changes):
            return torch.equal(self.dense(first), self.dense(second))
        return self._base.is_same(first, second)

    def dense(self, name: str) -> Tensor:
        """Return the merged tensor in float32; one that the adapter does not change as the base model has it."""
        change = self._changes.get(name)
        if change is None:
            return self._base.dense(name)
        return change.applied(lambda source: self._base.dense(self._full_name(source)), self._tensors.get_tensor)

    def blocks(self, name: str) -> Blocks:
        """Return the matrix in 4-bit blocks: the base model's own if the adapter does not change it."""
        return Blocks.of(pad_columns(self.dense(name))) if name in self._changes else self._base.blocks(name)

    def int8_blocks(self, name: str) -> Int8Blocks:
        """Return the matrix in 8-bit blocks, like `blocks`."""
        return Int8Blocks.of(pad_columns(self.dense(name))) if name in self._changes else self._base.int8_blocks(name)

    def kept(self, names: Sequence[str]) -> tuple[str, Tensor] | None:
        """Return type and rows of matrices of which none is merged, if the step reads them as the file has them."""
        return None if set(names) & set(self._changes) else self._base.kept(names)

    def stored_format(self, names: list[str]) -> StoredFormat:
        """Return the format that holds several matrices together exactly: ``float32`` if one of them is merged."""
        return "float32" if set(names) & set(self._changes) else self._base.stored_format(names)
