"""The residual stream of a prompt: embeddings, updates and norms of whole panels, and norms of heads."""

from __future__ import annotations

import numpy as np

from workbench.engine.kernels import compiled
from workbench.engine.kernels.memory_access import address, get
from workbench.engine.kernels.panels import PANEL, column_sums_of_squares, pack_panel
from workbench.engine.kernels.products import dequantize_row
from workbench.engine.kernels.prompt_products import packed_bytes
from workbench.engine.kernels.simd import GROUP
from workbench.engine.kernels.step_memory import LAYER_NORM


@compiled
def embed_panel(shape, weights, prompt, panel, scratch, thread):
    """Write the embeddings of a panel's tokens, one in each column; the columns beyond the last token are zero."""
    hidden, memory = scratch.hidden[panel], address(scratch.rows) + thread * scratch.rows.strides[0]
    hidden[:] = 0.0
    for column in range(min(PANEL, len(prompt.token_ids) - panel * PANEL)):
        token = panel * PANEL + column
        _add_row(weights.embedding, prompt.token_ids[token], shape.embedding_scale, hidden, column, memory)
        if weights.positions[1]:
            _add_row(weights.positions, prompt.past + token, 1.0, hidden, column, memory)


@compiled
def _add_row(matrix, row, factor, hidden, column, memory):
    """Add a matrix row times ``factor`` to a column; ``memory`` is the address of a row in float32."""
    dequantize_row(matrix, row, memory)
    for feature in range(len(hidden)):
        hidden[feature, column] += get(memory + 4 * feature) * np.float32(factor)


@compiled
def _measure(shape, x, width, means, factors):
    """Write the mean of each column, zero for an RMS norm, and the inverse of its root mean square or deviation."""
    means[:] = 0.0
    if shape.norm == LAYER_NORM:
        for row in range(width):
            for column in range(PANEL):
                means[column] += x[row, column]
        for column in range(PANEL):
            means[column] /= np.float32(width)
        factors[:] = 0.0
        for row in range(width):
            for column in range(PANEL):
                rest = x[row, column] - means[column]
                factors[column] += rest * rest
    else:
        column_sums_of_squares(address(x), width, address(factors))
    _invert_roots(shape, width, factors)


@compiled
def _invert_roots(shape, width, factors):
    """Replace sums of squares of ``width`` numbers by the inverse of the root of their mean."""
    for column in range(PANEL):
        factors[column] = np.float32(1.0) / np.sqrt(factors[column] / np.float32(width) + np.float32(shape.eps))


@compiled
def _norm_rows(x, first, count, weight, bias, means, factors, out):
    """Write the norm of ``count`` rows of measured columns, from ``first`` on; weight and bias are addresses."""
    for row in range(count):
        factor = get(weight + 4 * (first + row))
        summand = get(bias + 4 * (first + row)) if bias else np.float32(0.0)
        for column in range(PANEL):
            normed = (x[first + row, column] - means[column]) * factors[column]
            out[row, column] = normed * factor + summand


@compiled
def pack_norm(shape, norm, panel, arithmetic, scratch, thread):
    """Pack the norm of a panel's hidden states, or themselves if there is no norm: two addresses, or zeros."""
    hidden, product = scratch.hidden[panel], scratch.product[thread]
    means, factors = scratch.columns[thread, 0], scratch.columns[thread, 1]
    out = address(scratch.normed) + panel * scratch.normed.strides[0]
    if norm[0] == 0:
        pack_panel(arithmetic, address(hidden), len(hidden), out)
        return
    _measure(shape, hidden, shape.hidden, means, factors)
    for first in range(0, len(hidden), GROUP):
        _norm_rows(hidden, first, GROUP, norm[0], norm[1], means, factors, product)
        pack_panel(arithmetic, address(product), GROUP, out + packed_bytes(arithmetic, first))


@compiled
def add_update(shape, norm, panel, scratch, thread):
    """Add the output of attention or of the MLP, after its norm if it has one, to a panel's hidden states."""
    hidden, update, product = scratch.hidden[panel], scratch.update[panel], scratch.product[thread]
    means, factors = scratch.columns[thread, 0], scratch.columns[thread, 1]
    scale = np.float32(shape.residual_scale)
    if norm[0] == 0:
        for row in range(len(hidden)):
            for column in range(PANEL):
                hidden[row, column] += update[row, column] * scale
        return
    _measure(shape, update, shape.hidden, means, factors)
    for first in range(0, len(hidden), GROUP):
        _norm_rows(update, first, GROUP, norm[0], norm[1], means, factors, product)
        for row in range(GROUP):
            for column in range(PANEL):
                hidden[first + row, column] += product[row, column] * scale


@compiled
def norm_head(shape, product, weight, scratch, thread):
    """Normalize a head of a panel, in place; ``weight`` is an address."""
    means, factors = scratch.columns[thread, 0], scratch.columns[thread, 1]
    _measure(shape, product, shape.head_dim, means, factors)
    _norm_rows(product, 0, shape.head_dim, weight, 0, means, factors, product)


@compiled
def norm_by_all_heads(shape, product, index, panel, weight, scratch, thread):
    """Apply the RMS norm of all queries, or of all keys, to one head of a panel, in place."""
    means, factors = scratch.columns[thread, 0], scratch.columns[thread, 1]
    first, last = (0, shape.heads) if index < shape.heads else (shape.heads, shape.heads + shape.kv_heads)
    means[:] = 0.0
    factors[:] = 0.0
    for head in range(first, last):
        for column in range(PANEL):
            factors[column] += scratch.squares[panel, head, column]
    _invert_roots(shape, (last - first) * shape.head_dim, factors)
    _norm_rows(product, 0, shape.head_dim, weight, 0, means, factors, product)
