"""A decode step of a decoder-only transformer as one compiled function.

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
from workbench.engine.kernels.block import activate_mlp, add_update, embed, norm_rows, project_heads, project_update
from workbench.engine.kernels.experts import activate_experts, choose_experts, project_experts
from workbench.engine.kernels.memory_access import ZERO, address
from workbench.engine.kernels.products import linear
from workbench.engine.kernels.row_intrinsics import BLOCK, block_sums, scale_row, soft_cap
from workbench.engine.kernels.row_reductions import find_largest, sums_of_blocks
from workbench.engine.kernels.simd import LANES
from workbench.engine.kernels.step_memory import DOWN, GATE, OUTPUT, UP
from workbench.engine.kernels.synchronization import barrier_wait, partition


@compiled
def _run_block(shape, weights, layer, past, cos, sin, scratch, thread, threads):
    """Compute one block, as `BlockStructure` describes it, on this thread's hidden states."""
    hidden, normed, barrier = scratch.hidden[thread], scratch.normed[thread], address(scratch.barrier)
    norms, linears = weights.norms[layer], weights.linears[layer]
    norm_rows(shape, hidden, norms[0], normed)
    project_heads(shape, weights, layer, past, cos, sin, scratch, thread, threads)
    barrier_wait(barrier, threads)
    attend(shape, weights, layer, past, scratch, thread, threads)
    barrier_wait(barrier, threads)
    project_update(shape, linears[OUTPUT], scratch.attended, scratch, thread, threads)
    barrier_wait(barrier, threads)
    if not shape.is_parallel:
        add_update(shape, norms[1], scratch, thread)
    norm_rows(shape, hidden, norms[2], normed)
    if shape.is_parallel:
        add_update(shape, norms[1], scratch, thread)
    if shape.experts:
        choose_experts(shape, weights.routers[layer], scratch, thread)
        activate_experts(shape, linears[GATE], linears[UP], scratch, thread, threads)
    else:
        activate_mlp(shape, linears[GATE], linears[UP], scratch, thread, threads)
    barrier_wait(barrier, threads)
    if shape.experts:
        project_experts(shape, linears[DOWN], scratch, thread, threads)
    else:
        project_update(shape, linears[DOWN], scratch.active, scratch, thread, threads)
    barrier_wait(barrier, threads)
    add_update(shape, norms[3], scratch, thread)


@compiled
def _adjust_logits(shape, logits, first, last):
    """Scale and cap this thread's part of the logits."""
    vectors = (last - first + LANES - 1) // LANES
    for row in range(len(logits)):
        start = address(logits) + row * logits.strides[0] + 4 * first
        if shape.logit_scale != 1.0:
            scale_row(start, np.float32(shape.logit_scale), vectors, start)
        if shape.logit_cap:
            soft_cap(start, np.float32(shape.logit_cap), vectors)


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


def _entries(sources: str) -> tuple[Any, Any]:
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
            cos: float32 (rows, sets of angles, rotary_dim), at each row's position.
            sin: of the same shape, negated in the first half of the last dimension.
            scratch: a `Scratch`.
            logits: float32 (last rows to compute logits of, vocab padded to `BLOCK`), the result.
            summaries: a `LogitsSummaries` to write to, of as many rows as logits, or of none.
        """
        _ = sources
        barrier = address(scratch.barrier)
        hidden, normed = scratch.hidden[thread], scratch.normed[thread]
        embed(shape, weights, token_ids, past.positions, scratch, thread)
        for layer in range(shape.layers):
            _run_block(shape, weights, layer, past, cos, sin, scratch, thread, threads)
        norm_rows(shape, hidden[len(hidden) - len(logits) :], weights.norms[shape.layers, 0], normed)
        first, last = partition(shape.vocab, BLOCK, thread, threads)
        linear(weights.head, normed[: len(logits)], logits, ZERO, first, last, scratch.dequantized[thread])
        _adjust_logits(shape, logits, first, last)
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
        linear(layer, x, out, ZERO, first, last, memory[thread])
        barrier_wait(address(barrier), threads)

    return step, multiply


step, multiply = _entries(SOURCES)
