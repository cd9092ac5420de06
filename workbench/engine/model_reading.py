"""Reading of a model's weights by its structure, into matrices of any kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import Generic, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.engine.block_structure import BlockStructure, expert_prefixes
from workbench.engine.model_weights import Block, M, ModelWeights, Norm
from workbench.engine.weight_sizes import GROUP
from workbench.engine.weights import Checkpoint

MatrixRole = Literal["layer", "router", "outer"]
"""Where a matrix is used: in a layer, to rate experts, or as embedding and head around the layers."""


class MatrixReader(ABC, Generic[M]):
    """Reader of the matrices of one model."""

    keeps_formats = False
    """Whether each matrix keeps the format of its file, so that those of different formats are not joined."""
    splits_heads = True
    """Whether queries, keys and values may be matrices of their own."""

    def __init__(self, structure: BlockStructure, files: Checkpoint) -> None:
        self._structure = structure
        self._files = files

    def linear(self, *modules: str) -> M:
        """Return one matrix with the rows of several modules of a layer concatenated."""
        names = [f"{module}.weight" for module in modules]
        return self.read(names, "layer", self._bias(modules), is_transposed=self._structure.is_transposed)

    def router(self, module: str) -> M:
        """Return the matrix that rates experts, in float32: rounding would choose others."""
        return self.read([f"{module}.weight"], "router")

    def qkv(self, prefix: str) -> tuple[M, ...]:
        """Return the matrices of queries, keys and values, or one with all query heads, then key and value heads."""
        structure = self._structure
        modules = [f"{prefix}.{name}" for name in structure.names.qkv]
        order = qkv_order(structure)
        if order is None and self.splits_heads:
            return self._together([[module] for module in modules])
        bias = self._bias(modules)
        if bias is not None and order is not None:
            bias = bias[order]
        names, is_transposed = [f"{module}.weight" for module in modules], structure.is_transposed
        return (self.read(names, "layer", bias, order=order, is_transposed=is_transposed),)

    def gate_up(self, prefix: str) -> tuple[M, ...]:
        """Return the matrices of gate and up, or one with the rows of both; the rows of experts follow each other."""
        experts = expert_prefixes(self._structure)
        names = self._structure.names.gate_up
        return self._together([[f"{prefix}.{one}{name}" for one in experts] for name in names])

    def _together(self, parts: Sequence[Sequence[str]]) -> tuple[M, ...]:
        """Return parts, each the modules of one matrix, as one matrix unless each keeps the format of its file."""
        if self.keeps_formats:
            return tuple(self.linear(*modules) for modules in parts)
        return (self.linear(*chain.from_iterable(parts)),)

    def embedding_and_head(self) -> tuple[M, M]:
        """Return the embedding and the head.

        They are one matrix if the file has no head or an equal one. The config's ``tie_word_embeddings`` is ignored, as
        in transformers, if the file has two different ones.
        """
        names = self._structure.names
        embedding_name, head_name = f"{names.embedding}.weight", f"{names.head}.weight"
        embedding = self.read([embedding_name], "outer")
        bias = self._bias([names.head])
        present = head_name in self._files.names()
        if bias is None and not (present and not self._files.is_same(embedding_name, head_name)):
            return embedding, embedding
        return embedding, self.read([head_name if present else embedding_name], "outer", bias)

    def positions(self) -> M | None:
        """Return the embeddings of learned positions, from position 0 on."""
        structure = self._structure
        if structure.names.positions is None:
            return None
        order = torch.arange(structure.position_count) + structure.position_offset
        return self.read([f"{structure.names.positions}.weight"], "outer", order=order)

    def placed(self, norm: Norm) -> Norm:
        """Return a norm where the matrices are."""
        return norm

    @abstractmethod
    def read(
        self,
        names: Sequence[str],
        role: MatrixRole,
        bias: Tensor | None = None,
        *,
        order: Tensor | None = None,
        is_transposed: bool = False,
    ) -> M:
        """Return one matrix with the rows of several tensors concatenated.

        Args:
            role: where the matrix is used, on which its precision may depend.
            bias: float32, shape (rows,), already in the new order.
            order: which rows become the rows of the result; None leaves them as they are.
            is_transposed: whether the tensors have the shape (columns, rows).
        """

    def _bias(self, modules: Sequence[str]) -> Tensor | None:
        """Return the concatenated biases; None if there are none."""
        present = self._files.names()
        if not any(f"{module}.bias" in present for module in modules):
            return None
        return torch.cat([self._files.dense(f"{module}.bias") for module in modules]).float()


class WeightReader(Generic[M]):
    """Reader of all weights of one model; norms are float32."""

    def __init__(self, structure: BlockStructure, files: Checkpoint, matrices: MatrixReader[M]) -> None:
        self._structure = structure
        self._files = files
        self._matrices = matrices

    def weights(self, blocks: Sequence[Block[M]] | None = None) -> ModelWeights[M]:
        """Return all weights of the model.

        Args:
            blocks: those of the layers; None reads them.
        """
        names = self._structure.names
        embedding, head = self._matrices.embedding_and_head()
        return ModelWeights(
            structure=self._structure,
            blocks=[self.block(index) for index in range(len(self._structure.layers))] if blocks is None else blocks,
            embedding=embedding,
            positions=self._matrices.positions(),
            final_norm=self._norm(names.final_norm),
            head=head,
        )

    def block(self, index: int) -> Block[M]:
        """Return the weights of one layer."""
        names, experts = self._structure.names, expert_prefixes(self._structure)
        prefix = f"{names.layers}.{index}"

        def norm(name: str | None) -> Norm | None:
            return self._norm(f"{prefix}.{name}") if name else None

        return Block(
            pre_attention_norm=norm(names.pre_attention_norm),
            qkv=self._matrices.qkv(prefix),
            qk_norm=self._qk_norm(prefix),
            output=self._matrices.linear(f"{prefix}.{names.output}"),
            post_attention_norm=norm(names.post_attention_norm),
            pre_mlp_norm=norm(names.pre_mlp_norm),
            router=self._matrices.router(f"{prefix}.{names.router}") if names.router else None,
            gate_up=self._matrices.gate_up(prefix),
            down=self._matrices.linear(*(f"{prefix}.{one}{names.down}" for one in experts)),
            post_mlp_norm=norm(names.post_mlp_norm),
        )

    def _norm(self, name: str) -> Norm:
        """Return weights in memory padded with zeros to a whole group, which the compiled step reads."""
        weight = self._files.dense(f"{name}.weight").float() + self._structure.norm_offset
        bias = self._files.dense(f"{name}.bias").float() if self._structure.has_norm_bias else None
        return self._matrices.placed(Norm(_padded(weight), None if bias is None else _padded(bias)))

    def _qk_norm(self, prefix: str) -> Norm | None:
        structure = self._structure
        if structure.qk_norm == "none":
            return None
        parts = [
            self._head_weights(f"{prefix}.{name}", heads)
            for name, heads in zip(structure.names.qk_norm, (structure.heads, structure.kv_heads), strict=True)
        ]
        weight = torch.cat(parts)  # (heads + kv_heads, head_dim)
        if structure.is_interleaved:
            weight = weight[:, head_order(structure)]
        return self._matrices.placed(Norm((weight + structure.norm_offset).flatten().contiguous()))

    def _head_weights(self, name: str, heads: int) -> Tensor:
        """Return the norm weights of query or key heads, float32, shape (heads, head_dim)."""
        if self._structure.qk_norm == "own_heads":
            return torch.stack([self._files.dense(f"{name}.norms.{head}.weight") for head in range(heads)]).float()
        weight = self._files.dense(f"{name}.weight").float()
        return weight.view(-1, self._structure.head_dim).expand(heads, -1)


def _padded(weight: Tensor) -> Tensor:
    return F.pad(weight, (0, -len(weight) % GROUP))[: len(weight)]


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
