"""Weights of a model as dense matrices on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.engine.block_structure import BlockStructure
from workbench.engine.model_reading import MatrixReader, MatrixRole, WeightReader
from workbench.engine.model_weights import Block, ModelWeights, Norm
from workbench.engine.weights import Checkpoint


@dataclass(frozen=True, slots=True)
class DenseMatrix:
    """A matrix with the bias of its rows."""

    weight: Tensor
    """Shape (rows, columns)."""
    bias: Tensor | None = None
    """In the dtype of the weight, shape (rows,)."""

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x @ weight.T + bias`` in the dtype of the weight, shape (..., columns) to (..., rows)."""
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


DenseBlock = Block[DenseMatrix]
DenseWeights = ModelWeights[DenseMatrix]


class DenseReader(MatrixReader[DenseMatrix]):
    """Reader of matrices that are moved to a device one by one, so that the host never holds them all.

    Args:
        dtype: of all matrices but those that rate experts, which are float32: rounding would choose other experts.
    """

    def __init__(self, structure: BlockStructure, files: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(structure, files)
        self._device = device
        self._dtype = dtype

    def read(
        self,
        names: Sequence[str],
        role: MatrixRole,
        bias: Tensor | None = None,
        *,
        order: Tensor | None = None,
        is_transposed: bool = False,
    ) -> DenseMatrix:
        dtype = torch.float32 if role == "router" else self._dtype
        parts = [self._files.dense(name) for name in names]
        weight = torch.cat([part.T if is_transposed else part for part in parts])
        weight = weight if order is None else weight[order]
        moved = weight.to(self._device, dtype).contiguous()
        return DenseMatrix(moved, None if bias is None else bias.to(self._device, dtype))

    def placed(self, norm: Norm) -> Norm:
        return Norm(norm.weight.to(self._device), None if norm.bias is None else norm.bias.to(self._device))


class LazyBlocks(Sequence[DenseBlock]):
    """The blocks of a model, each read whenever it is indexed, so that only one is held."""

    def __init__(self, reader: WeightReader[DenseMatrix], count: int) -> None:
        self._reader = reader
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> DenseBlock: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[DenseBlock]: ...
    def __getitem__(self, index: int | slice) -> DenseBlock | Sequence[DenseBlock]:
        if isinstance(index, slice):
            return [self._reader.block(one) for one in range(self._count)[index]]
        return self._reader.block(range(self._count)[index])
