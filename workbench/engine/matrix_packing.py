"""Packing of a model's matrices in one precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor

from workbench.engine.block_structure import BlockStructure, expert_prefixes
from workbench.engine.kernels.matrix import Matrix
from workbench.engine.kernels.simd import ROWS
from workbench.engine.packed_models import PackedParts
from workbench.engine.precision import Precision
from workbench.engine.weight_sizes import StoredFormat
from workbench.engine.weights import Blocks, Int8Blocks, Weights, pad_columns

_OUTER_PRECISION: dict[Precision, Precision] = {"int4": "int8", "fp8": "bf16"}
"""Precisions of embedding and head where they differ: 4 bits would cost far more accuracy than they save memory."""


_DENSE: Mapping[str, Callable[[Tensor, Tensor | None], Matrix]] = {
    "float32": Matrix.float32,
    "float16": Matrix.float16,
    "fp8": Matrix.fp8,
    "bf16": Matrix.bf16,
}
"""Formats without blocks in any file."""


class MatrixPacker:
    """Packer of the matrices of one model.

    Args:
        parts: matrices that were packed before; all others are added to it.
    """

    def __init__(self, structure: BlockStructure, files: Weights, precision: Precision, parts: PackedParts) -> None:
        self._structure = structure
        self._files = files
        self._precision = precision
        self._parts = parts
        self._outer = _OUTER_PRECISION.get(precision, precision)

    def linear(self, *modules: str) -> Matrix:
        """Return one matrix with the rows of several modules of a layer concatenated."""
        names = [f"{module}.weight" for module in modules]
        return self._matrix(names, self._precision, self._bias(modules), is_transposed=self._structure.is_transposed)

    def router(self, module: str) -> Matrix:
        """Return the matrix that rates experts, in float32: rounding would choose others."""
        return self._matrix([f"{module}.weight"], "float32")

    def qkv(self, prefix: str) -> tuple[Matrix, ...]:
        """Return the matrices of queries, keys and values, or one with all query heads, then key and value heads."""
        structure = self._structure
        modules = [f"{prefix}.{name}" for name in structure.names.qkv]
        order = qkv_order(structure)
        if order is None and structure.head_dim % ROWS == 0:
            return self._together([[module] for module in modules])
        bias = self._bias(modules)
        if bias is not None and order is not None:
            bias = bias[order]
        names, is_transposed = [f"{module}.weight" for module in modules], structure.is_transposed
        return (self._matrix(names, self._precision, bias, order=order, is_transposed=is_transposed),)

    def gate_up(self, prefix: str) -> tuple[Matrix, ...]:
        """Return the matrices of gate and up, or one with the rows of both; the rows of experts follow each other."""
        experts = expert_prefixes(self._structure)
        names = self._structure.names.gate_up
        return self._together([[f"{prefix}.{one}{name}" for one in experts] for name in names])

    def _together(self, parts: Sequence[Sequence[str]]) -> tuple[Matrix, ...]:
        """Return parts, each the modules of one matrix, as one matrix unless each keeps the format of its file."""
        if self._precision == "file":
            return tuple(self.linear(*modules) for modules in parts)
        return (self.linear(*chain.from_iterable(parts)),)

    def embedding_and_head(self) -> tuple[Matrix, Matrix]:
        """Return the embedding and the head.

        They are one matrix if the file has no head or an equal one. The config's ``tie_word_embeddings`` is ignored, as
        in transformers, if the file has two different ones.
        """
        names = self._structure.names
        embedding_name, head_name = f"{names.embedding}.weight", f"{names.head}.weight"
        embedding = self._matrix([embedding_name], self._outer)
        bias = self._bias([names.head])
        present = head_name in self._files.names()
        if bias is None and not (present and not self._files.is_same(embedding_name, head_name)):
            return embedding, embedding
        return embedding, self._matrix([head_name if present else embedding_name], self._outer, bias)

    def positions(self) -> Matrix | None:
        """Return the embeddings of learned positions, from position 0 on."""
        structure = self._structure
        if structure.names.positions is None:
            return None
        order = torch.arange(structure.position_count) + structure.position_offset
        return self._matrix([f"{structure.names.positions}.weight"], self._outer, order=order)

    def _matrix(
        self,
        names: Sequence[str],
        precision: Precision,
        bias: Tensor | None = None,
        *,
        order: Tensor | None = None,
        is_transposed: bool = False,
    ) -> Matrix:
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

    def _bias(self, modules: Sequence[str]) -> Tensor | None:
        """Return the concatenated biases; None if there are none."""
        present = self._files.names()
        if not any(f"{module}.bias" in present for module in modules):
            return None
        return torch.cat([self._files.dense(f"{module}.bias") for module in modules]).float()


def qkv_order(structure: BlockStructure) -> Tensor | None:
    """Return which rows of the files' matrices become the rows of `Block.qkv`; None if they stay as they are."""
    count = structure.heads + 2 * structure.kv_heads
    rows = torch.arange(count * structure.head_dim).view(count, -1)  # (heads, head_dim)
    if not (structure.qkv_by_head or structure.is_interleaved):
        return None
    if structure.qkv_by_head:
        rows = rows.unflatten(0, (structure.heads, 3)).transpose(0, 1).flatten(0, 1)
    if structure.is_interleaved:
        rotated = structure.heads + structure.kv_heads
        rows = torch.cat((rows[:rotated, head_order(structure)], rows[rotated:]))
    return rows.flatten()


def head_order(structure: BlockStructure) -> Tensor:
    """Return the order of a head's components in which interleaved pairs are two halves."""
    rotated = torch.arange(structure.rotary_dim)
    return torch.cat((rotated[::2], rotated[1::2], torch.arange(structure.rotary_dim, structure.head_dim)))
