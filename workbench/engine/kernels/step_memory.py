"""The memory of a decode step: where weights, sequences and what holds nothing between two steps are."""

from __future__ import annotations

from typing import Any, NamedTuple

from workbench.engine.kernels import compiled


class Shape(NamedTuple):
    """The numbers of an architecture."""

    layers: int
    hidden: int
    inner: int
    vocab: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float


class Weights(NamedTuple):
    """Where a model's weights are; the arrays hold addresses, see `Matrix.place`."""

    linears: Any
    """int64 (layers, 4, 5): qkv, output, gate and up, down; each form, data, scale, groups, bias or 0."""
    norms: Any
    """int64 (layers + 1, 3): before attention, before the MLP, of queries and keys or 0; last, before the head."""
    embedding: Any
    """int64 (5,): the matrix whose rows are tokens."""
    head: Any
    """int64 (5,): the output matrix."""


class SequenceViews(NamedTuple):
    """The sequences of a step: keys and values in memory, and where the new token stands."""

    form: int
    """`FLOAT32` or `BF16`."""
    addresses: Any
    """int64 (rows,): (layers, 2, kv_heads, capacity, padded head_dim)."""
    capacities: Any
    positions: Any
    together: bool
    """Whether the rows are tokens of one sequence, in order."""
    in_tiles: bool
    """Whether products may be taken in tiles, and so in bf16; never of rows that must come out as they would alone."""


class Scratch(NamedTuple):
    """Memory of a step that holds nothing between two; all float32, widths padded to `GROUP`."""

    hidden: Any
    """(rows, hidden)"""
    normed: Any
    """(threads, rows, hidden)"""
    qkv: Any
    """(rows, (heads + 2 * kv_heads) * head_dim)"""
    attended: Any
    """(rows, heads * head_dim)"""
    gate_up: Any
    """(rows, 2, inner)"""
    active: Any
    """(rows, inner)"""
    update: Any
    """(rows, hidden)"""
    heads: Any
    """(threads, 2, query heads at once, head_dim): queries, and what they attend to."""
    scores: Any
    """(threads, query heads at once, longest sequence)"""
    unpacked: Any
    """(threads, ROWS * longest row)"""
    tiles: Any
    """uint8 (threads, bytes): `SHAPES`, then vectors and widened weights as they go into tiles; empty without tiles."""
    barrier: Any
    """int64 (16,), zeros."""


@compiled
def address(array):
    return array.ctypes.data


@compiled
def tile_memory(past, scratch, thread):
    """Where this thread has memory for tiles; 0 where none are used."""
    if not past.in_tiles:
        return 0
    return address(scratch.tiles) + thread * scratch.tiles.strides[0] + 64
