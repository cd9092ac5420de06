"""The memory of a decode step: addresses of weights and sequences, and scratch buffers."""

from __future__ import annotations

from typing import Any, NamedTuple

RMS_NORM, LAYER_NORM = range(2)
"""Kinds of norms."""

NO_NORM, HEAD_NORM, PROJECTION_NORM = range(3)
"""Norms of queries and keys: none, of each head, of all heads together."""


QUERY, KEY, VALUE, OUTPUT, GATE, UP, DOWN = range(7)
"""Linear layers of a block. An MLP without a gate has its first projection in the place of the gate."""


class Shape(NamedTuple):
    """Sizes and structure of a model, as in `BlockStructure`, in numbers that kernels read."""

    layers: int
    hidden: int
    inner: int
    vocab: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    norm: int = RMS_NORM
    qk_norm: int = NO_NORM
    activation: int = 0
    """A value of `ACTIVATION_IDS`."""
    is_gated: bool = True
    is_parallel: bool = False
    experts: int = 0
    active_experts: int = 0
    normalizes_experts: bool = False
    rotary_dim: int = 0
    attention_cap: float = 0.0
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    logit_cap: float = 0.0


class Weights(NamedTuple):
    """Addresses of a model's weights; the last dimension of 5 is a `Matrix.descriptor`."""

    linears: Any
    """int64 (layers, 7, 5): `QUERY` to `DOWN`; the rows of a mixture's experts follow each other."""
    norms: Any
    """int64 (layers + 1, 5, 2): before and after attention, before and after the MLP, of queries and keys, with a
    weight and a bias each, or zeros; the last before the head."""
    layers: Any
    """int64 (layers, 3): index of the rotary angles or -1, window or 0, chunk or 0, as in `LayerStructure`."""
    routers: Any
    """int64 (layers, 5): matrices that rate experts, or zeros."""
    attention_scales: Any
    """float32 (layers,): factors of the scores."""
    embedding: Any
    """int64 (5,): the matrix with one row per token."""
    positions: Any
    """int64 (5,): the matrix with one row per learned position, or zeros."""
    head: Any
    """int64 (5,): the output matrix."""


class SequenceViews(NamedTuple):
    """The sequences of a step: their keys and values, and the positions of the new tokens."""

    kv_format: int
    """`FLOAT32` or `BF16`."""
    kv_kernel: int
    """The `matrix_kernel` of that format."""
    addresses: Any
    """int64 (rows,): of memory of shape (layers, 2, kv_heads, capacity, padded head_dim)."""
    capacities: Any
    positions: Any
    is_one_sequence: bool
    """Whether the rows are consecutive tokens of one sequence."""


class Scratch(NamedTuple):
    """Buffers of a step, without contents between steps; all float32, with widths padded to `GROUP`."""

    hidden: Any
    """(threads, rows, hidden): a copy for each thread."""
    normed: Any
    """(threads, rows, hidden)"""
    qkv: Any
    """(rows, (heads + 2 * kv_heads) * head_dim)"""
    squares: Any
    """(rows, heads + kv_heads): sums of the squares of heads, for `PROJECTION_NORM`."""
    attended: Any
    """(rows, heads * head_dim)"""
    gate_up: Any
    """(rows, 2, inner)"""
    active: Any
    """(rows * active experts, or rows, inner)"""
    ratings: Any
    """(threads, rows, experts)"""
    gathered: Any
    """(threads, rows, hidden or inner): inputs of one expert."""
    outputs: Any
    """(rows, hidden): outputs of one expert."""
    chosen: Any
    """int64 (threads, rows, active experts): indices of experts."""
    chosen_weights: Any
    """(threads, rows, active experts)"""
    places: Any
    """int64 (threads, rows): which of the choices one expert computes."""
    update: Any
    """(rows, hidden)"""
    heads: Any
    """(threads, 2, query heads together, head_dim): queries, then attention outputs."""
    scores: Any
    """(threads, query heads together, longest sequence)"""
    dequantized: Any
    """(threads, ROWS * longest row)"""
    barrier: Any
    """int64 (16,), zeros."""
