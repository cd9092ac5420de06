"""The fast step: Llama-family blocks in few, large operations over weights packed once.

Llama, Mistral, Qwen2 and Qwen3 share one block: norm, attention with rotary positions and grouped keys, norm, gated
MLP. Written out over plain tensors it needs about half the operations of transformers' modules, one matrix for query,
key and value and one for gate and up, and no copy of the past: keys and values are written into a buffer in place.
What is computed is the same; `GeneralDecoder` is the oracle, and the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.engine.precision import Linear

ROWS_PER_STEP = 16
_FIRST_CAPACITY = 256


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of an architecture."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rms_norm_eps: float
    context_length: int


class Norm:
    """Root mean square norm of float32 rows.

    ``torch.rms_norm`` has no kernel of its own on a CPU and takes eight operations; with the square root of the width
    in the weight and the epsilon in a hypotenuse four are enough.
    """

    def __init__(self, weight: Tensor, eps: float, dtype: torch.dtype) -> None:
        self.nbytes = weight.nbytes
        self._weight = weight.float() * len(weight) ** 0.5
        self._eps = torch.tensor((eps * len(weight)) ** 0.5)
        self._dtype = dtype

    def __call__(self, x: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)  # (rows, 1)
        normed: Tensor = (x * self._weight).div_(torch.hypot(size, self._eps)).to(self._dtype)
        return normed


@dataclass(frozen=True, slots=True)
class Block:
    """The weights of one layer."""

    attention_norm: Norm
    qkv: Linear
    """Rows: all query heads, then key heads, then value heads."""
    qk_norm: Tensor | None
    """Qwen3's norm of each query and key head, float32, shape (heads + kv_heads, head_dim)."""
    output: Linear
    mlp_norm: Norm
    gate_up: Linear
    """Rows: gate, then up."""
    down: Linear


class FusedCache:
    """Keys and values of one sequence for all layers in one buffer that grows by doubling."""

    def __init__(self, shape: Shape, dtype: torch.dtype, capacity: int = _FIRST_CAPACITY) -> None:
        self._shape = shape
        self.length = 0
        self._allocate(capacity, dtype)

    @property
    def nbytes(self) -> int:
        return self.kv.nbytes

    def fork(self, length: int) -> Self:
        copy = type(self)(self._shape, self.kv.dtype, length + _FIRST_CAPACITY)
        copy.kv[:, :, :, :length] = self.kv[:, :, :, :length]
        copy.length = length
        return copy

    def extend(self, count: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Make room for ``count`` more tokens; per layer, where to write them and the whole with them.

        Both hold keys and values, shapes (2, kv_heads, count, head_dim) and (2, kv_heads, length + count, head_dim).
        ``length`` is left to the caller, who sets it when the tokens are written.
        """
        upto = self.length + count
        if upto > self._capacity:
            old = self.kv
            self._allocate(max(upto, min(2 * self._capacity, self._shape.context_length)), old.dtype)
            self.kv[:, :, :, : self.length] = old[:, :, :, : self.length]
        return self.kv[:, :, :, self.length : upto].unbind(), self.kv[:, :, :, :upto].unbind()

    def _allocate(self, capacity: int, dtype: torch.dtype) -> None:
        shape = self._shape
        self._capacity = capacity
        # (layers, key or value, kv_heads, capacity, head_dim); never read beyond `length`, so it may start as it is
        self.kv = torch.empty(shape.layers, 2, shape.kv_heads, capacity, shape.head_dim, dtype=dtype)


class FusedDecoder:
    """A Llama-family model as one function over packed weights.

    The stream between layers is float32 in every precision; products and the cache are in ``dtype``.
    """

    rows_per_step = ROWS_PER_STEP

    def __init__(
        self,
        shape: Shape,
        blocks: list[Block],
        *,
        embedding: Tensor,
        norm: Norm,
        head: Linear,
        rotary: Any,
        dtype: torch.dtype,
    ) -> None:
        self._shape = shape
        self._blocks = blocks
        self._embedding = embedding  # (vocab, hidden)
        self._norm = norm
        self._head = head
        self._rotary = _RotaryTable(rotary, shape.head_dim)
        self._dtype = dtype
        self.vocab_size = len(embedding)

    def new_cache(self) -> FusedCache:
        return FusedCache(self._shape, self._dtype)

    def prefill(self, token_ids: Sequence[int], cache: FusedCache, *, every_position: bool = False) -> Tensor:
        hidden = self._read(token_ids, cache)
        return self._head(self._norm(hidden if every_position else hidden[-1:])).float()

    def embed(self, token_ids: Sequence[int]) -> Tensor:
        return self._norm(self._read(token_ids, self.new_cache())).float()

    def decode(self, token_ids: Sequence[int], caches: Sequence[FusedCache]) -> Tensor:
        cos, sin = self._rotary.rows([cache.length for cache in caches])  # (rows, 1, head_dim)
        past = [cache.extend(1) for cache in caches]
        hidden = self._embed(token_ids)  # (rows, hidden)
        for index, block in enumerate(self._blocks):
            q, kv = self._qkv(block, hidden, cos, sin)
            attended = [
                self._attend(q[row : row + 1], kv[row], new[index], whole[index])
                for row, (new, whole) in enumerate(past)
            ]
            hidden = self._rest(block, hidden, attended[0] if len(attended) == 1 else torch.cat(attended))
        for cache in caches:
            cache.length += 1
        return self._head(self._norm(hidden)).float()

    def memory_bytes(self) -> int:
        """Memory held by the weights, in all the forms in which they are kept."""
        parts = [part for block in self._blocks for part in (block.qkv, block.output, block.gate_up, block.down)]
        norms = [norm for block in self._blocks for norm in (block.attention_norm, block.mlp_norm)]
        return self._embedding.nbytes + sum(part.nbytes for part in (*parts, *norms, self._norm, self._head))

    def _read(self, token_ids: Sequence[int], cache: FusedCache) -> Tensor:
        """Append tokens to a sequence; the stream after the last layer, shape (tokens, hidden)."""
        shape, past, count = self._shape, cache.length, len(token_ids)
        cos, sin = self._rotary.span(past, count)  # (count, 1, head_dim)
        mask = None if past == 0 or count == 1 else torch.ones(count, past + count, dtype=torch.bool).tril(past)
        hidden = self._embed(token_ids)  # (count, hidden)
        for block, new, whole in zip(self._blocks, *cache.extend(count), strict=True):
            q, kv = self._qkv(block, hidden, cos, sin)
            new.copy_(kv.permute(1, 2, 0, 3))
            keys, values = whole.unsqueeze(1).unbind()  # (1, kv_heads, past + count, head_dim) each
            attended = F.scaled_dot_product_attention(
                q.transpose(0, 1).unsqueeze(0),  # (1, heads, count, head_dim)
                keys,
                values,
                attn_mask=mask,
                is_causal=past == 0 and count > 1,
                enable_gqa=shape.heads != shape.kv_heads,
            )
            hidden = self._rest(block, hidden, attended[0].transpose(0, 1).reshape(count, -1))
        cache.length = past + count
        return hidden

    def _embed(self, token_ids: Sequence[int]) -> Tensor:
        return F.embedding(torch.tensor(token_ids), self._embedding).to(torch.float32, copy=True)

    def _qkv(self, block: Block, hidden: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Rotated queries (rows, heads, head_dim); rotated keys, and values (rows, 2, kv_heads, head_dim)."""
        shape = self._shape
        heads = block.qkv(block.attention_norm(hidden)).float().view(len(hidden), -1, shape.head_dim)
        qk = heads[:, : shape.heads + shape.kv_heads]
        if block.qk_norm is not None:
            qk.copy_(F.rms_norm(qk, (shape.head_dim,), None, shape.rms_norm_eps) * block.qk_norm)
        # Half of each head's numbers turn with the other half; the sign of the sine carries the minus.
        turned = qk.roll(shape.head_dim // 2, -1)
        qk.mul_(cos).addcmul_(turned, sin)
        heads = heads.to(self._dtype)
        return heads[:, : shape.heads], heads[:, shape.heads :].unflatten(1, (2, shape.kv_heads))

    def _attend(self, q: Tensor, kv: Tensor, new: Tensor, whole: Tensor) -> Tensor:
        """Attention of one new token over its own sequence, shape (1, heads * head_dim)."""
        shape = self._shape
        new.copy_(kv.unsqueeze(2))
        keys, values = whole.unsqueeze(1).unbind()  # (1, kv_heads, tokens, head_dim) each
        # The query heads of one key head stand as if they were its successive queries: grouped attention with no
        # copy of the keys, and no mask, because all of them see the whole past.
        grouped = q.view(1, shape.kv_heads, -1, shape.head_dim)
        return F.scaled_dot_product_attention(grouped, keys, values).view(1, -1)

    @staticmethod
    def _rest(block: Block, hidden: Tensor, attended: Tensor) -> Tensor:
        """The output of attention and the MLP, each added to the stream in place."""
        hidden += block.output(attended)
        gate, up = block.gate_up(block.mlp_norm(hidden)).chunk(2, dim=1)
        hidden += block.down(F.silu(gate) * up)
        return hidden


class _RotaryTable:
    """Cosines and signed sines by position, made by transformers' own rotary module and kept."""

    def __init__(self, rotary: Any, head_dim: int) -> None:
        self._rotary = rotary
        self._half = head_dim // 2
        self._cos = self._sin = torch.empty(0, 1, head_dim)

    def span(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        self._reach(first + count)
        return self._cos[first : first + count], self._sin[first : first + count]

    def rows(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        if len(positions) == 1:
            return self.span(positions[0], 1)
        self._reach(max(positions) + 1)
        index = torch.tensor(positions)
        return self._cos[index], self._sin[index]

    def _reach(self, length: int) -> None:
        if length <= len(self._cos):
            return
        positions = torch.arange(max(length, 2 * len(self._cos), 512))
        cos, sin = self._rotary(torch.empty(0), positions.unsqueeze(0))  # (1, positions, head_dim) each
        sin = torch.cat((-sin[..., : self._half], sin[..., self._half :]), dim=-1)
        self._cos, self._sin = cos[0].unsqueeze(1), sin[0].unsqueeze(1)  # (positions, 1, head_dim)
