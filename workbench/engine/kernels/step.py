"""A decode step of the Llama family as one compiled function.

A step of a small model is a few hundred products of a matrix with a handful of rows. Handed to torch one by one they
cost as much in calls, thread wake-ups and conversions as in arithmetic. Here every thread of a team runs `step` over
its own share of the rows and meets the others at barriers. Each row of a batch goes through the same operations in the
same order as it would alone, so a batch equals single requests bit for bit, in every precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.engine.kernels import SOURCES, compiled, entry_point
from workbench.engine.kernels.attention import attend
from workbench.engine.kernels.matrix_intrinsics import unpacked, widened
from workbench.engine.kernels.memory_access import get, put
from workbench.engine.kernels.products import BYTES, SCALE_BYTES, linear
from workbench.engine.kernels.row_intrinsics import BLOCK, block_sums, root_mean_square_norm, silu_times
from workbench.engine.kernels.row_reductions import find_largest, sums_of_blocks
from workbench.engine.kernels.simd import FLOAT32, GROUP, LANES, ROWS
from workbench.engine.kernels.step_memory import address, tile_memory
from workbench.engine.kernels.synchronization import barrier_wait, partition
from workbench.engine.kernels.tiles import begin, end


@compiled
def _norm_rows(x, width, weight, eps, out):
    """Root mean square norm of each row; the weight is given by its address."""
    for row in range(len(x)):
        root_mean_square_norm(
            address(x) + row * x.strides[0], x.shape[1] // LANES, np.float32(width), weight, np.float32(eps),
            address(out) + row * out.strides[0],
        )  # fmt: skip


@compiled
def _norm_head(x, row, start, dim, weight, eps):
    """The same for one head, in place; its weight is given by its address."""
    total = np.float32(0.0)
    for column in range(start, start + dim):
        total += x[row, column] * x[row, column]
    factor = np.float32(1.0) / np.sqrt(total / np.float32(dim) + np.float32(eps))
    for column in range(dim):
        x[row, start + column] *= factor * get(weight + 4 * column)


@compiled
def _embed(place, token_ids, hidden, thread, threads):
    """Begin the stream of each token with its row of the embedding matrix, each token by one thread."""
    form, data, scale, groups = place[0], place[1], place[2], place[3]
    for row in range(thread, len(token_ids), threads):
        first, out = token_ids[row] * groups, address(hidden) + row * hidden.strides[0]
        for index in range(groups):
            group = first + index
            unpacked(
                form, data + group * BYTES[form], scale + group * SCALE_BYTES[form], 0, 0, out + index * 4 * GROUP
            )  # fmt: skip


@compiled
def _turn(x, row, start, dim, cos, sin):
    """Rotate the halves of one head against each other, in place."""
    half = dim // 2
    for index in range(half):
        left, right = x[row, start + index], x[row, start + half + index]
        x[row, start + index] = left * cos[row, index] + right * sin[row, index]
        x[row, start + half + index] = right * cos[row, half + index] + left * sin[row, half + index]


@compiled
def _project(shape, weights, layer, past, cos, sin, scratch, thread, threads):
    """Queries, keys and values of whole heads, rotated; keys and values go into the cache."""
    dim, norm = shape.head_dim, weights.norms[layer, 2]
    padded = scratch.heads.shape[3]
    size = 4 if past.form == FLOAT32 else 2
    total = shape.heads + 2 * shape.kv_heads
    # Heads of an odd number of row groups go in pairs, so that no group belongs to two threads.
    first, last = partition(total, 1 if dim % ROWS == 0 else 2, thread, threads)
    linear(
        weights.linears[layer, 0],
        scratch.normed[thread],
        scratch.qkv,
        0,
        first * dim,
        last * dim,
        scratch.unpacked[thread],
        tile_memory(past, scratch, thread),
    )
    for row in range(len(scratch.hidden)):
        for index in range(first, last):
            start = index * dim
            if index < shape.heads + shape.kv_heads:
                if norm:
                    _norm_head(scratch.qkv, row, start, dim, norm + 4 * dim * index, shape.eps)
                _turn(scratch.qkv, row, start, dim, cos, sin)
            if index < shape.heads:
                continue
            place = layer * 2 * shape.kv_heads + index - shape.heads
            target = past.addresses[row] + (place * past.capacities[row] + past.positions[row]) * padded * size
            for column in range(dim):
                put(past.form, target + column * size, scratch.qkv[row, start + column])


@compiled
def _add_linear(shape, place, x, past, scratch, thread, threads):
    """Add a linear layer's output to the stream."""
    first, last = partition(shape.hidden, LANES, thread, threads)
    tiles = tile_memory(past, scratch, thread)
    linear(place, x, scratch.update, 0, first, last, scratch.unpacked[thread], tiles)
    for row in range(len(x)):
        for column in range(first, last):
            scratch.hidden[row, column] += scratch.update[row, column]


@compiled
def _activate(shape, place, past, scratch, thread, threads):
    """The gated first half of the MLP."""
    width = scratch.active.shape[1]
    first, last = partition(shape.inner, LANES, thread, threads)
    flat = scratch.gate_up.reshape(len(scratch.hidden), 2 * width)
    normed, memory = scratch.normed[thread], scratch.unpacked[thread]
    tiles = tile_memory(past, scratch, thread)
    linear(place, normed, flat, 0, first, last, memory, tiles)
    linear(place, normed, flat, width - shape.inner, shape.inner + first, shape.inner + last, memory, tiles)
    for row in range(len(flat)):
        gate = address(flat) + row * flat.strides[0] + 4 * first
        out = address(scratch.active) + row * scratch.active.strides[0] + 4 * first
        silu_times(gate, gate + 4 * width, out, (last - first + LANES - 1) // LANES)


@compiled
def _outline_blocks(shape, logits, summaries, first, last):
    """What `LogitsSummaries` holds of the blocks of this thread's part of the vocabulary, the last one filled up."""
    for row in range(len(summaries.blocks)):
        if last == shape.vocab:
            logits[row, last:] = -np.inf
        found, step = summaries.blocks[row], summaries.blocks.strides[1]
        start, out = address(logits) + row * logits.strides[0] + 4 * first, address(found) + 4 * (first // BLOCK)
        block_sums(start, (last - first + BLOCK - 1) // BLOCK, np.float32(1.0), out, out + step, out + 2 * step)


@compiled
def _outline_rows(shape, logits, summaries, thread, threads):
    """What it holds of whole rows, each by one thread."""
    for row in range(thread, len(summaries.blocks), threads):
        blocks = summaries.blocks[row]
        summaries.sums[row, 0], summaries.sums[row, 1], summaries.sums[row, 2] = sums_of_blocks(blocks, 1.0)
        place = address(logits) + row * logits.strides[0]
        find_largest(place, shape.vocab, blocks[0], summaries.values[row], summaries.places[row])


def _entries(sources: str) -> tuple[Any, Any, Any]:
    """What is called from outside."""

    @entry_point
    def step(shape, weights, token_ids, past, cos, sin, scratch, logits, summaries, thread, threads):
        """One token for each row: every thread of a team calls it with the same arguments and its own number.

        Rows may be sequences, or tokens of one sequence one after the other.

        Args:
            shape: a `Shape`.
            weights: a `Weights`.
            token_ids: int64 (rows,), each of which the embedding matrix has.
            past: a `SequenceViews`; the new tokens' keys and values are written to their positions.
            cos: float32 (rows, head_dim), of each row's position.
            sin: the same, with the minus of the rotation in its first half.
            scratch: a `Scratch`.
            logits: float32 (rows or the last few, vocab padded to `BLOCK`), the result.
            outlines: an `LogitsSummaries` to write to, of as many rows, or of none.
        """
        _ = sources
        barrier, tiles = address(scratch.barrier), tile_memory(past, scratch, thread)
        if tiles:
            begin(tiles - 64)
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
        asked = scratch.hidden[len(scratch.hidden) - len(logits) :]
        _norm_rows(asked, shape.hidden, weights.norms[shape.layers, 0], shape.eps, scratch.normed[thread])
        first, last = partition(shape.vocab, BLOCK, thread, threads)
        memory = scratch.unpacked[thread]
        linear(weights.head, scratch.normed[thread, : len(logits)], logits, 0, first, last, memory, 0)
        if tiles:
            end()
        _outline_blocks(shape, logits, summaries, first, last)
        barrier_wait(barrier, threads)
        if len(summaries.blocks):
            _outline_rows(shape, logits, summaries, thread, threads)
            barrier_wait(barrier, threads)

    @entry_point
    def multiply(place, rows, x, out, memory, barrier, thread, threads):
        """``x @ matrix.T``: float32 (count, columns padded to `GROUP`) to (count, rows padded to `ROWS`).

        Args:
            memory: float32 (threads, ROWS * padded columns).
        """
        _ = sources
        first, last = partition(rows, LANES, thread, threads)
        linear(place, x, out, 0, first, last, memory[thread], 0)
        barrier_wait(address(barrier), threads)

    @entry_point
    def widen(places, rows, starts, out, barrier, thread, threads):
        """Matrices in bf16, one behind the other, rows padded to whole groups.

        Args:
            places: int64 (matrices, 5), see `Weights.linears`.
            rows: int64 (matrices,), how many each has.
            starts: int64 (matrices,), where each begins in ``out``.
            out: int16, their bits.
        """
        _ = sources
        for index in range(len(rows)):
            form, data, scale, groups = places[index, 0], places[index, 1], places[index, 2], places[index, 3]
            first, last = partition(rows[index], LANES, thread, threads)
            start, place = first * groups, address(out) + 2 * starts[index]
            widened(
                form, data + start * BYTES[form], scale + start * SCALE_BYTES[form], (last - first) * groups,
                place + start * 2 * GROUP,
            )  # fmt: skip
        barrier_wait(address(barrier), threads)

    return step, multiply, widen


step, multiply, widen = _entries(SOURCES)
