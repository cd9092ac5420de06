"""A decode step of the Llama family as one compiled function.

A step of a small model is a few hundred products of a matrix with a handful of rows. Calling torch for each one costs
as much in calls, thread wake-ups and conversions as in arithmetic. Here every thread of a team runs `step` over its
share of the weights' rows, and barriers synchronize them. Each row of a batch goes through the same operations in the
same order as it would alone, so a batch equals single requests bit for bit, in every precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.engine.kernels import SOURCES, compiled, entry_point
from workbench.engine.kernels.attention import attend
from workbench.engine.kernels.matrix_intrinsics import dequantize_group, dequantize_to_bf16
from workbench.engine.kernels.memory_access import address, get, put
from workbench.engine.kernels.products import linear
from workbench.engine.kernels.row_intrinsics import BLOCK, block_sums, rms_norm, silu_and_mul
from workbench.engine.kernels.row_reductions import find_largest, sums_of_blocks
from workbench.engine.kernels.simd import FLOAT32, GROUP, LANES, ROWS, SCALE_BYTES, WEIGHT_BYTES
from workbench.engine.kernels.step_memory import tile_memory
from workbench.engine.kernels.synchronization import barrier_wait, partition
from workbench.engine.kernels.tiles import configure_tiles, release_tiles


@compiled
def _norm_rows(x, width, weight, eps, out):
    """Write the RMS norm of each row; ``weight`` is an address."""
    for row in range(len(x)):
        rms_norm(
            address(x) + row * x.strides[0], x.shape[1] // LANES, np.float32(width), weight, np.float32(eps),
            address(out) + row * out.strides[0],
        )  # fmt: skip


@compiled
def _norm_head(x, row, start, dim, weight, eps):
    """Apply RMS norm to one head, in place; ``weight`` is an address."""
    total = np.float32(0.0)
    for column in range(start, start + dim):
        total += x[row, column] * x[row, column]
    factor = np.float32(1.0) / np.sqrt(total / np.float32(dim) + np.float32(eps))
    for column in range(dim):
        x[row, start + column] *= factor * get(weight + 4 * column)


@compiled
def _embed(embedding, token_ids, hidden, thread, threads):
    """Write each token's row of the embedding matrix to ``hidden``; a token belongs to one thread."""
    weight_format, data, scale, groups = embedding[0], embedding[1], embedding[2], embedding[3]
    for row in range(thread, len(token_ids), threads):
        first, out = token_ids[row] * groups, address(hidden) + row * hidden.strides[0]
        for index in range(groups):
            group = first + index
            dequantize_group(
                weight_format, data + group * WEIGHT_BYTES[weight_format], scale + group * SCALE_BYTES[weight_format],
                0, 0, out + index * 4 * GROUP,
            )  # fmt: skip


@compiled
def _rotate(x, row, start, dim, cos, sin):
    """Apply the rotary embedding to one head, in place; the sine is negated in its first half."""
    half = dim // 2
    for index in range(half):
        left, right = x[row, start + index], x[row, start + half + index]
        x[row, start + index] = left * cos[row, index] + right * sin[row, index]
        x[row, start + half + index] = right * cos[row, half + index] + left * sin[row, half + index]


@compiled
def _project(shape, weights, layer, past, cos, sin, scratch, thread, threads):
    """Compute queries, keys and values of whole heads, and store keys and values in the cache."""
    dim, norm = shape.head_dim, weights.norms[layer, 2]
    padded = scratch.heads.shape[3]
    size = 4 if past.kv_format == FLOAT32 else 2
    total = shape.heads + 2 * shape.kv_heads
    # Threads take heads in pairs if one is not a whole number of row groups, so that no group is shared.
    first, last = partition(total, 1 if dim % ROWS == 0 else 2, thread, threads)
    memory, tiles = scratch.dequantized[thread], tile_memory(past, scratch, thread)
    linear(weights.linears[layer, 0], scratch.normed[thread], scratch.qkv, 0, first * dim, last * dim, memory, tiles)
    for row in range(len(scratch.hidden)):
        for index in range(first, last):
            start = index * dim
            if index < shape.heads + shape.kv_heads:
                if norm:
                    _norm_head(scratch.qkv, row, start, dim, norm + 4 * dim * index, shape.eps)
                _rotate(scratch.qkv, row, start, dim, cos, sin)
            if index < shape.heads:
                continue
            kv_index = layer * 2 * shape.kv_heads + index - shape.heads
            target = past.addresses[row] + (kv_index * past.capacities[row] + past.positions[row]) * padded * size
            for column in range(dim):
                put(past.kv_format, target + column * size, scratch.qkv[row, start + column])


@compiled
def _add_linear(shape, layer, x, past, scratch, thread, threads):
    """Add a linear layer's output to the residual stream."""
    first, last = partition(shape.hidden, LANES, thread, threads)
    tiles = tile_memory(past, scratch, thread)
    linear(layer, x, scratch.update, 0, first, last, scratch.dequantized[thread], tiles)
    for row in range(len(x)):
        for column in range(first, last):
            scratch.hidden[row, column] += scratch.update[row, column]


@compiled
def _activate(shape, layer, past, scratch, thread, threads):
    """Compute ``silu(gate) * up``, the input of the MLP's down projection."""
    width = scratch.active.shape[1]
    first, last = partition(shape.inner, LANES, thread, threads)
    flat = scratch.gate_up.reshape(len(scratch.hidden), 2 * width)
    normed, memory = scratch.normed[thread], scratch.dequantized[thread]
    tiles = tile_memory(past, scratch, thread)
    linear(layer, normed, flat, 0, first, last, memory, tiles)
    linear(layer, normed, flat, width - shape.inner, shape.inner + first, shape.inner + last, memory, tiles)
    for row in range(len(flat)):
        gate = address(flat) + row * flat.strides[0] + 4 * first
        out = address(scratch.active) + row * scratch.active.strides[0] + 4 * first
        silu_and_mul(gate, gate + 4 * width, out, (last - first + LANES - 1) // LANES)


@compiled
def _summarize_blocks(shape, logits, summaries, first, last):
    """Write ``summaries.blocks`` of this thread's part of the vocabulary, padded with -inf."""
    for row in range(len(summaries.blocks)):
        if last == shape.vocab:
            logits[row, last:] = -np.inf
        found, stride = summaries.blocks[row], summaries.blocks.strides[1]
        start, out = address(logits) + row * logits.strides[0] + 4 * first, address(found) + 4 * (first // BLOCK)
        block_sums(start, (last - first + BLOCK - 1) // BLOCK, np.float32(1.0), out, out + stride, out + 2 * stride)


@compiled
def _summarize_rows(shape, logits, summaries, thread, threads):
    """Write the other fields of ``summaries``; a row belongs to one thread."""
    for row in range(thread, len(summaries.blocks), threads):
        blocks = summaries.blocks[row]
        summaries.sums[row, 0], summaries.sums[row, 1], summaries.sums[row, 2] = sums_of_blocks(blocks, 1.0)
        start = address(logits) + row * logits.strides[0]
        find_largest(start, shape.vocab, blocks[0], summaries.values[row], summaries.token_ids[row])


def _entries(sources: str) -> tuple[Any, Any, Any]:
    """Compile the functions that Python calls."""

    @entry_point
    def step(shape, weights, token_ids, past, cos, sin, scratch, logits, summaries, thread, threads):
        """Decode one token for each row; all threads of a team call this with the same arguments but ``thread``.

        Rows belong to different sequences, or are consecutive tokens of one sequence.

        Args:
            shape: a `Shape`.
            weights: a `Weights`.
            token_ids: int64 (rows,), below the vocabulary size: the embedding is read by address.
            past: a `SequenceViews`; keys and values of the new tokens are written there.
            cos: float32 (rows, head_dim), at each row's position.
            sin: float32 (rows, head_dim), negated in the first half of each row.
            scratch: a `Scratch`.
            logits: float32 (last rows to compute logits of, vocab padded to `BLOCK`), the result.
            summaries: a `LogitsSummaries` to write to, of as many rows as logits, or of none.
        """
        _ = sources
        barrier, tiles = address(scratch.barrier), tile_memory(past, scratch, thread)
        if tiles:
            configure_tiles(tiles - 64)
        _embed(weights.embedding, token_ids, scratch.hidden, thread, threads)
        barrier_wait(barrier, threads)
        for layer in range(shape.layers):
            _norm_rows(scratch.hidden, shape.hidden, weights.norms[layer, 0], shape.eps, scratch.normed[thread])
            _project(shape, weights, layer, past, cos, sin, scratch, thread, threads)
            barrier_wait(barrier, threads)
            attend(shape, layer, past, scratch, thread, threads)
            barrier_wait(barrier, threads)
            _add_linear(shape, weights.linears[layer, 1], scratch.attended, past, scratch, thread, threads)
            barrier_wait(barrier, threads)
            _norm_rows(scratch.hidden, shape.hidden, weights.norms[layer, 1], shape.eps, scratch.normed[thread])
            _activate(shape, weights.linears[layer, 2], past, scratch, thread, threads)
            barrier_wait(barrier, threads)
            _add_linear(shape, weights.linears[layer, 3], scratch.active, past, scratch, thread, threads)
            barrier_wait(barrier, threads)
        last_rows = scratch.hidden[len(scratch.hidden) - len(logits) :]
        _norm_rows(last_rows, shape.hidden, weights.norms[shape.layers, 0], shape.eps, scratch.normed[thread])
        first, last = partition(shape.vocab, BLOCK, thread, threads)
        memory = scratch.dequantized[thread]
        linear(weights.head, scratch.normed[thread, : len(logits)], logits, 0, first, last, memory, 0)
        if tiles:
            release_tiles()
        _summarize_blocks(shape, logits, summaries, first, last)
        barrier_wait(barrier, threads)
        if len(summaries.blocks):
            _summarize_rows(shape, logits, summaries, thread, threads)
            barrier_wait(barrier, threads)

    @entry_point
    def multiply(layer, rows, x, out, memory, barrier, thread, threads):
        """Write ``x @ matrix.T + bias``: float32 (count, padded columns) to (count, padded rows).

        Args:
            layer: int64 (5,), a `Matrix.descriptor`.
            memory: float32 (threads, ROWS * padded columns).
        """
        _ = sources
        first, last = partition(rows, LANES, thread, threads)
        linear(layer, x, out, 0, first, last, memory[thread], 0)
        barrier_wait(address(barrier), threads)

    @entry_point
    def dequantize(layers, rows, starts, out, barrier, thread, threads):
        """Write matrices as consecutive bf16 matrices, with rows padded to whole groups.

        Args:
            layers: int64 (matrices, 5), a `Matrix.descriptor` each.
            rows: int64 (matrices,), number of rows of each.
            starts: int64 (matrices,), index of each matrix in ``out``.
            out: int16, the bits of bf16.
        """
        _ = sources
        for index in range(len(rows)):
            weight_format, data, scale, groups = layers[index, 0], layers[index, 1], layers[index, 2], layers[index, 3]
            first, last = partition(rows[index], LANES, thread, threads)
            start, target = first * groups, address(out) + 2 * starts[index]
            dequantize_to_bf16(
                weight_format, data + start * WEIGHT_BYTES[weight_format], scale + start * SCALE_BYTES[weight_format],
                (last - first) * groups, target + start * 2 * GROUP,
            )  # fmt: skip
        barrier_wait(address(barrier), threads)

    return step, multiply, dequantize


step, multiply, dequantize = _entries(SOURCES)
