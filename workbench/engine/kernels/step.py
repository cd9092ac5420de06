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
from workbench.engine.kernels.block import (
    activate_mlp,
    add_positions,
    add_update,
    embed,
    norm_rows,
    project_heads,
    project_mlp,
    project_update,
)
from workbench.engine.kernels.experts import activate_experts, choose_experts, project_experts
from workbench.engine.kernels.memory_access import ZERO, address
from workbench.engine.kernels.products import linear
from workbench.engine.kernels.row_intrinsics import BLOCK, block_sums, scale_row, soft_cap
from workbench.engine.kernels.row_reductions import find_largest, sums_of_blocks
from workbench.engine.kernels.simd import LANES
from workbench.engine.kernels.step_memory import DOWN, GATE, OUTPUT, UP
from workbench.engine.kernels.synchronization import barrier_wait, partition

EMBED, ADD_POSITIONS, FIRST_BLOCK = range(3)
"""Phases before the blocks, and the first phase of the blocks."""

NORM, PROJECT, ATTEND, OUTPUT_OF_ATTENTION, ADD_ATTENTION, NORM_MLP, PROJECT_MLP, ACTIVATE, OUTPUT_OF_MLP, ADD_MLP = (
    range(10)
)
"""Phases of a block."""

BLOCK_PHASES = 10

FINAL_NORM, HEAD, SUMMARIZE, END = range(4)
"""Phases after the blocks, and the end."""


@compiled
def _attend(shape, weights, layer, past, cos, sin, scratch, first, end, thread, threads):
    """Compute the phases of attention from ``first`` to before ``end``, on this thread's hidden states."""
    barrier = address(scratch.barrier)
    if first <= NORM < end:
        norm_rows(shape, scratch.hidden[thread], weights.norms[layer, 0], scratch.normed[thread])
    if first <= PROJECT < end:
        project_heads(shape, weights, layer, past, cos, sin, scratch, thread, threads)
        barrier_wait(barrier, threads)
    if first <= ATTEND < end:
        attend(shape, weights, layer, past, scratch, thread, threads)
        barrier_wait(barrier, threads)
    if first <= OUTPUT_OF_ATTENTION < end:
        project_update(shape, weights.linears[layer, OUTPUT], scratch.attended, scratch, thread, threads)
        barrier_wait(barrier, threads)


@compiled
def _enter_mlp(shape, norms, scratch, first, end, thread):
    """Add the output of attention, and compute the input of the MLP; a parallel block's is from before attention."""
    hidden, normed = scratch.hidden[thread], scratch.normed[thread]
    if first <= ADD_ATTENTION < end:
        if shape.is_parallel:
            norm_rows(shape, hidden, norms[2], normed)
        add_update(shape, norms[1], scratch, thread)
    if first <= NORM_MLP < end and not shape.is_parallel:
        norm_rows(shape, hidden, norms[2], normed)


@compiled
def _run_mlp(shape, linears, scratch, first, end, thread, threads):
    """Compute the phases of an MLP from its first projections to its output."""
    if first <= PROJECT_MLP < end:
        project_mlp(shape, linears[GATE], linears[UP], scratch, thread, threads)
    if first <= ACTIVATE < end:
        activate_mlp(shape, scratch, thread, threads)
        barrier_wait(address(scratch.barrier), threads)
    if first <= OUTPUT_OF_MLP < end:
        project_update(shape, linears[DOWN], scratch.active, scratch, thread, threads)
        barrier_wait(address(scratch.barrier), threads)


@compiled
def _run_experts(shape, router, linears, scratch, first, end, thread, threads):
    """Compute the phases of a mixture of experts from their choice to their output."""
    if first <= PROJECT_MLP < end:
        choose_experts(shape, router, scratch, thread)
    if first <= ACTIVATE < end:
        activate_experts(shape, linears[GATE], linears[UP], scratch, thread, threads)
        barrier_wait(address(scratch.barrier), threads)
    if first <= OUTPUT_OF_MLP < end:
        project_experts(shape, linears[DOWN], scratch, thread, threads)
        barrier_wait(address(scratch.barrier), threads)


@compiled
def _run_block(shape, weights, layer, past, cos, sin, scratch, first, end, thread, threads):
    """Compute a block's phases from ``first`` to before ``end``, as `BlockStructure` describes them."""
    norms, linears = weights.norms[layer], weights.linears[layer]
    _attend(shape, weights, layer, past, cos, sin, scratch, first, end, thread, threads)
    _enter_mlp(shape, norms, scratch, first, end, thread)
    if shape.experts:
        _run_experts(shape, weights.routers[layer], linears, scratch, first, end, thread, threads)
    else:
        _run_mlp(shape, linears, scratch, first, end, thread, threads)
    if first <= ADD_MLP < end:
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


@compiled
def _compute_logits(shape, weights, scratch, logits, summaries, first_phase, end_phase, thread, threads):
    """Compute the phases after the blocks; the logits are those of the last rows."""
    hidden, normed = scratch.hidden[thread], scratch.normed[thread]
    first, last = partition(shape.vocab, BLOCK, thread, threads)
    if first_phase <= FINAL_NORM < end_phase:
        norm_rows(shape, hidden[len(hidden) - len(logits) :], weights.norms[shape.layers, 0], normed)
    if first_phase <= HEAD < end_phase:
        linear(weights.head, normed[: len(logits)], logits, ZERO, first, last, scratch.dequantized[thread])
        _adjust_logits(shape, logits, first, last)
    if first_phase <= SUMMARIZE < end_phase:
        _summarize_blocks(shape, logits, summaries, first, last)
        barrier_wait(address(scratch.barrier), threads)
        if len(summaries.blocks):
            _summarize_rows(shape, logits, summaries, thread, threads)
            barrier_wait(address(scratch.barrier), threads)


def block_phase(layer: int, phase: int) -> int:
    """Return the index of a block's phase among all phases of a step."""
    return FIRST_BLOCK + layer * BLOCK_PHASES + phase


def last_phase(layers: int, phase: int) -> int:
    """Return the index of a phase after the blocks among all phases of a step; that of `END` is their number."""
    return block_phase(layers, phase)


def _entries(sources: str) -> tuple[Any, Any]:
    """Compile the functions that Python calls."""

    @entry_point
    def step(
        shape, weights, token_ids, past, cos, sin, scratch, logits, summaries, first_phase, end_phase, thread, threads
    ):
        """Decode one token for each row; all threads of a team call this with the same arguments but ``thread``.

        Rows belong to different sequences, or are consecutive tokens of one sequence. Several calls with consecutive
        phases, on equally many threads, compute what one call with all phases does.

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
            first_phase: index of the first phase to compute.
            end_phase: index of the phase to stop before.
        """
        _ = sources
        if first_phase <= EMBED < end_phase:
            embed(shape, weights, token_ids, scratch, thread)
        if first_phase <= ADD_POSITIONS < end_phase:
            add_positions(weights, past.positions, scratch, thread)
        blocks = range(max(0, first_phase - FIRST_BLOCK) // BLOCK_PHASES, shape.layers)
        for layer in blocks:
            start = FIRST_BLOCK + layer * BLOCK_PHASES
            if start < end_phase:
                first, end = first_phase - start, end_phase - start
                _run_block(shape, weights, layer, past, cos, sin, scratch, first, end, thread, threads)
        start = FIRST_BLOCK + shape.layers * BLOCK_PHASES
        first, end = first_phase - start, end_phase - start
        _compute_logits(shape, weights, scratch, logits, summaries, first, end, thread, threads)
        if end < END:
            barrier_wait(address(scratch.barrier), threads)

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
