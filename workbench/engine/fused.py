"""The fused decoder: Llama-family blocks over packed weights.

Llama, Mistral, Qwen2 and Qwen3 share one block: norm, attention with rotary positions and grouped keys, norm, gated
MLP. Decoding runs it as one compiled function over the packed weights (`workbench.engine.kernels`), in float32 for
every weight format. Prompts are bound by arithmetic, not by memory, and are computed in the precision's dtype, in the
CPU's matrix tiles or by torch. The tests compare the results with those of `GeneralDecoder`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.engine.decoders import Decoded
from workbench.engine.fused_cache import FusedCache
from workbench.engine.kernels.attention import QUERY_HEADS
from workbench.engine.kernels.matrix import Dequantizer, Matrix, padded
from workbench.engine.kernels.products import TILE_VECTORS
from workbench.engine.kernels.row_intrinsics import BLOCK
from workbench.engine.kernels.row_reductions import LogitsSummaries, masked, softmax_stats, top_k_values
from workbench.engine.kernels.simd import BF16, FLOAT32, GROUP, ROWS
from workbench.engine.kernels.step import step
from workbench.engine.kernels.step_memory import Scratch, SequenceViews, Shape, Weights
from workbench.engine.kernels.team import Team
from workbench.engine.kernels.tiles import AVAILABLE, TILE, TILE_CONFIG
from workbench.engine.rotary_table import RotaryTable
from workbench.engine.weights import Int8Blocks

ROWS_PER_STEP = 16

STEP_TOKENS = 40
"""Most prompt tokens that the compiled step reads together; with more, torch is faster."""

TILE_STEP_TOKENS = 256
"""Most prompt tokens that it reads in the CPU's matrix tiles, which multiply in bf16, as torch does."""

_TILE_MIN_TOKENS = 9
"""Fewer tokens leave a tile half empty, and are multiplied in float32."""


@dataclass(frozen=True, slots=True)
class Block:
    """The weights of one layer."""

    attention_norm: Tensor
    """float32 (hidden,), as is ``mlp_norm``."""
    qkv: Matrix
    """Rows: all query heads, then key heads, then value heads."""
    qk_norm: Tensor | None
    """Qwen3's norm of each query and key head, float32, shape (heads + kv_heads, head_dim)."""
    output: Matrix
    mlp_norm: Tensor
    gate_up: Matrix
    """Rows: gate, then up."""
    down: Matrix

    @property
    def matrices(self) -> tuple[Matrix, Matrix, Matrix, Matrix]:
        return self.qkv, self.output, self.gate_up, self.down


class FusedDecoder:
    """A Llama-family model over packed weights.

    Args:
        embedding: one row per token.
        norm: weight of the norm before the head, float32 (hidden,).
        rotary: function from positions to cosines and sines, shape (positions, head_dim) each.
        dtype: of the prompt's products and of keys and values.
        threads: number of compute threads.
    """

    rows_per_step = ROWS_PER_STEP

    def __init__(
        self,
        shape: Shape,
        blocks: list[Block],
        *,
        embedding: Matrix,
        norm: Tensor,
        head: Matrix,
        rotary: Callable[[Tensor], tuple[Tensor, Tensor]],
        dtype: torch.dtype,
        context_length: int,
        threads: int,
    ) -> None:
        self._shape = shape
        self._blocks = blocks
        self._embedding = embedding
        self._norm = norm
        self._head = head
        self._rotary = RotaryTable(rotary, shape.head_dim)
        self._dtype = dtype
        self._context_length = context_length
        self._root_eps = torch.tensor(shape.eps**0.5)
        self._team = Team(threads)
        self._lock = threading.Lock()  # two engines may share a decoder, which computes one call at a time
        self._weights = _weights(blocks, norm, embedding, head)
        self._scratch: dict[int, Scratch] = {}
        self._has_tiles = AVAILABLE and dtype == torch.bfloat16
        self._dequantizer = Dequantizer(self._team)
        self.vocab_size = shape.vocab

    supports_chunked_prefill = True

    def new_cache(self) -> FusedCache:
        return FusedCache(self._shape, self._dtype, self._context_length)

    def prefill(self, token_ids: Sequence[int], cache: FusedCache, *, every_position: bool = False) -> Tensor:
        count, past = len(token_ids), cache.length
        with self._lock:
            in_tiles = self._has_tiles and not every_position and count >= _TILE_MIN_TOKENS
            if count <= (TILE_STEP_TOKENS if in_tiles else STEP_TOKENS):
                positions, logits_rows = range(past, past + count), count if every_position else 1
                logits = self._step(token_ids, [cache] * count, positions, logits_rows, in_tiles=in_tiles)
                cache.length += count
                return logits
            hidden = self._read(token_ids, cache)
            normed = self._rms_norm(hidden if every_position else hidden[-1:], self._norm)
            return self._head.matmul_f32(normed, self._team)

    def embed(self, token_ids: Sequence[int]) -> Tensor:
        with self._lock:
            return self._rms_norm(self._read(token_ids, self.new_cache()), self._norm)

    def decode(self, token_ids: Sequence[int], caches: Sequence[FusedCache]) -> Decoded:
        summaries = LogitsSummaries.empty(len(caches), self._shape.vocab)
        with self._lock:
            logits = self._step(token_ids, caches, [cache.length for cache in caches], len(caches), summaries)
        for cache in caches:
            cache.length += 1
        return Decoded(logits, summaries.read())

    def memory_bytes(self) -> int:
        """Return the size of the weights in bytes."""
        matrices = {self._embedding, self._head, *(matrix for block in self._blocks for matrix in block.matrices)}
        norms = [norm for block in self._blocks for norm in (block.attention_norm, block.mlp_norm, block.qk_norm)]
        tensors = [self._norm, *(norm for norm in norms if norm is not None)]
        return sum(matrix.nbytes for matrix in matrices) + sum(tensor.nbytes for tensor in tensors)

    def _step(
        self,
        token_ids: Sequence[int],
        caches: Sequence[FusedCache],
        positions: Sequence[int],
        logits_rows: int,
        summaries: LogitsSummaries | None = None,
        *,
        in_tiles: bool = False,
    ) -> Tensor:
        """Decode one token for each row; return logits of the last rows, shape (logits_rows, vocab).

        Rows may be consecutive tokens of one sequence.
        """
        rows, longest = len(token_ids), max(positions) + 1
        for cache, position in zip(caches, positions, strict=True):
            cache.reserve(position + 1 - cache.length)
        if not 0 <= min(token_ids) <= max(token_ids) < self._shape.vocab:  # the step reads by address
            allowed = f"from 0 to {self._shape.vocab - 1}"
            raise IndexError(f"token ids must be {allowed}; got ids from {min(token_ids)} to {max(token_ids)}")
        position_ids = np.array(positions)
        cos, sin = self._rotary.rows(position_ids)  # (rows, head_dim)
        past = SequenceViews(
            BF16 if self._dtype == torch.bfloat16 else FLOAT32,
            np.array([cache.kv.data_ptr() for cache in caches]),
            np.array([cache.capacity for cache in caches]),
            position_ids,
            is_one_sequence=rows > 1 and caches[0] is caches[-1],
            in_tiles=in_tiles,
        )
        logits = torch.empty(logits_rows, padded(self._shape.vocab, BLOCK))
        if summaries is None:
            summaries = LogitsSummaries.empty(0, self._shape.vocab)
        scratch = self._scratch_of(rows, longest)
        self._team.run(
            step, self._shape, self._weights, np.array(token_ids), past, cos, sin, scratch, logits.numpy(), summaries
        )
        return logits[:, : self._shape.vocab]

    def _scratch_of(self, rows: int, length: int) -> Scratch:
        """Return scratch memory: one for each batch size, and one, of the last prompt chunk, for all larger sizes."""
        key = 0 if rows > ROWS_PER_STEP else rows
        found = self._scratch.get(key)
        if found is None or len(found.hidden) != rows or found.scores.shape[2] < length:
            found = _scratch(self._shape, rows, self._team.threads, padded(length, 1024), has_tiles=self._has_tiles)
            self._scratch[key] = found
        return found

    def _read(self, token_ids: Sequence[int], cache: FusedCache) -> Tensor:
        """Append tokens to a sequence; return the last layer's hidden states, float32, shape (tokens, hidden)."""
        torch.set_num_threads(self._team.threads)
        shape, past, count = self._shape, cache.length, len(token_ids)
        cos, sin = (part.unsqueeze(1) for part in self._rotary.span(past, count))  # (count, 1, head_dim)
        mask = None if past == 0 else self._mask(past, count)
        cache.reserve(count)
        hidden = self._embedding.gather_rows(torch.tensor(token_ids))  # (count, hidden)
        written = cache.kv[:, :, :, past : past + count, : shape.head_dim]
        whole = cache.kv[:, :, :, : past + count, : shape.head_dim]
        for layer, block in enumerate(self._blocks):
            qkv, output, gate_up, down = self._dequantizer.dense(block.matrices)
            q, kv = self._rotate(qkv(self._norm_to_dtype(hidden, block.attention_norm)), block.qk_norm, cos, sin)
            written[layer].copy_(kv.permute(1, 2, 0, 3))
            keys, values = whole[layer].unsqueeze(1).unbind()  # (1, kv_heads, past + count, head_dim) each
            hidden += output(self._attend(q, keys, values, mask))
            gate, up = gate_up(self._norm_to_dtype(hidden, block.mlp_norm)).chunk(2, dim=1)
            hidden += down(F.silu(gate) * up)
        cache.length = past + count
        return hidden

    def _mask(self, past: int, count: int) -> Tensor:
        """Return the additive causal mask, repeated for each query head of a group: (group * count, past + count)."""
        shape = self._shape
        unseen = torch.ones(count, past + count, dtype=torch.bool).triu(past + 1)
        mask = torch.zeros(count, past + count, dtype=self._dtype).masked_fill_(unseen, -torch.inf)
        return mask.repeat(shape.heads // shape.kv_heads, 1)

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Compute attention of queries (rows, heads, head_dim); return shape (rows, heads * head_dim).

        torch's fast attention lacks grouped queries. At the beginning of a text the keys are repeated for each head, so
        that only the causal half is computed; later the query heads of a key head are concatenated along the tokens.
        """
        count, group = len(q), self._shape.heads // self._shape.kv_heads
        if mask is None:
            keys, values = (part.repeat_interleave(group, dim=1) for part in (keys, values))
            attended = F.scaled_dot_product_attention(q.transpose(0, 1).unsqueeze(0), keys, values, is_causal=True)
            return attended[0].transpose(0, 1).reshape(count, -1)
        grouped = q.unflatten(1, (-1, group)).permute(1, 2, 0, 3).flatten(1, 2).unsqueeze(0)
        attended = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask)
        together: Tensor = attended[0].unflatten(1, (group, count)).permute(2, 0, 1, 3)
        return together.reshape(count, -1)

    def _rotate(self, qkv: Tensor, qk_norm: Tensor | None, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return rotated queries (rows, heads, head_dim), rotated keys and values (rows, 2, kv_heads, head_dim)."""
        shape = self._shape
        heads = qkv.float().reshape(len(qkv), -1, shape.head_dim)
        qk = heads[:, : shape.heads + shape.kv_heads]
        if qk_norm is not None:
            qk.copy_(F.rms_norm(qk, (shape.head_dim,), None, shape.eps) * qk_norm)
        # rotate_half: the halves of each head are swapped; the minus is in the sine.
        swapped = qk.roll(shape.head_dim // 2, -1)
        qk.mul_(cos).addcmul_(swapped, sin)
        heads = heads.to(self._dtype)
        return heads[:, : shape.heads], heads[:, shape.heads :].unflatten(1, (2, shape.kv_heads))

    def _rms_norm(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """Return the RMS norm; `torch.rms_norm` takes twice as many operations."""
        size = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)  # (rows, 1)
        width = hidden.shape[-1]
        return (hidden * weight).div_(torch.hypot(size * width**-0.5, self._root_eps))

    def _norm_to_dtype(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return self._rms_norm(hidden, weight).to(self._dtype)


def compile_step() -> None:
    """Compile all kernels of a decoder, which takes half a minute if numba has not cached them."""
    weight, team = torch.zeros(ROWS, GROUP), Team(1)
    head = Matrix.int8(Int8Blocks.of(weight), GROUP)
    shape = Shape(0, hidden=GROUP, inner=GROUP, vocab=ROWS, heads=1, kv_heads=1, head_dim=ROWS, eps=1.0)
    decoder = FusedDecoder(
        shape,
        [],
        embedding=Matrix.float32(weight),
        norm=torch.zeros(GROUP),
        head=head,
        rotary=lambda positions: (torch.zeros(len(positions), ROWS),) * 2,
        dtype=torch.float32,
        context_length=1,
        threads=1,
    )
    row = decoder.prefill([0], decoder.new_cache())[0]
    head.matmul_f32(weight, team)
    Dequantizer(team).dense([head])
    softmax_stats(row)
    top_k_values(row, 1)
    masked(row, row > 0)


def _weights(blocks: Sequence[Block], norm: Tensor, embedding: Matrix, head: Matrix) -> Weights:
    """Return the addresses of the weights; the decoder keeps the tensors alive."""
    norms = [
        [block.attention_norm.data_ptr(), block.mlp_norm.data_ptr(), 0 if qk is None else qk.data_ptr()]
        for block in blocks
        for qk in (block.qk_norm,)
    ]
    return Weights(
        linears=np.array([[matrix.descriptor for matrix in block.matrices] for block in blocks], np.int64).reshape(
            -1, 4, 5
        ),
        norms=np.array([*norms, [norm.data_ptr(), 0, 0]], np.int64),
        embedding=np.array(embedding.descriptor, np.int64),
        head=np.array(head.descriptor, np.int64),
    )


def _scratch(shape: Shape, rows: int, threads: int, length: int, *, has_tiles: bool) -> Scratch:
    def floats(*sizes: int) -> Any:
        return torch.zeros(sizes).numpy()  # torch aligns memory to cache lines

    hidden, inner, dim = (padded(size, GROUP) for size in (shape.hidden, shape.inner, shape.head_dim))
    longest = max(hidden, inner, padded(shape.heads * shape.head_dim, GROUP))
    queries = max(QUERY_HEADS, shape.heads // shape.kv_heads) if rows > 1 else shape.heads // shape.kv_heads
    # Vectors and 16 rows of weights of a linear layer, or the values of a head and their weights.
    tile_numbers = max(
        longest * (padded(rows, TILE_VECTORS) + TILE), (padded(queries, TILE) + GROUP) * padded(length, GROUP)
    )
    return Scratch(
        hidden=floats(rows, hidden),
        normed=floats(threads, rows, hidden),
        qkv=floats(rows, padded((shape.heads + 2 * shape.kv_heads) * shape.head_dim, ROWS)),
        attended=floats(rows, padded(shape.heads * shape.head_dim, GROUP)),
        gate_up=floats(rows, 2, inner),
        active=floats(rows, inner),
        update=floats(rows, hidden),
        heads=floats(threads, 2, padded(queries, TILE), dim),
        scores=floats(threads, queries, padded(length, GROUP)),
        dequantized=floats(threads, ROWS * longest),
        tiles=_tile_memory(threads, tile_numbers if has_tiles and rows >= _TILE_MIN_TOKENS else 0),
        barrier=np.zeros(16, np.int64),
    )


def _tile_memory(threads: int, count: int) -> Any:
    """Return `Scratch.tiles` for ``count`` bf16 numbers."""
    memory = torch.zeros(threads, 64 + 2 * count, dtype=torch.uint8).numpy()
    memory[:, :64] = TILE_CONFIG
    return memory
