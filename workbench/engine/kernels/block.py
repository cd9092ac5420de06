"""The parts of a transformer block in a decode step, and the embedding before the blocks.

Each thread has its own copy of the hidden states and computes every norm itself, which takes less time than waiting for
other threads would.
"""

from __future__ import annotations

import numpy as np

from workbench.engine.kernels import compiled
from workbench.engine.kernels.activation import activate
from workbench.engine.kernels.heads import HEAD_PARTS, head_rows
from workbench.engine.kernels.memory_access import ZERO, address, get, number_bytes, put
from workbench.engine.kernels.products import dequantize_row, linear
from workbench.engine.kernels.row_intrinsics import add_row, layer_norm, multiply_row, rms_norm, scale_row
from workbench.engine.kernels.simd import LANES, ROWS
from workbench.engine.kernels.step_memory import LAYER_NORM, PROJECTION_NORM, QUERY
from workbench.engine.kernels.synchronization import barrier_wait, partition


@compiled
def embed(shape, weights, token_ids, scratch, thread):
    """Write the embedding of each token to this thread's hidden states."""
    hidden = scratch.hidden[thread]
    for row in range(len(token_ids)):
        out = address(hidden) + row * hidden.strides[0]
        dequantize_row(weights.embedding, token_ids[row], out)
        if shape.embedding_scale != 1.0:
            scale_row(out, np.float32(shape.embedding_scale), hidden.shape[1] // LANES, out)


@compiled
def add_positions(weights, positions, scratch, thread):
    """Add the embedding of each row's position if positions are learned; the normed rows are used as memory."""
    hidden, other = scratch.hidden[thread], address(scratch.normed[thread])
    if weights.positions[1]:
        for row in range(len(positions)):
            dequantize_row(weights.positions, positions[row], other)
            add_row(other, np.float32(1.0), hidden.shape[1] // LANES, address(hidden) + row * hidden.strides[0])


@compiled
def norm_rows(shape, x, norm, out):
    """Write the norm of each row, or a copy of it if there is no norm; ``norm`` has two addresses, or zeros."""
    vectors = x.shape[1] // LANES
    for row in range(len(x)):
        start, target = address(x) + row * x.strides[0], address(out) + row * out.strides[0]
        if norm[0] == 0:
            scale_row(start, np.float32(1.0), vectors, target)
        else:
            _norm(shape, start, vectors, shape.hidden, norm[0], norm[1], target)


@compiled
def _norm(shape, x, vectors, width, weight, bias, out):
    if shape.norm == LAYER_NORM:
        layer_norm(x, vectors, width, weight, bias, np.float32(shape.eps), out)
    else:
        rms_norm(x, vectors, np.float32(width), weight, np.float32(shape.eps), out)


@compiled
def add_update(shape, norm, scratch, thread):
    """Add the output of attention or of the MLP, after its norm if it has one, to this thread's hidden states."""
    hidden, update = scratch.hidden[thread], scratch.update
    if norm[0]:
        norm_rows(shape, update, norm, scratch.normed[thread])
        update = scratch.normed[thread]
    for row in range(len(hidden)):
        add_row(
            address(update) + row * update.strides[0], np.float32(shape.residual_scale), hidden.shape[1] // LANES,
            address(hidden) + row * hidden.strides[0],
        )  # fmt: skip


@compiled
def project_update(shape, matrix, x, scratch, thread, threads):
    """Write this thread's part of the output of attention or of the MLP, which `add_update` adds."""
    first, last = partition(shape.hidden, LANES, thread, threads)
    linear(matrix, x, scratch.update, ZERO, first, last, scratch.dequantized[thread])


@compiled
def project_heads(shape, weights, layer, past, cos, sin, scratch, thread, threads):
    """Compute queries, keys and values of whole heads, and store keys and values in the cache."""
    dim, norm, rotary = shape.head_dim, weights.norms[layer, 4, 0], weights.layers[layer, 0]
    normed_heads = shape.heads + shape.kv_heads
    # Threads take heads in pairs if one is not a whole number of row groups, so that no group is shared.
    first, last = partition(normed_heads + shape.kv_heads, 1 if dim % ROWS == 0 else 2, thread, threads)
    memory = scratch.dequantized[thread]
    _project_outputs(
        shape, weights.linears[layer], scratch.normed[thread], scratch.qkv, first * dim, last * dim, memory
    )
    if shape.qk_norm == PROJECTION_NORM:
        _sum_squares(scratch.qkv, dim, first, min(last, normed_heads), scratch.squares)
        barrier_wait(address(scratch.barrier), threads)
    for row in range(len(scratch.qkv)):
        for index in range(first, last):
            if index < normed_heads:
                if shape.qk_norm == PROJECTION_NORM:
                    _scale_head(shape, scratch.qkv, row, index, norm, scratch.squares[row])
                elif norm:
                    _norm_head(shape, scratch.qkv, row, index, norm)
                if rotary >= 0:
                    _rotate(scratch.qkv[row], index * dim, cos[row, rotary], sin[row, rotary])
            if index >= shape.heads:
                _store_head(shape, layer, past, row, index - shape.heads, scratch.qkv[row, index * dim :], scratch)


@compiled
def _project_outputs(shape, linears, x, out, first, last, memory):
    """Compute outputs ``first`` to ``last`` of all queries, keys and values."""
    for part in range(HEAD_PARTS):
        start, end = head_rows(shape, part)
        low, high = max(first, start) - start, min(last, end) - start
        if low < high:
            linear(linears[QUERY + part], x, out, start, low, high, memory)


@compiled
def _store_head(shape, layer, past, row, index, head, scratch):
    """Store a key or value head in the cache; ``index`` counts key heads, then value heads."""
    size = number_bytes(past.kv_format)
    place = (layer * 2 * shape.kv_heads + index) * past.capacities[row] + past.positions[row]
    target = past.addresses[row] + place * scratch.heads.shape[3] * size
    for column in range(shape.head_dim):
        put(past.kv_format, target + column * size, head[column])


@compiled
def _norm_head(shape, x, row, index, weights):
    """Normalize one head, in place; ``weights`` is the address of those of all heads."""
    dim = shape.head_dim
    start, weight = index * dim, weights + 4 * dim * index
    if dim % LANES == 0:
        head = address(x) + row * x.strides[0] + 4 * start
        _norm(shape, head, dim // LANES, dim, weight, 0, head)
        return
    mean, total = np.float32(0.0), np.float32(0.0)
    if shape.norm == LAYER_NORM:
        for column in range(start, start + dim):
            mean += x[row, column]
        mean /= np.float32(dim)
    for column in range(start, start + dim):
        x[row, column] -= mean
        total += x[row, column] * x[row, column]
    factor = np.float32(1.0) / np.sqrt(total / np.float32(dim) + np.float32(shape.eps))
    for column in range(dim):
        x[row, start + column] *= factor * get(weight + 4 * column)


@compiled
def _sum_squares(x, dim, first, last, squares):
    """Write the sum of squares of heads ``first`` to ``last`` of each row."""
    for row in range(len(x)):
        for index in range(first, last):
            total = np.float32(0.0)
            for column in range(index * dim, (index + 1) * dim):
                total += x[row, column] * x[row, column]
            squares[row, index] = total


@compiled
def _scale_head(shape, x, row, index, weights, squares):
    """Apply the RMS norm of all queries, or of all keys, to one head, in place."""
    dim = shape.head_dim
    first, last = (0, shape.heads) if index < shape.heads else (shape.heads, shape.heads + shape.kv_heads)
    total = np.float32(0.0)
    for other in range(first, last):
        total += squares[other]
    factor = np.float32(1.0) / np.sqrt(total / np.float32((last - first) * dim) + np.float32(shape.eps))
    for column in range(dim):
        x[row, index * dim + column] *= factor * get(weights + 4 * (index * dim + column))


@compiled
def _rotate(x, start, cos, sin):
    """Apply the rotary embedding to the first components of one head, in place; the first half of sines is negated."""
    half = len(cos) // 2
    for index in range(half):
        left, right = x[start + index], x[start + half + index]
        x[start + index] = left * cos[index] + right * sin[index]
        x[start + half + index] = right * cos[half + index] + left * sin[half + index]


@compiled
def project_mlp(shape, gate, up, scratch, thread, threads):
    """Compute this thread's part of the MLP's first projections, the gate and ``up``, or of a gate alone."""
    width = scratch.active.shape[1]
    first, last = partition(shape.inner, LANES, thread, threads)
    flat = scratch.gate_up.reshape(len(scratch.active), 2 * width)
    normed, memory = scratch.normed[thread], scratch.dequantized[thread]
    linear(gate, normed, flat, ZERO, first, last, memory)
    if shape.is_gated:
        linear(up, normed, flat, width, first, last, memory)


@compiled
def activate_mlp(shape, scratch, thread, threads):
    """Compute the input of the MLP's down projection: the activation of its gate times ``up``, or of a gate alone."""
    width = scratch.active.shape[1]
    first, last = partition(shape.inner, LANES, thread, threads)
    vectors = (last - first + LANES - 1) // LANES
    for row in range(len(scratch.active)):
        start = address(scratch.gate_up) + row * scratch.gate_up.strides[0] + 4 * first
        out = address(scratch.active) + row * scratch.active.strides[0] + 4 * first
        activate(shape.activation, start, out, vectors)
        if shape.is_gated:
            multiply_row(out, start + 4 * width, vectors)
