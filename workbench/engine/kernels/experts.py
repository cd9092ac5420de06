"""A mixture of experts in a decode step: each token passes some of many gated MLPs.

Each thread chooses the experts of all rows itself, which takes less time than waiting for other threads would.
"""

from __future__ import annotations

import numpy as np

from workbench.engine.kernels import compiled
from workbench.engine.kernels.activation import activate
from workbench.engine.kernels.memory_access import ZERO, address
from workbench.engine.kernels.products import product
from workbench.engine.kernels.row_intrinsics import add_row, multiply_row
from workbench.engine.kernels.simd import LANES
from workbench.engine.kernels.synchronization import partition


@compiled
def choose_experts(shape, router, scratch, thread):
    """Write the experts with the highest probabilities of each row, and their weights, to this thread's memory."""
    normed, ratings = scratch.normed[thread], scratch.ratings[thread]
    memory = address(scratch.dequantized[thread])
    product(
        router, ZERO, address(normed), normed.strides[0], len(normed), address(ratings), ratings.strides[0], ZERO,
        shape.experts, memory,
    )  # fmt: skip
    for row in range(len(normed)):
        _softmax(ratings[row], shape.experts)
        _choose(shape, ratings[row], scratch.chosen[thread, row], scratch.chosen_weights[thread, row])


@compiled
def _softmax(values, count):
    top, total = values[0], np.float32(0.0)
    for index in range(count):
        top = max(top, values[index])
    for index in range(count):
        values[index] = np.exp(values[index] - top)
        total += values[index]
    for index in range(count):
        values[index] /= total


@compiled
def _choose(shape, probabilities, chosen, chosen_weights):
    """Choose one expert after the other, the first of equal ones; NaN makes all weights NaN."""
    total = np.float32(0.0)
    for slot in range(len(chosen)):
        best = 0
        for index in range(1, shape.experts):
            if probabilities[index] > probabilities[best]:
                best = index
        chosen[slot], chosen_weights[slot] = best, probabilities[best]
        total += probabilities[best]
        probabilities[best] = -1.0
    if shape.normalizes_experts:
        for slot in range(len(chosen)):
            chosen_weights[slot] /= total


@compiled
def _gather(x, divisor, chosen, expert, places, out):
    """Copy the inputs of an expert to consecutive rows, and return their number.

    Args:
        divisor: number of consecutive choices that share a row of ``x``.
        chosen: int64 (rows * active experts,).
        places: the indices of the choices are written there.
    """
    count = 0
    for place in range(len(chosen)):
        if chosen[place] == expert:
            out[count, : x.shape[1]] = x[place // divisor]
            places[count] = place
            count += 1
    return count


@compiled
def activate_experts(shape, gates, ups, scratch, thread, threads):
    """Compute this thread's part of the inputs of the chosen experts' down projections.

    The rows of the experts follow each other in both matrices.
    """
    inner, width = shape.inner, scratch.active.shape[1]
    first, last = partition(inner, LANES, thread, threads)
    vectors, memory = (last - first + LANES - 1) // LANES, address(scratch.dequantized[thread])
    gathered, places = scratch.gathered[thread], scratch.places[thread]
    gate, stride = address(scratch.gate_up), scratch.gate_up.strides[0]
    for expert in range(shape.experts):
        count = _gather(
            scratch.normed[thread], shape.active_experts, scratch.chosen[thread].ravel(), expert, places, gathered
        )
        if count == 0:
            continue
        start, x = expert * inner, address(gathered)
        product(gates, start, x, gathered.strides[0], count, gate, stride, first, last, memory)
        product(ups, start, x, gathered.strides[0], count, gate + 4 * width, stride, first, last, memory)
        for index in range(count):
            source = gate + index * stride + 4 * first
            out = address(scratch.active) + places[index] * scratch.active.strides[0] + 4 * first
            activate(shape.activation, source, out, vectors)
            multiply_row(out, source + 4 * width, vectors)


@compiled
def project_experts(shape, matrix, scratch, thread, threads):
    """Write this thread's part of the weighted sum of the chosen experts, in the order of the experts."""
    first, last = partition(shape.hidden, LANES, thread, threads)
    vectors, memory = (last - first + LANES - 1) // LANES, address(scratch.dequantized[thread])
    gathered, places, outputs = scratch.gathered[thread], scratch.places[thread], scratch.outputs
    chosen_weights = scratch.chosen_weights[thread].ravel()
    for row in range(len(scratch.update)):
        for column in range(first, last):
            scratch.update[row, column] = 0.0
    for expert in range(shape.experts):
        count = _gather(scratch.active, 1, scratch.chosen[thread].ravel(), expert, places, gathered)
        if count == 0:
            continue
        product(
            matrix, expert * shape.hidden, address(gathered), gathered.strides[0], count, address(outputs),
            outputs.strides[0], first, last, memory,
        )  # fmt: skip
        for index in range(count):
            row = places[index] // shape.active_experts
            target = address(scratch.update) + row * scratch.update.strides[0] + 4 * first
            source = address(outputs) + index * outputs.strides[0] + 4 * first
            add_row(source, chosen_weights[places[index]], vectors, target)
