"""Attention of a step's tokens over the keys and values of their sequences."""

from __future__ import annotations

import numpy as np

from workbench.engine.kernels import compiled
from workbench.engine.kernels.matrix_intrinsics import weighted_sums
from workbench.engine.kernels.memory_access import ZERO, address, number_bytes
from workbench.engine.kernels.products import product
from workbench.engine.kernels.row_intrinsics import exp_and_sum, scale_row, soft_cap
from workbench.engine.kernels.simd import GROUP, LANES
from workbench.engine.kernels.synchronization import partition

QUERY_HEADS = 24
"""Number of query heads, of several rows if they share keys, that attend over the same keys together."""


@compiled
def attend(shape, weights, layer, past, scratch, thread, threads):
    """Compute attention of the new tokens; each thread takes some key heads with their groups of query heads.

    A group is divided where the threads would otherwise get very different shares.
    """
    rows, group = len(scratch.qkv), shape.heads // shape.kv_heads
    padded, size = scratch.heads.shape[3], number_bytes(past.kv_format)
    block = max(1, QUERY_HEADS // group) if past.is_one_sequence else 1
    groups = (rows + block - 1) // block * shape.kv_heads
    parts = 1
    while parts < group and groups * parts < 4 * threads and groups * parts % threads:
        parts += 1
    first, last = partition(groups * parts, 1, thread, threads)
    for item in range(first, last):
        row, kv_head, part = item // parts // shape.kv_heads * block, item // parts % shape.kv_heads, item % parts
        bytes_ = past.capacities[row] * padded * size
        keys = past.addresses[row] + (layer * 2 * shape.kv_heads + kv_head) * bytes_
        values = keys + shape.kv_heads * bytes_
        count, head, end = min(block, rows - row), group * part // parts, group * (part + 1) // parts
        heads = (kv_head * group + head, end - head)
        _attend_block(shape, weights, layer, past, row, count, heads, keys, values, scratch, thread)


@compiled
def first_position(window, chunk, position):
    """Return the first position that the token at ``position`` attends to, as in `LayerStructure`."""
    first = max(0, position - window + 1) if window else 0
    return max(first, position // chunk * chunk) if chunk else first


@compiled
def _softmax(scores, first, length, longest):
    """Apply softmax to the scores from ``first`` to ``length``, in place; zero others, to the end of the last group."""
    whole = (length + LANES - 1) // LANES
    for position in range(first):
        scores[position] = -np.inf
    for position in range(length, whole * LANES):
        scores[position] = -np.inf
    total = exp_and_sum(address(scores), whole)
    scale_row(address(scores), np.float32(1.0) / total, whole, address(scores))
    for position in range(first):
        scores[position] = 0.0
    for position in range(length, (longest + GROUP - 1) // GROUP * GROUP):
        scores[position] = 0.0


@compiled
def _attend_block(shape, weights, layer, past, row, count, query_heads, keys, values, scratch, thread):
    """Compute attention of some query heads, the first and their number, of ``count`` rows over the same keys.

    Keys are read from the group on that has the first position that a row attends to. Groups before it add zeros to a
    row's sums, so a row's results do not depend on the rows beside it.
    """
    dim, (head, group) = shape.head_dim, query_heads
    padded, size = scratch.heads.shape[3], number_bytes(past.kv_format)
    groups, vectors = padded // GROUP, count * group
    heads, head_bytes = scratch.heads, 4 * padded
    window, chunk, factor = weights.layers[layer, 1], weights.layers[layer, 2], weights.attention_scales[layer]
    start = first_position(window, chunk, past.positions[row]) // GROUP * GROUP
    keys, values = keys + start * padded * size, values + start * padded * size
    queries = address(heads) + thread * heads.strides[0]
    outputs = queries + heads.strides[1]
    scores, stride = address(scratch.scores) + thread * scratch.scores.strides[0], scratch.scores.strides[1]
    for index in range(vectors):
        column = (head + index % group) * dim
        for offset in range(dim):
            heads[thread, 0, index, offset] = scratch.qkv[row + index // group, column + offset] * factor
    longest = past.positions[row + count - 1] + 1 - start
    memory, done = address(scratch.dequantized[thread]), 0
    matrix = (past.kv_kernel, keys, ZERO, groups)
    product(matrix, ZERO, queries, head_bytes, vectors, scores, stride, ZERO, longest, memory)
    for index in range(vectors):
        position = past.positions[row + index // group]
        if shape.attention_cap:
            row_scores = scores + index * stride
            soft_cap(row_scores, np.float32(shape.attention_cap), (longest + LANES - 1) // LANES)
        first = first_position(window, chunk, position)
        _softmax(scratch.scores[thread, index], first - start, position + 1 - start, longest)
    while done < vectors:
        rest = vectors - done
        together = 4 if rest >= 4 else 2 if rest >= 2 else 1
        weighted_sums(
            past.kv_format, together, values, padded * size, groups, scores + done * stride, stride,
            (longest + 1) // 2 * 2, outputs + done * head_bytes, head_bytes,
        )  # fmt: skip
        done += together
    for index in range(vectors):
        column = (head + index % group) * dim
        for offset in range(dim):
            scratch.attended[row + index // group, column + offset] = heads[thread, 1, index, offset]
