"""The memory of a prompt: its tokens, panels of activations, and the buffers of the threads that compute them."""

from __future__ import annotations

from typing import Any, NamedTuple


class Prompt(NamedTuple):
    """The tokens of a call, and the sequence that they are appended to."""

    token_ids: Any
    """int64 (tokens,), below the vocabulary size: the embedding is read by address."""
    cos: Any
    """float32 (sets of angles, rotary_dim, tokens padded to whole panels), at each token's position."""
    sin: Any
    """Of the same shape, negated in the first half of the angles."""
    kv_format: int
    """`FLOAT32` or `BF16`."""
    kv: int
    """Address of memory of shape (layers, 2, kv_heads, capacity, padded head_dim)."""
    capacity: int
    past: int
    """Number of tokens of the sequence before these."""
    arithmetic: int
    """`FMA`, `DOT` or `TILES`."""
    parts: int
    """Number of parts into which the panels of a share of weights are divided."""


class PromptScratch(NamedTuple):
    """Buffers of a prompt, without contents between calls; widths and numbers of positions are whole groups.

    Packed panels, and the rows that they are multiplied with, are bytes: their numbers are float32 or bf16.
    """

    hidden: Any
    """float32 (panels, hidden, 32): the residual stream."""
    update: Any
    """float32 (panels, hidden, 32): the output of attention or of the MLP."""
    normed: Any
    """(panels, packed hidden)"""
    queries: Any
    """(heads, panels, packed head_dim)"""
    attended: Any
    """(panels, packed heads * head_dim)"""
    active: Any
    """(panels, packed inner)"""
    values: Any
    """(kv_heads, head_dim, positions): the values of one layer, positions in columns."""
    squares: Any
    """float32 (panels, heads + kv_heads, 32): sums of the squares of heads, for `PROJECTION_NORM`."""
    kept: Any
    """float32 (heads + kv_heads, panels, head_dim, 32): queries and keys before that norm; empty without it."""
    rows: Any
    """(threads, rows of a head or 32, columns): the left factor of a product."""
    product: Any
    """float32 (threads, rows of a head or 32, 32)"""
    scores: Any
    """float32 (threads, positions, 32)"""
    probabilities: Any
    """(threads, packed positions)"""
    columns: Any
    """float32 (threads, 2, 32): two numbers for each column of a panel, such as its mean and the factor of its norm."""
