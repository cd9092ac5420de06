"""Attention of each text to all of itself, for sentence models, in float32.

The keys of a head are transposed once; its values are panels as they are. The scores of a turn of queries stay in the
cache. A text's numbers do not depend on the texts beside it. Pointers are addresses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from workbench.engine.kernels import compiled
from workbench.engine.kernels.memory_access import ZERO, get, put
from workbench.engine.kernels.panel_linear import multiply_turn
from workbench.engine.kernels.panels import PANEL, ROW_BYTES, TURN, transpose_block
from workbench.engine.kernels.row_intrinsics import exp_and_sum, scale_row
from workbench.engine.kernels.simd import FLOAT32, LANES


class AttentionShape(NamedTuple):
    """Sizes of an attention. A row of its input has the queries of all heads, then all keys, then all values."""

    heads: int
    head_dim: int
    """A multiple of 32."""
    factor: Any
    """float32 by which scores are multiplied."""
    row_bytes: int
    """Size of a row of scores, and of one of transposed keys."""


def scores_row_bytes(longest: int) -> int:
    """Return the size of a row of scores for texts of ``longest`` tokens; no power of two, which would share lines."""
    return 4 * ((longest + PANEL - 1) // PANEL * PANEL + LANES)


def attention_bytes(shape: AttentionShape) -> int:
    """Return the size of the memory that a thread needs."""
    positions = shape.row_bytes // 4
    return 4 * (2 * shape.head_dim * positions + TURN * (positions + shape.head_dim + PANEL + 1) + PANEL)


@compiled
def attend_rows(qkv, lengths, shape, memory, first, last, out):
    """Write rows ``first`` to ``last`` of the attention of all texts.

    Args:
        qkv: float32 (tokens of all texts and at least `LANES` more, 3 * heads * head_dim).
        lengths: array, tokens of each text.
        shape: `AttentionShape`.
        memory: `attention_bytes`, zeros at first.
        out: float32 (tokens of all texts, heads * head_dim).
    """
    begin, width = ZERO, 4 * shape.heads * shape.head_dim
    for length in lengths:
        start, end = max(begin, first), min(begin + length, last)
        for head in range(shape.heads if start < end else 0):
            column = 4 * head * shape.head_dim
            _pack_head(qkv + begin * 3 * width + width + column, length, shape, memory)
            for row in range(start, end, TURN):
                queries, target = qkv + row * 3 * width + column, out + row * width + column
                _attend_turn(queries, length, shape, memory, min(TURN, end - row), target)
        begin += length


@compiled
def _pack_head(keys, length, shape, memory):
    """Transpose the keys of a head, with up to 15 rows after the text, whose scores are masked; copy its values."""
    width = 4 * shape.heads * shape.head_dim
    for column in range(0, shape.head_dim, LANES):
        for position in range(0, length, LANES):
            block, out = keys + position * 3 * width + 4 * column, memory + column * shape.row_bytes + 4 * position
            transpose_block(FLOAT32, block, 3 * width, FLOAT32, out, shape.row_bytes)
    values = memory + shape.head_dim * shape.row_bytes
    for position in range(length):
        start = keys + width + position * 3 * width
        scale_row(start, np.float32(1.0), shape.head_dim // LANES, values + position * 4 * shape.head_dim)


@compiled
def _attend_turn(x, length, shape, keys, count, out):
    """Write the outputs of a head for ``count`` rows of queries, from ``x`` on, by its packed keys and values."""
    dim, width, row_bytes = shape.head_dim, 4 * shape.heads * shape.head_dim, shape.row_bytes
    values = keys + dim * row_bytes
    scores = values + dim * row_bytes
    queries = scores + TURN * row_bytes
    product = queries + TURN * 4 * dim
    zeros = product + TURN * ROW_BYTES
    factors = zeros + ROW_BYTES
    for turn in range(count):
        scale_row(x + turn * 3 * width, shape.factor, dim // LANES, queries + turn * 4 * dim)
    for position in range(0, length, PANEL):
        multiply_turn(queries, 4 * dim, keys + 4 * position, row_bytes, dim, zeros, scores + 4 * position, row_bytes)
    vectors = (length + LANES - 1) // LANES
    for turn in range(count):
        for position in range(length, vectors * LANES):
            put(FLOAT32, scores + turn * row_bytes + 4 * position, np.float32(-np.inf))
        total = exp_and_sum(scores + turn * row_bytes, vectors)
        put(FLOAT32, factors + 4 * turn, np.float32(1.0) / total)
    for column in range(0, dim, PANEL):
        multiply_turn(scores, row_bytes, values + 4 * column, 4 * dim, length, zeros, product, ROW_BYTES)
        for turn in range(count):
            target = out + turn * width + 4 * column
            scale_row(product + turn * ROW_BYTES, get(factors + 4 * turn), PANEL // LANES, target)
