"""Queries, keys and values of a prompt."""

from __future__ import annotations

from workbench.engine.kernels import compiled
from workbench.engine.kernels.heads import head_place
from workbench.engine.kernels.memory_access import address, number_bytes, put
from workbench.engine.kernels.panels import (
    FMA,
    PANEL,
    ROW_BYTES,
    column_sums_of_squares,
    pack_panel,
    to_bf16,
    transpose_block,
)
from workbench.engine.kernels.prompt_norms import norm_by_all_heads, norm_head
from workbench.engine.kernels.prompt_products import add_bias, factor_format, load_rows, multiply
from workbench.engine.kernels.simd import FLOAT32, LANES
from workbench.engine.kernels.step_memory import HEAD_NORM, PROJECTION_NORM, QUERY

PAST_POSITIONS = 256
"""Positions of a share of `load_values`."""


@compiled
def project_head(shape, weights, layer, prompt, index, panels, scratch, thread):
    """Compute one head of queries, keys or values for a range of panels.

    With a norm over all heads, queries and keys are kept until all are computed.
    """
    part, place = head_place(shape, index)
    dim, linear, product = shape.head_dim, weights.linears[layer, QUERY + part], scratch.product[thread]
    rows, stride = address(scratch.rows) + thread * scratch.rows.strides[0], scratch.rows.strides[1]
    load_rows(linear, place, dim, prompt.arithmetic, rows, stride)
    for panel in range(panels[0], panels[1]):
        x = address(scratch.normed) + panel * scratch.normed.strides[0]
        for row in range(0, dim, PANEL):
            out = address(product) + row * ROW_BYTES
            multiply(prompt.arithmetic, rows + row * stride, stride, x, scratch.hidden.shape[1], out)
        add_bias(linear, place, dim, product)
        if shape.qk_norm == PROJECTION_NORM and index < shape.heads + shape.kv_heads:
            column_sums_of_squares(address(product), dim, address(scratch.squares[panel, index]))
            scratch.kept[index, panel] = product[:dim]
            continue
        if shape.qk_norm == HEAD_NORM and index < shape.heads + shape.kv_heads:
            norm_head(shape, product, weights.norms[layer, 4, 0] + 4 * dim * index, scratch, thread)
        _finish_head(shape, weights, layer, prompt, index, panel, scratch, thread)


@compiled
def finish_kept_head(shape, weights, layer, prompt, index, panel, scratch, thread):
    """Finish a head of queries or keys that was kept until all were computed."""
    dim, product = shape.head_dim, scratch.product[thread]
    product[:dim] = scratch.kept[index, panel]
    weight = weights.norms[layer, 4, 0] + 4 * dim * index
    norm_by_all_heads(shape, product, index, panel, weight, scratch, thread)
    _finish_head(shape, weights, layer, prompt, index, panel, scratch, thread)


@compiled
def _finish_head(shape, weights, layer, prompt, index, panel, scratch, thread):
    """Rotate a head, and store it where attention reads it."""
    dim, product, padded = shape.head_dim, scratch.product[thread], scratch.values.shape[1]
    rotary = weights.layers[layer, 0]
    product[dim:padded] = 0.0
    if rotary >= 0 and index < shape.heads + shape.kv_heads:
        _rotate(product, prompt.cos[rotary], prompt.sin[rotary], panel * PANEL)
    if index < shape.heads:
        factor = weights.attention_scales[layer]
        for row in range(dim):
            for column in range(PANEL):
                product[row, column] *= factor
        out = address(scratch.queries) + index * scratch.queries.strides[0] + panel * scratch.queries.strides[1]
        pack_panel(prompt.arithmetic, address(product), padded, out)
        return
    kv_index = index - shape.heads
    _store_in_cache(prompt, layer * 2 * shape.kv_heads + kv_index, padded, product, panel * PANEL)
    if kv_index >= shape.kv_heads:
        _store_values(prompt, kv_index - shape.kv_heads, product, dim, panel, scratch)


@compiled
def _rotate(product, cos, sin, first):
    """Apply the rotary embedding to the first components of a head, in place; the first half of sines is negated."""
    half = len(cos) // 2
    for index in range(half):
        for column in range(PANEL):
            token = first + column
            left, right = product[index, column], product[half + index, column]
            product[index, column] = left * cos[index, token] + right * sin[index, token]
            product[half + index, column] = right * cos[half + index, token] + left * sin[half + index, token]


@compiled
def _store_in_cache(prompt, index, padded, product, first):
    """Store a panel of keys or values, tokens from ``first`` on, in the cache; ``index`` counts heads of all layers."""
    size = number_bytes(prompt.kv_format)
    row_bytes, count = padded * size, min(PANEL, len(prompt.token_ids) - first)
    target = prompt.kv + (index * prompt.capacity + prompt.past + first) * row_bytes
    whole = count // LANES * LANES
    for column in range(0, whole, LANES):
        for row in range(0, padded, LANES):
            transpose_block(
                FLOAT32, address(product) + row * ROW_BYTES + 4 * column, ROW_BYTES,
                prompt.kv_format, target + column * row_bytes + row * size, row_bytes,
            )  # fmt: skip
    for column in range(whole, count):
        for row in range(padded):
            put(prompt.kv_format, target + column * row_bytes + row * size, product[row, column])


@compiled
def _store_values(prompt, kv_head, product, dim, panel, scratch):
    """Store a panel of values with positions in columns."""
    values = address(scratch.values) + kv_head * scratch.values.strides[0]
    values += (prompt.past + panel * PANEL) * number_bytes(factor_format(prompt.arithmetic))
    for row in range(dim):
        target = values + row * scratch.values.strides[1]
        if prompt.arithmetic == FMA:
            for column in range(PANEL):
                put(FLOAT32, target + 4 * column, product[row, column])
        else:
            to_bf16(address(product) + row * ROW_BYTES, target)


@compiled
def load_values(shape, layer, prompt, kv_head, first, scratch, thread):
    """Read the values of `PAST_POSITIONS` positions from the cache, and store them with positions in columns."""
    padded, product, stride = scratch.values.shape[1], scratch.product[thread], scratch.values.strides[1]
    out_format = factor_format(prompt.arithmetic)
    size, out_size = number_bytes(prompt.kv_format), number_bytes(out_format)
    source = prompt.kv + ((2 * layer + 1) * shape.kv_heads + kv_head) * prompt.capacity * padded * size
    target = address(scratch.values) + kv_head * scratch.values.strides[0]
    for position in range(first, min(first + PAST_POSITIONS, prompt.past), LANES):
        for row in range(0, padded, LANES):
            start, out = source + (position * padded + row) * size, target + row * stride + position * out_size
            if position + LANES <= prompt.past:
                transpose_block(prompt.kv_format, start, padded * size, out_format, out, stride)
                continue
            # The positions of the prompt itself are stored by other threads.
            transpose_block(prompt.kv_format, start, padded * size, FLOAT32, address(product), ROW_BYTES)
            for index in range(LANES):
                for column in range(prompt.past - position):
                    put(out_format, out + index * stride + column * out_size, product[index, column])
