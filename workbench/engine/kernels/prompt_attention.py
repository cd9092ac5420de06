"""Attention of a prompt's panels over the keys and values of their sequence, without a matrix of all scores."""

from __future__ import annotations

import numpy as np

from workbench.engine.kernels import compiled
from workbench.engine.kernels.attention import first_position
from workbench.engine.kernels.matrix_intrinsics import dequantize_blocks
from workbench.engine.kernels.memory_access import ZERO, address, number_bytes
from workbench.engine.kernels.panels import FMA, PANEL, ROW_BYTES, column_maxima, exp_columns, pack_panel
from workbench.engine.kernels.prompt_products import factor_format, multiply, packed_bytes
from workbench.engine.kernels.row_intrinsics import soft_cap
from workbench.engine.kernels.simd import BF16, GROUP, LANES


@compiled
def attend_panel(shape, weights, layer, prompt, head, panel, scratch, thread):
    """Compute attention of one head of a panel over the positions that its tokens attend to.

    Positions are read in whole groups from the first position on. Groups before it would add zeros to a token's sums,
    so a token's results do not depend on the tokens beside it.
    """
    padded, dim, arithmetic = scratch.values.shape[1], shape.head_dim, prompt.arithmetic
    own, last = prompt.past + panel * PANEL, prompt.past + len(prompt.token_ids) - 1
    start = first_position(weights.layers[layer, 1], weights.layers[layer, 2], own) // PANEL * PANEL
    count = (min(own + PANEL, last + 1) - start + PANEL - 1) // PANEL * PANEL
    kv_head, scores, product = head // (shape.heads // shape.kv_heads), scratch.scores[thread], scratch.product[thread]
    maxima, sums = scratch.columns[thread, 0], scratch.columns[thread, 1]
    size = number_bytes(prompt.kv_format)
    keys = prompt.kv + ((2 * layer * shape.kv_heads + kv_head) * prompt.capacity + start) * padded * size
    queries = address(scratch.queries) + head * scratch.queries.strides[0] + panel * scratch.queries.strides[1]
    _score(prompt, keys, count, queries, padded, scratch, thread)
    if shape.attention_cap:
        soft_cap(address(scores), np.float32(shape.attention_cap), count * PANEL // LANES)
    _mask(weights.layers[layer, 1], weights.layers[layer, 2], own, last, start, count, scores)
    packed = address(scratch.probabilities) + thread * scratch.probabilities.strides[0]
    column_maxima(address(scores), count, address(maxima))
    exp_columns(arithmetic, address(scores), count, address(maxima), address(sums), packed)
    values = (
        address(scratch.values) + kv_head * scratch.values.strides[0] + start * number_bytes(factor_format(arithmetic))
    )
    stride, out = scratch.values.strides[1], address(scratch.attended) + panel * scratch.attended.strides[0]
    for first in range(0, dim, PANEL):
        multiply(arithmetic, values + first * stride, stride, packed, count, address(product))
        rows = min(PANEL, dim - first)
        for row in range(rows):
            for column in range(PANEL):
                product[row, column] /= sums[column]
        pack_panel(arithmetic, address(product), rows, out + packed_bytes(arithmetic, head * dim + first))


@compiled
def _score(prompt, keys, count, queries, padded, scratch, thread):
    """Multiply a panel of queries with the keys of ``count`` positions."""
    row_bytes = padded * number_bytes(prompt.kv_format)
    rows = address(scratch.rows) + thread * scratch.rows.strides[0]
    for position in range(0, count, PANEL):
        start, stride = keys + position * row_bytes, row_bytes
        if prompt.arithmetic == FMA and prompt.kv_format == BF16:
            for row in range(PANEL):
                dequantize_blocks(BF16, start + row * row_bytes, ZERO, padded // GROUP, ZERO, rows + row * 4 * padded)
            start, stride = rows, 4 * padded
        out = address(scratch.scores[thread]) + position * ROW_BYTES
        multiply(prompt.arithmetic, start, stride, queries, padded, out)


@compiled
def _mask(window, chunk, own, last, start, count, scores):
    """Set the scores of the positions that a panel's tokens do not attend to; the rows are positions from ``start``.

    The columns beyond the last token are masked as that token's is, so that they are numbers.
    """
    for column in range(PANEL):
        position = min(own + column, last)
        for row in range(position + 1 - start, count):
            scores[row, column] = -np.inf
        for row in range(first_position(window, chunk, position) - start):
            scores[row, column] = -np.inf
