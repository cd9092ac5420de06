"""Reductions of a row of logits: its largest values, and the sums that its softmax and entropy need."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from workbench.engine.kernels import SOURCES, compiled, entry_point
from workbench.engine.kernels.memory_access import get
from workbench.engine.kernels.row_intrinsics import BLOCK, block_maxima, block_sums, count_above
from workbench.engine.kernels.simd import LANES

SUMMARIZED = 32
"""Number of a row's largest logits in its summary."""


class Sums(NamedTuple):
    """Statistics of the softmax of a row of logits, at a temperature."""

    top: float
    """The largest logit."""
    log_total: float
    """The logarithm of the sum of e**((logit - top) / temperature) over all logits."""
    entropy: float
    """Entropy in nats."""
    logit: float
    """The logit of the requested token."""
    above: int
    """Number of logits greater than it."""


class LogitsSummary(NamedTuple):
    """Statistics of a row of logits that the step computed while the row was in the CPU's cache."""

    top: float
    log_total: float
    """As in `Sums`, at temperature 1."""
    entropy: float
    values: list[float]
    """The largest logits, in the order of `top_k_values`, and below their token ids."""
    token_ids: list[int]

    def sums(self, token_id: int) -> Sums | None:
        """Return what `softmax_stats` would return, or None if the token is not among the largest."""
        if token_id not in self.token_ids:
            return None
        logit = self.values[self.token_ids.index(token_id)]
        return Sums(self.top, self.log_total, self.entropy, logit, self.values.index(logit))


class LogitsSummaries(NamedTuple):
    """Arrays to which a step writes the summaries of its rows."""

    blocks: Any
    """float32 (rows, 3, blocks of the vocabulary): the results of `block_sums`."""
    sums: Any
    """float64 (rows, 3): top, logarithm of the total, entropy."""
    values: Any
    """float32 (rows, `SUMMARIZED`)"""
    token_ids: Any
    """int64 (rows, `SUMMARIZED`)"""

    @classmethod
    def empty(cls, rows: int, vocab: int) -> LogitsSummaries:
        return cls(
            np.empty((rows, 3, (vocab + BLOCK - 1) // BLOCK), np.float32),
            np.empty((rows, 3)),
            np.empty((rows, SUMMARIZED), np.float32),
            np.empty((rows, SUMMARIZED), np.int64),
        )

    def read(self) -> list[LogitsSummary]:
        rows = zip(self.sums.tolist(), self.values.tolist(), self.token_ids.tolist(), strict=True)
        return [
            LogitsSummary(top, log_total, entropy, values, token_ids)
            for (top, log_total, entropy), values, token_ids in rows
        ]


def top_k_values(row: Tensor, count: int) -> tuple[Any, Any]:
    """Return the ``count`` largest values of a contiguous float32 row and their indices; ties in order of index.

    NaN is ignored; if too few values are left, the result is padded with NaN.
    """
    _check(row)
    values, token_ids = np.empty(count, np.float32), np.empty(count, np.int64)
    largest(row.data_ptr(), len(row), values, token_ids)
    return values, token_ids


def softmax_stats(row: Tensor, temperature: float = 1.0, token_id: int = 0) -> Sums:
    """Return the softmax statistics of a contiguous float32 row; NaN if the row has NaN."""
    _check(row)
    if not 0 <= token_id < len(row):
        raise IndexError(f"token_id must be from 0 to {len(row) - 1}; got {token_id}")
    return Sums(*sums(row.data_ptr(), len(row), 1.0 / temperature, token_id))


def masked(row: Tensor, allowed: Tensor, *, inverted: bool = False) -> Tensor:
    """Return a copy of a contiguous float32 row with -inf where ``allowed`` is False; if inverted, where it is True.

    torch would use several threads, and waking them takes longer than the work.
    """
    _check(row)
    out = torch.empty_like(row)
    select(row.numpy(), allowed.numpy(), not inverted, out.numpy())
    return out


@compiled
def _block_maxima(address, size):
    """Return the maximum of each whole block, and last that of the rest of the row."""
    blocks = size // BLOCK
    maxima = np.empty(blocks + 1, np.float32)
    block_maxima(address, blocks, maxima.ctypes.data)
    maxima[blocks] = -np.inf
    for index in range(blocks * BLOCK, size):
        maxima[blocks] = max(maxima[blocks], get(address + 4 * index))
    return maxima


@compiled
def _candidates(address, size, maxima, limit):
    """Return the values that are at least ``limit``, and their indices."""
    most = BLOCK * (maxima >= limit).sum()
    values, token_ids, found = np.empty(most, np.float32), np.empty(most, np.int64), 0
    for block in range(len(maxima)):
        if maxima[block] < limit:
            continue
        for index in range(block * BLOCK, min((block + 1) * BLOCK, size)):
            value = get(address + 4 * index)
            if value >= limit:
                values[found], token_ids[found] = value, index
                found += 1
    return values[:found], token_ids[:found]


@compiled
def _block_sums(address, size, factor):
    """Return `block_sums` of a row, float32 (3, blocks); the last block is padded with -inf."""
    whole, rest = size // BLOCK, size % BLOCK
    found, last = np.empty((3, whole + (rest > 0)), np.float32), np.full(BLOCK, -np.inf, np.float32)
    first, step = found.ctypes.data, found.strides[0]
    block_sums(address, whole, np.float32(factor), first, first + step, first + 2 * step)
    if rest:
        for index in range(rest):
            last[index] = get(address + 4 * (whole * BLOCK + index))
        first += 4 * whole
        block_sums(last.ctypes.data, 1, np.float32(factor), first, first + step, first + 2 * step)
    return found


@compiled
def sums_of_blocks(blocks, factor):
    """Return the largest logit, the logarithm of the total, and the entropy; summed in float64, block by block."""
    top, total, weighted = float(blocks[0].max()), 0.0, 0.0
    for index in range(blocks.shape[1]):
        d = (float(blocks[0, index]) - top) * factor
        d = -87.0 if d < -87.0 else d  # noqa: FURB136 - so that NaN stays NaN
        part = math.exp(d)
        total += part * blocks[1, index]
        weighted += part * (blocks[2, index] + d * blocks[1, index])
    log_total = math.log(total)
    return top, log_total, log_total - weighted / total


@compiled
def find_largest(address, size, maxima, values, token_ids):
    """Write the ``len(values)`` largest values of a row and their indices, given the maximum of each block."""
    limit, last = np.float32(-np.inf), len(maxima) - len(values)
    if len(values) == 1:
        limit = maxima.max()
    elif last >= 0:  # each maximum is a value of the row, so enough values reach this limit
        limit = np.partition(maxima, last)[last]
    found, at = _candidates(address, size, maxima, limit)
    order = np.argsort(-found, kind="mergesort")  # a stable sort
    values[len(found) :], token_ids[len(found) :] = np.nan, 0  # the row has NaN, which was ignored
    for rank in range(min(len(values), len(found))):
        values[rank], token_ids[rank] = found[order[rank]], at[order[rank]]


def _check(row: Tensor) -> None:
    """Raise unless the row is contiguous float32 on the CPU: the kernels read raw pointers."""
    if row.dtype != torch.float32 or row.dim() != 1 or not row.is_contiguous() or row.device.type != "cpu":
        raise ValueError(
            f"row must be contiguous, 1-D, float32 and on the CPU; got {row.dtype} of shape {tuple(row.shape)}"
        )


def _entries(sources: str) -> tuple[Any, Any, Any]:
    @entry_point
    def largest(address, size, values, token_ids):
        _ = sources
        find_largest(address, size, _block_maxima(address, size), values, token_ids)

    @entry_point
    def sums(address, size, factor, token_id):
        _ = sources
        top, log_total, entropy = sums_of_blocks(_block_sums(address, size, factor), factor)
        vectors, limit = size // LANES, get(address + 4 * token_id)
        above = count_above(address, vectors, limit)
        for index in range(vectors * LANES, size):
            above += get(address + 4 * index) > limit
        return top, log_total, entropy, limit, above

    @entry_point
    def select(values, allowed, wanted, out):
        _ = sources
        for index in range(len(values)):
            out[index] = values[index] if allowed[index] == wanted else np.float32(-np.inf)

    return largest, sums, select


largest, sums, select = _entries(SOURCES)
