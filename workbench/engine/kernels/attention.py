"""Attention of a step's tokens over the keys and values of their sequences."""

from __future__ import annotations

import math

import numpy as np

from workbench.engine.kernels import compiled
from workbench.engine.kernels.matrix_intrinsics import weighted_sums
from workbench.engine.kernels.products import product, tile_product, tile_sums
from workbench.engine.kernels.row_intrinsics import exponentials, scaled
from workbench.engine.kernels.simd import BF16, FLOAT32, GROUP, LANES
from workbench.engine.kernels.step_memory import address, tile_memory
from workbench.engine.kernels.synchronization import partition

AT_ONCE = 24
"""Query heads that attend over the same keys at once, where there are so many."""


@compiled
def attend(shape, layer, past, scratch, thread, threads):
    """Attention of the new tokens: each key head with its group of query heads, of several rows if they share keys."""
    rows, group = len(scratch.hidden), shape.heads // shape.kv_heads
    padded, size = scratch.heads.shape[3], 4 if past.form == FLOAT32 else 2
    block = max(1, AT_ONCE // group) if past.together else 1
    first, last = partition((rows + block - 1) // block * shape.kv_heads, 1, thread, threads)
    for item in range(first, last):
        row, shared = item // shape.kv_heads * block, item % shape.kv_heads
        bytes_ = past.capacities[row] * padded * size
        keys = past.addresses[row] + (layer * 2 * shape.kv_heads + shared) * bytes_
        values = keys + shape.kv_heads * bytes_
        _attend_block(shape, past, row, min(block, rows - row), shared * group, keys, values, scratch, thread)


@compiled
def _softmax(scores, length, longest):
    """The softmax of the first ``length`` scores, in place; 0 behind them, to the end of the longest one's group."""
    whole = (length + LANES - 1) // LANES
    for position in range(length, whole * LANES):
        scores[position] = -np.inf
    total = exponentials(address(scores), whole)
    scaled(address(scores), np.float32(1.0) / total, whole, address(scores))
    for position in range(length, (longest + GROUP - 1) // GROUP * GROUP):
        scores[position] = 0.0


@compiled
def _attend_block(shape, past, row, count, head, keys, values, scratch, thread):
    """Attention of ``count`` rows' query heads of one group, which begins at ``head``, over the same keys."""
    dim, group = shape.head_dim, shape.heads // shape.kv_heads
    padded, size = scratch.heads.shape[3], 4 if past.form == FLOAT32 else 2
    groups, vectors = padded // GROUP, count * group
    space, width = scratch.heads, 4 * padded  # bytes of a head
    queries, mixed = (
        address(space) + thread * space.strides[0],
        address(space) + thread * space.strides[0] + space.strides[1],
    )
    scores, step = address(scratch.scores) + thread * scratch.scores.strides[0], scratch.scores.strides[1]
    factor = np.float32(1.0 / math.sqrt(dim))
    for index in range(vectors):
        start = (head + index % group) * dim
        for column in range(dim):
            space[thread, 0, index, column] = scratch.qkv[row + index // group, start + column] * factor
    longest = past.positions[row + count - 1] + 1
    memory, tiles, done = address(scratch.unpacked[thread]), tile_memory(past, scratch, thread), 0
    matrix = (past.form, keys, 0, groups)
    if tiles and past.form == BF16:
        done = tile_product(matrix, queries, width, vectors, scores, step, 0, longest, tiles)
    product(matrix, queries, width, vectors, scores, step, done, longest, memory)
    for index in range(vectors):
        _softmax(scratch.scores[thread, index], past.positions[row + index // group] + 1, longest)
    done = 0
    if tiles and past.form == BF16:
        done = tile_sums(values, padded, longest, scores, step, vectors, mixed, tiles)
    while done < vectors:
        rest = vectors - done
        tile = 4 if rest >= 4 else 2 if rest >= 2 else 1
        weighted_sums(
            past.form, tile, values, padded * size, groups, scores + done * step, step, (longest + 1) // 2 * 2,
            mixed + done * width, width,
        )  # fmt: skip
        done += tile
    for index in range(vectors):
        start = (head + index % group) * dim
        for column in range(dim):
            scratch.attended[row + index // group, start + column] = space[thread, 1, index, column]
