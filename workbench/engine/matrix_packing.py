"""Packing of a model's matrices in one precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from workbench.engine.block_structure import BlockStructure
from workbench.engine.kernels.matrix import Matrix
from workbench.engine.kernels.simd import ROWS
from workbench.engine.model_reading import MatrixReader, MatrixRole
from workbench.engine.packed_models import PackedParts
from workbench.engine.precision import Precision
from workbench.engine.weight_sizes import StoredFormat
from workbench.engine.weights import Blocks, Checkpoint, Int8Blocks, pad_columns

_OUTER_PRECISION: dict[Precision, Precision] = {"int4": "int8", "fp8": "bf16"}
"""Precisions of embedding and head where they differ: 4 bits would cost far more accuracy than they save memory."""


_DENSE: Mapping[str, Callable[[Tensor, Tensor | None], Matrix]] = {
    "float32": Matrix.float32,
    "float16": Matrix.float16,
    "fp8": Matrix.fp8,
    "bf16": Matrix.bf16,
}
"""Formats without blocks in any file."""


class MatrixPacker(MatrixReader[Matrix]):
    """Packer of the matrices of one model.

    Args:
        parts: matrices that were packed before; all others are added to it.
    """

    def __init__(self, structure: BlockStructure, files: Checkpoint, precision: Precision, parts: PackedParts) -> None:
        super().__init__(structure, files)
        outer = _OUTER_PRECISION.get(precision, precision)
        # Ratings are float32, because rounding would choose other experts.
        self._precisions: dict[MatrixRole, Precision] = {"layer": precision, "router": "float32", "outer": outer}
        self._parts = parts
        self.keeps_formats = precision == "file"
        self.splits_heads = structure.head_dim % ROWS == 0

    def read(
        self,
        names: Sequence[str],
        role: MatrixRole,
        bias: Tensor | None = None,
        *,
        order: Tensor | None = None,
        is_transposed: bool = False,
    ) -> Matrix:
        precision = self._precisions[role]
        key = f"{precision} {' '.join(names)}{'' if bias is None else ' biased'}"
        return self._parts.matrix(key, lambda: self._packed(names, precision, bias, order, is_transposed))

    def _packed(
        self, names: Sequence[str], precision: Precision, bias: Tensor | None, order: Tensor | None, is_transposed: bool
    ) -> Matrix:
        def dense(name: str) -> Tensor:
            weight = self._files.dense(name)
            return weight.T.contiguous() if is_transposed else weight

        columns = self._files.shape(names[0])[0 if is_transposed else 1]
        stored: Precision | StoredFormat = precision
        if precision == "file":
            kept = self._files.kept(names) if order is None and not is_transposed else None
            if kept is not None:
                return Matrix.of_file(*kept, columns, bias)
            stored = self._files.stored_format(list(names))
        match stored:
            case "int4":
                read = (lambda name: Blocks.of(pad_columns(dense(name)))) if is_transposed else self._files.blocks
                blocks = Blocks.cat([read(name) for name in names])
                return Matrix.int4(blocks if order is None else blocks.rows(order), columns, bias)
            case "int8":
                read8 = (
                    (lambda name: Int8Blocks.of(pad_columns(dense(name)))) if is_transposed else self._files.int8_blocks
                )
                blocks8 = Int8Blocks.cat([read8(name) for name in names])
                return Matrix.int8(blocks8 if order is None else blocks8.rows(order), columns, bias)
        weight = torch.cat([dense(name) for name in names]) if len(names) > 1 else dense(names[0])
        return _DENSE[stored](weight if order is None else weight[order], bias)
