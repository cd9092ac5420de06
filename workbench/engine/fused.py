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


@dataclass(frozen=True, slots=True)
class Block:
    """The weights of one layer."""

    attention_norm: Tensor
    qkv: Linear
    """Rows: all query heads, then key heads, then value heads."""
    qk_norm: Tensor | None
    """Qwen3's norm of each query and key head, shape (heads + kv_heads, head_dim)."""
    output: Linear
    mlp_norm: Tensor
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

    def reserve(self, length: int) -> None:
        """Make room for ``length`` tokens in all."""
        if length <= self._capacity:
            return
        old = self.kv
        self._allocate(max(length, min(2 * self._capacity, self._shape.context_length)), old.dtype)
        self.kv[:, :, :, : self.length] = old[:, :, :, : self.length]

    def _allocate(self, capacity: int, dtype: torch.dtype) -> None:
        shape = self._shape
        self._capacity = capacity
        # (layers, key or value, kv_heads, capacity, head_dim); never read beyond `length`, so it may start as it is
        self.kv = torch.empty(shape.layers, 2, shape.kv_heads, capacity, shape.head_dim, dtype=dtype)
        self.layers: list[tuple[Tensor, Tensor]] = [(layer[0], layer[1]) for layer in self.kv]


class FusedDecoder:
    """A Llama-family model as one function over packed weights."""

    rows_per_step = ROWS_PER_STEP

    def __init__(
        self,
        shape: Shape,
        blocks: list[Block],
        *,
        embedding: Tensor,
        norm: Tensor,
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
        return self._logits(hidden if every_position else hidden[-1:])

    def embed(self, token_ids: Sequence[int]) -> Tensor:
        return self._normed(self._read(token_ids, self.new_cache())).float()

    def _read(self, token_ids: Sequence[int], cache: FusedCache) -> Tensor:
        """Append tokens to a sequence; the stream after the last layer, shape (tokens, hidden)."""
        past, count = cache.length, len(token_ids)
        cache.reserve(past + count)
        cos, sin = self._rotary.span(past, count)  # (count, 1, head_dim)
        mask = None if past == 0 or count == 1 else torch.ones(count, past + count, dtype=torch.bool).tril(past)
        hidden = F.embedding(torch.tensor(token_ids), self._embedding)  # (count, hidden)
        for block, (keys, values) in zip(self._blocks, cache.layers, strict=True):
            qk, v = self._qkv(block, hidden, cos, sin)
            self._store(keys, values, qk, v, past)
            attended = F.scaled_dot_product_attention(
                qk[:, : self._shape.heads].transpose(0, 1).unsqueeze(0),  # (1, heads, count, head_dim)
                keys[:, : past + count].unsqueeze(0),
                values[:, : past + count].unsqueeze(0),
                attn_mask=mask,
                is_causal=past == 0 and count > 1,
                enable_gqa=True,
            )[0].transpose(0, 1)  # (count, heads, head_dim)
            hidden = self._rest(block, hidden, attended.reshape(count, -1))
        cache.length = past + count
        return hidden

    def decode(self, token_ids: Sequence[int], caches: Sequence[FusedCache]) -> Tensor:
        positions = [cache.length for cache in caches]
        for cache in caches:
            cache.reserve(cache.length + 1)
        cos, sin = self._rotary.rows(positions)  # (rows, 1, head_dim)
        hidden = F.embedding(torch.tensor(token_ids), self._embedding)  # (rows, hidden)
        for index, block in enumerate(self._blocks):
            qk, v = self._qkv(block, hidden, cos, sin)
            attended = [
                self._attend(qk[row : row + 1], v[row : row + 1], *cache.layers[index], position)
                for row, (cache, position) in enumerate(zip(caches, positions, strict=True))
            ]
            hidden = self._rest(block, hidden, attended[0] if len(attended) == 1 else torch.cat(attended))
        for cache in caches:
            cache.length += 1
        return self._logits(hidden)

    def memory_bytes(self) -> int:
        """Memory held by the weights, in all the forms in which they are kept."""
        linears = [linear for block in self._blocks for linear in (block.qkv, block.output, block.gate_up, block.down)]
        return self._embedding.nbytes + sum(linear.nbytes for linear in (*linears, self._head))

    def _qkv(self, block: Block, hidden: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Rotated queries and keys, shape (rows, heads + kv_heads, head_dim), and values (rows, kv_heads, head_dim)."""
        shape = self._shape
        normed = F.rms_norm(hidden, block.attention_norm.shape, block.attention_norm, shape.rms_norm_eps)
        heads = block.qkv(normed).unflatten(1, (-1, shape.head_dim))  # (rows, heads + 2 * kv_heads, head_dim)
        qk, v = heads.split((shape.heads + shape.kv_heads, shape.kv_heads), dim=1)
        if block.qk_norm is not None:
            qk = F.rms_norm(qk, (shape.head_dim,), None, shape.rms_norm_eps) * block.qk_norm
        # Half of each head's numbers turn with the other half; the sign of the sine carries the minus.
        turned = qk.roll(shape.head_dim // 2, -1)
        return torch.addcmul(qk * cos, turned, sin).to(v.dtype), v

    def _store(self, keys: Tensor, values: Tensor, qk: Tensor, v: Tensor, past: int) -> None:
        upto = past + len(qk)
        keys[:, past:upto] = qk[:, self._shape.heads :].transpose(0, 1)
        values[:, past:upto] = v.transpose(0, 1)

    def _attend(self, qk: Tensor, v: Tensor, keys: Tensor, values: Tensor, past: int) -> Tensor:
        """Attention of one new token over its own sequence, shape (1, heads * head_dim)."""
        shape = self._shape
        self._store(keys, values, qk, v, past)
        # The query heads of one key head stand as if they were its successive queries: grouped attention with no
        # copy of the keys, and no mask, because all of them see the whole past.
        grouped = qk[:, : shape.heads].view(1, shape.kv_heads, -1, shape.head_dim)
        attended = F.scaled_dot_product_attention(
            grouped, keys[:, : past + 1].unsqueeze(0), values[:, : past + 1].unsqueeze(0)
        )
        return attended.view(1, -1)

    def _rest(self, block: Block, hidden: Tensor, attended: Tensor) -> Tensor:
        """The output of attention and the MLP, each added to the stream."""
        hidden = hidden + block.output(attended)
        normed = F.rms_norm(hidden, block.mlp_norm.shape, block.mlp_norm, self._shape.rms_norm_eps)
        gate, up = block.gate_up(normed).chunk(2, dim=1)
        return hidden + block.down(F.silu(gate) * up)

    def _logits(self, hidden: Tensor) -> Tensor:
        return self._head(self._normed(hidden)).float()

    def _normed(self, hidden: Tensor) -> Tensor:
        return F.rms_norm(hidden, self._norm.shape, self._norm, self._shape.rms_norm_eps)


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
