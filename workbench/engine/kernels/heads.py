"""Where the heads of queries, keys and values are in their matrices."""

from __future__ import annotations

from workbench.engine.kernels import compiled
from workbench.engine.kernels.simd import ROWS

HEAD_PARTS = 3
"""Queries, keys and values."""


@compiled
def head_rows(shape, part):
    """Return the first output and the end of queries (0), keys (1) or values (2) among all heads.

    If a head is no whole number of row groups, all belong to part 0, so that no group is shared.
    """
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if shape.head_dim % ROWS:
        return (0, queries + 2 * keys) if part == 0 else (0, 0)
    return (0, queries) if part == 0 else (queries + (part - 1) * keys, queries + part * keys)


@compiled
def head_place(shape, index):
    """Return the part, as in `head_rows`, of one of all heads, and its first row there."""
    if shape.head_dim % ROWS or index < shape.heads:
        return 0, index * shape.head_dim
    part, place = divmod(index - shape.heads, shape.kv_heads)
    return 1 + part, place * shape.head_dim
