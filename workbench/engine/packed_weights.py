"""The packed weights of a model: the matrices and norms of its blocks, embedding and head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.engine.block_structure import BlockStructure
from workbench.engine.kernels.activation import ACTIVATION_IDS
from workbench.engine.kernels.matrix import Matrix
from workbench.engine.kernels.step_memory import (
    HEAD_NORM,
    LAYER_NORM,
    NO_NORM,
    PROJECTION_NORM,
    RMS_NORM,
    Shape,
    Weights,
)

_QK_NORMS = {"none": NO_NORM, "head": HEAD_NORM, "own_heads": HEAD_NORM, "projection": PROJECTION_NORM}


@dataclass(frozen=True, slots=True)
class Norm:
    """The weights of a norm, float32 (width,), in memory padded with zeros to whole groups."""

    weight: Tensor
    bias: Tensor | None = None

    @property
    def addresses(self) -> tuple[int, int]:
        """The addresses of the weight, and of the bias or 0."""
        return self.weight.data_ptr(), 0 if self.bias is None else self.bias.data_ptr()

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The weights of one layer."""

    pre_attention_norm: Norm | None
    qkv: tuple[Matrix, ...]
    """The matrices of queries, keys and values, or one with the rows of all three."""
    qk_norm: Norm | None
    """Weights for each component of the query heads, then the key heads, shape ((heads + kv_heads) * head_dim,)."""
    output: Matrix
    post_attention_norm: Norm | None
    pre_mlp_norm: Norm | None
    router: Matrix | None
    """Matrix that rates experts."""
    gate_up: tuple[Matrix, ...]
    """Gate and up, or one matrix with the rows of both; of a plain MLP, its first projection. The rows of experts
    follow each other: first those of all gates, then those of all others."""
    down: Matrix
    post_mlp_norm: Norm | None

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        return *self.qkv, self.output, *self.gate_up, self.down

    def linears(self, structure: BlockStructure) -> list[list[int]]:
        """Return the descriptors of the linear layers, in the order of `Weights.linears`."""
        sizes = [heads * structure.head_dim for heads in (structure.heads, structure.kv_heads, structure.kv_heads)]
        inner = structure.inner * (structure.experts or 1)
        return [
            *_descriptors(self.qkv, sizes),
            self.output.descriptor,
            *_descriptors(self.gate_up, [inner, inner]),
            self.down.descriptor,
        ]

    @property
    def norms(self) -> tuple[Norm | None, ...]:
        """In the order of `Weights.norms`."""
        return (
            self.pre_attention_norm, self.post_attention_norm, self.pre_mlp_norm, self.post_mlp_norm, self.qk_norm,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedWeights:
    """All weights of a model.

    Args:
        embedding: one row per token.
        positions: one row per learned position, from position 0 on.
    """

    structure: BlockStructure
    blocks: Sequence[Block]
    embedding: Matrix
    positions: Matrix | None
    final_norm: Norm
    head: Matrix

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in {id(part): part for part in self._parts()}.values())

    def addresses(self) -> Weights:
        """Return the addresses that kernels read; the caller keeps this object alive."""
        layers = self.structure.layers[: len(self.blocks)]
        linears = [block.linears(self.structure) for block in self.blocks]
        norms = [[(0, 0) if norm is None else norm.addresses for norm in block.norms] for block in self.blocks]
        rotary = [-1 if layer.rotary is None else layer.rotary for layer in layers]
        return Weights(
            linears=np.array(linears, np.int64).reshape(-1, 7, 5),
            norms=np.array([*norms, [self.final_norm.addresses, *[(0, 0)] * 4]], np.int64),
            layers=np.array(
                [[index, layer.window, layer.chunk] for index, layer in zip(rotary, layers, strict=True)], np.int64
            ).reshape(-1, 3),
            routers=np.array(
                [block.router.descriptor if block.router else [0] * 5 for block in self.blocks], np.int64
            ).reshape(-1, 5),
            attention_scales=np.array([layer.attention_scale for layer in layers], np.float32),
            embedding=np.array(self.embedding.descriptor, np.int64),
            positions=np.array(self.positions.descriptor if self.positions else [0] * 5, np.int64),
            head=np.array(self.head.descriptor, np.int64),
        )

    def _parts(self) -> Iterator[Matrix | Norm]:
        yield from (self.embedding, self.head, self.final_norm)
        if self.positions:
            yield self.positions
        for block in self.blocks:
            yield from block.matrices
            if block.router:
                yield block.router
            yield from (norm for norm in block.norms if norm)


def _descriptors(matrices: Sequence[Matrix], sizes: Sequence[int]) -> list[list[int]]:
    """Return the descriptors of parts, each a matrix, or all in one matrix, one after the other."""
    if len(matrices) == len(sizes):
        return [matrix.descriptor for matrix in matrices]
    (joined,) = matrices
    return [joined.descriptor_from(sum(sizes[:part])) for part in range(len(sizes))]


def kernel_shape(structure: BlockStructure) -> Shape:
    """Return the numbers by which kernels know a structure, each of one type, so that they are compiled once."""
    return Shape(
        layers=len(structure.layers),
        hidden=structure.hidden,
        inner=structure.inner,
        vocab=structure.vocab,
        heads=structure.heads,
        kv_heads=structure.kv_heads,
        head_dim=structure.head_dim,
        eps=float(structure.norm_eps),
        norm=LAYER_NORM if structure.norm == "layer" else RMS_NORM,
        qk_norm=_QK_NORMS[structure.qk_norm],
        activation=ACTIVATION_IDS[structure.activation],
        is_gated=structure.is_gated,
        is_parallel=structure.is_parallel,
        experts=structure.experts,
        active_experts=structure.active_experts,
        normalizes_experts=structure.normalizes_experts,
        rotary_dim=structure.rotary_dim,
        attention_cap=float(structure.attention_cap),
        embedding_scale=float(structure.embedding_scale),
        residual_scale=float(structure.residual_scale),
        logit_scale=float(structure.logit_scale),
        logit_cap=float(structure.logit_cap),
    )


def apply_norm(structure: BlockStructure, hidden: Tensor, norm: Norm) -> Tensor:
    """Return the norm of float32 rows, shape (rows, hidden)."""
    if structure.norm == "layer":
        return F.layer_norm(hidden, hidden.shape[1:], norm.weight, norm.bias, structure.norm_eps)
    # `torch.rms_norm` takes twice as many operations.
    size = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)  # (rows, 1)
    root_eps = torch.tensor(structure.norm_eps**0.5)
    return (hidden * norm.weight).div_(torch.hypot(size * hidden.shape[-1] ** -0.5, root_eps))
