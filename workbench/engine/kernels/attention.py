"""Attention of a step's tokens over the keys and values of their sequences."""

from __future__ import annotations

import math

import numpy as np

from workbench.engine.kernels import compiled
from workbench.engine.kernels.matrix_intrinsics import weighted_sums
from workbench.engine.kernels.memory_access import address
from workbench.engine.kernels.products import product, tile_product, tile_weighted_sums
from workbench.engine.kernels.row_intrinsics import exp_and_sum, scale_row
from workbench.engine.kernels.simd import BF16, FLOAT32, GROUP, LANES
from workbench.engine.kernels.step_memory import tile_memory
from workbench.engine.kernels.synchronization import partition

QUERY_HEADS = 24
"""Number of query heads, of several rows if they share keys, that attend over the same keys together."""


@compiled
def attend(shape, layer, past, scratch, thread, threads):
    """Compute attention of the new tokens; each thread takes some key heads with their groups of query heads."""
    rows, group = len(scratch.hidden), shape.heads // shape.kv_heads
    padded, size = scratch.heads.shape[3], 4 if past.kv_format == FLOAT32 else 2
    block = max(1, QUERY_HEADS // group) if past.is_one_sequence else 1
    first, last = partition((rows + block - 1) // block * shape.kv_heads, 1, thread, threads)
    for item in range(first, last):
        row, kv_head = item // shape.kv_heads * block, item % shape.kv_heads
        bytes_ = past.capacities[row] * padded * size
        keys = past.addresses[row] + (layer * 2 * shape.kv_heads + kv_head) * bytes_
        values = keys + shape.kv_heads * bytes_
        _attend_block(shape, past, row, min(block, rows - row), kv_head * group, keys, values, scratch, thread)


@compiled
def _softmax(scores, length, longest):
    """Apply softmax to the first ``length`` scores, in place; zero those behind, to the end of the longest's group."""
    whole = (length + LANES - 1) // LANES
    for position in range(length, whole * LANES):
        scores[position] = -np.inf
    total = exp_and_sum(address(scores), whole)
    scale_row(address(scores), np.float32(1.0) / total, whole, address(scores))
    for position in range(length, (longest + GROUP - 1) // GROUP * GROUP):
        scores[position] = 0.0


@compiled
def _attend_block(shape, past, row, count, head, keys, values, scratch, thread):
    """Compute attention of one group of query heads, from ``head`` on, of ``count`` rows over the same keys."""
    dim, group = shape.head_dim, shape.heads // shape.kv_heads
    padded, size = scratch.heads.shape[3], 4 if past.kv_format == FLOAT32 else 2
    groups, vectors = padded // GROUP, count * group
    heads, head_bytes = scratch.heads, 4 * padded
    queries = address(heads) + thread * heads.strides[0]
    outputs = queries + heads.strides[1]
    scores, stride = address(scratch.scores) + thread * scratch.scores.strides[0], scratch.scores.strides[1]
    factor = np.float32(1.0 / math.sqrt(dim))
    for index in range(vectors):
        start = (head + index % group) * dim
        for column in range(dim):
            heads[thread, 0, index, column] = scratch.qkv[row + index // group, start + column] * factor
    longest = past.positions[row + count - 1] + 1
    memory, tiles, done = address(scratch.dequantized[thread]), tile_memory(past, scratch, thread), 0
    matrix = (past.kv_format, keys, 0, groups)
    if tiles and past.kv_format == BF16:
        done = tile_product(matrix, queries, head_bytes, vectors, scores, stride, 0, longest, tiles)
    product(matrix, queries, head_bytes, vectors, scores, stride, done, longest, memory)
    for index in range(vectors):
        _softmax(scratch.scores[thread, index], past.positions[row + index // group] + 1, longest)
    done = 0
    if tiles and past.kv_format == BF16:
        done = tile_weighted_sums(values, padded, longest, scores, stride, vectors, outputs, tiles)
    while done < vectors:
        rest = vectors - done
        together = 4 if rest >= 4 else 2 if rest >= 2 else 1
        weighted_sums(
            past.kv_format, together, values, padded * size, groups, scores + done * stride, stride,
            (longest + 1) // 2 * 2, outputs + done * head_bytes, head_bytes,
        )  # fmt: skip
        done += together
    for index in range(vectors):
        start = (head + index % group) * dim
        for column in range(dim):
            scratch.attended[row + index // group, start + column] = heads[thread, 1, index, column]
