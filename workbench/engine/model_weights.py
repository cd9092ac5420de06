"""The weights of a model that a `BlockStructure` describes, whatever their matrices are held in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.engine.block_structure import BlockStructure


class Sized(Protocol):
    """Interface of a matrix."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""


M = TypeVar("M", bound=Sized)
"""Type of a model's matrices."""


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
class Block(Generic[M]):
    """The weights of one layer."""

    pre_attention_norm: Norm | None
    qkv: tuple[M, ...]
    """The matrices of queries, keys and values, or one with the rows of all three."""
    qk_norm: Norm | None
    """Weights for each component of the query heads, then the key heads, shape ((heads + kv_heads) * head_dim,)."""
    output: M
    post_attention_norm: Norm | None
    pre_mlp_norm: Norm | None
    router: M | None
    """Matrix that rates experts."""
    gate_up: tuple[M, ...]
    """Gate and up, or one matrix with the rows of both; of a plain MLP, its first projection. The rows of experts
    follow each other: first those of all gates, then those of all others."""
    down: M
    post_mlp_norm: Norm | None

    @property
    def matrices(self) -> tuple[M, ...]:
        return *self.qkv, self.output, *self.gate_up, self.down

    @property
    def norms(self) -> tuple[Norm | None, ...]:
        """In the order of `Weights.norms`."""
        return (
            self.pre_attention_norm, self.post_attention_norm, self.pre_mlp_norm, self.post_mlp_norm, self.qk_norm,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelWeights(Generic[M]):
    """All weights of a model.

    Args:
        embedding: one row per token.
        positions: one row per learned position, from position 0 on.
    """

    structure: BlockStructure
    blocks: Sequence[Block[M]]
    embedding: M
    positions: M | None
    final_norm: Norm
    head: M

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in {id(part): part for part in self._parts()}.values())

    def _parts(self) -> Iterator[M | Norm]:
        yield from (self.embedding, self.head, self.final_norm)
        if self.positions:
            yield self.positions
        for block in self.blocks:
            yield from block.matrices
            if block.router:
                yield block.router
            yield from (norm for norm in block.norms if norm)


def apply_norm(structure: BlockStructure, hidden: Tensor, norm: Norm) -> Tensor:
    """Return the norm of float32 rows, shape (rows, hidden)."""
    if structure.norm == "layer":
        return F.layer_norm(hidden, hidden.shape[1:], norm.weight, norm.bias, structure.norm_eps)
    # `torch.rms_norm` takes twice as many operations.
    size = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)  # (rows, 1)
    root_eps = torch.tensor(structure.norm_eps**0.5)
    return (hidden * norm.weight).div_(torch.hypot(size * hidden.shape[-1] ** -0.5, root_eps))
