"""A decode step of the Llama family as one compiled function.

A step of a small model is a few hundred products of a matrix with a handful of rows. Handed to torch one by one they
cost as much in calls, thread wake-ups and conversions as in arithmetic. Here every thread of a team runs `step` over
its own share of the rows and meets the others at barriers. Each row of a batch goes through the same operations in the
same order as it would alone, so a batch equals single requests bit for bit, in every precision.

Compiled code is kept beside this file, or in the user's cache, for the next process.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types

from workbench.engine.kernels import lanes, vectors
from workbench.engine.kernels.lanes import BYTES_PER_GROUP, FLOAT32, GROUP, LANES, ROWS, SCALE_BYTES_PER_GROUP
from workbench.engine.kernels.vectors import (
    add,
    dots,
    exponentials,
    get,
    put,
    read,
    silu_times,
    weighted_sum,
    widened,
    write,
)  # fmt: skip

_sched_yield = types.ExternalFunction("sched_yield", types.int32())

_BYTES = tuple(BYTES_PER_GROUP.values())  # by form
_SCALE_BYTES = tuple(SCALE_BYTES_PER_GROUP.values())

_compiled = njit(error_model="numpy")  # dividing by zero gives infinity; an exception would leave the others waiting
_reordered = njit(error_model="numpy", fastmath={"reassoc", "contract"})

_SPINS = 4000
"""How often a thread looks for the others before it lets another program have the processor."""


@_compiled
def _meet(barrier, threads):
    """Wait until every thread of the team is here. ``barrier`` is the address of two zeros, 64 bytes apart."""
    if threads == 1:
        return
    turn = read(barrier + 64)
    if add(barrier, 1) == threads - 1:
        write(barrier, 0)
        write(barrier + 64, turn + 1)
        return
    spins = 0
    while read(barrier + 64) == turn:
        spins += 1
        if spins > _SPINS:
            _sched_yield()


@_compiled
def _share(total, unit, thread, threads):
    """This thread's part of ``total`` rows, in whole units but for the last."""
    units = (total + unit - 1) // unit
    return min(units * thread // threads * unit, total), min(units * (thread + 1) // threads * unit, total)


@_compiled
def _product(matrix, x, x_step, count, out, out_step, first, last):
    """Rows ``first`` to ``last`` of a matrix times ``count`` vectors; ``out`` is where row 0 would go."""
    form, data, scale, groups = matrix
    row_bytes, scale_bytes = groups * _BYTES[form], groups * _SCALE_BYTES[form]
    for row in range(first, last, ROWS):
        done = 0
        while done < count:
            rest = count - done
            tile = 8 if rest >= 8 else 4 if rest >= 4 else 2 if rest >= 2 else 1
            dots(
                form, tile, data + row * row_bytes, scale + row * scale_bytes, groups,
                x + done * x_step, x_step, out + row * 4 + done * out_step, out_step,
            )  # fmt: skip
            done += tile


@_reordered
def _normed(x, width, weight, eps, out):
    """Root mean square norm of each row; the weight is given by its address."""
    for row in range(x.shape[0]):
        total = np.float32(0.0)
        for column in range(width):
            total += x[row, column] * x[row, column]
        factor = np.float32(1.0) / np.sqrt(total / np.float32(width) + np.float32(eps))
        for column in range(width):
            out[row, column] = x[row, column] * factor * get(weight + 4 * column)


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
    head: Any
    """int64 (5,): the output matrix."""


class Past(NamedTuple):
    """The sequences of a step: keys and values in memory, and where the new token stands."""

    form: int
    """`FLOAT32` or `BF16`."""
    addresses: Any
    """int64 (rows,): (layers, 2, kv_heads, capacity, padded head_dim)."""
    capacities: Any
    positions: Any


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
    """(threads, 2, head_dim)"""
    scores: Any
    """(threads, longest sequence)"""
    barrier: Any
    """int64 (16,), zeros."""


@_compiled
def _address(array):
    return array.ctypes.data


@_compiled
def _linear(place, x, out, shift, first, last):
    """Rows ``first`` to ``last`` of a linear layer into the columns of ``out`` that start at ``shift``."""
    count = len(x)
    start = _address(out) + 4 * shift
    matrix = (place[0], place[1], place[2], place[3])
    _product(matrix, _address(x), x.strides[0], count, start, out.strides[0], first, last)
    if place[4]:
        for row in range(count):
            for column in range(first, last):
                out[row, shift + column] += get(place[4] + 4 * column)


@_compiled
def _turned(head, dim, cos, sin):
    """Rotate the halves of a head against each other, in place."""
    half = dim // 2
    for index in range(half):
        left, right = head[index], head[index + half]
        head[index] = left * cos[index] + right * sin[index]
        head[index + half] = right * cos[index + half] + left * sin[index + half]


@_compiled
def _project(shape, weights, layer, past, cos, sin, scratch, thread, threads):
    """Queries, keys and values of whole heads, rotated; keys and values go into the cache."""
    dim, norm = shape.head_dim, weights.norms[layer, 2]
    padded = scratch.heads.shape[2]
    size = 4 if past.form == FLOAT32 else 2
    total = shape.heads + 2 * shape.kv_heads
    # Heads of an odd number of row groups go in pairs, so that no group belongs to two threads.
    first, last = _share(total, 1 if dim % ROWS == 0 else 2, thread, threads)
    _linear(weights.linears[layer, 0], scratch.normed[thread], scratch.qkv, 0, first * dim, last * dim)
    for row in range(len(scratch.hidden)):
        for index in range(first, last):
            head = scratch.qkv[row, index * dim : (index + 1) * dim]
            if index < shape.heads + shape.kv_heads:
                if norm:
                    one = head.reshape(1, dim)
                    _normed(one, dim, norm + 4 * dim * index, shape.eps, one)
                _turned(head, dim, cos[row], sin[row])
            if index < shape.heads:
                continue
            place = layer * 2 * shape.kv_heads + index - shape.heads
            target = past.addresses[row] + (place * past.capacities[row] + past.positions[row]) * padded * size
            for column in range(dim):
                put(past.form, target + column * size, head[column])


@_compiled
def _attend(shape, layer, past, scratch, thread, threads):
    """Attention of the new tokens, head by head."""
    dim, rows = shape.head_dim, len(scratch.hidden)
    padded = scratch.heads.shape[2]
    groups = padded // GROUP
    size = 4 if past.form == FLOAT32 else 2
    query, mixed = scratch.heads[thread, 0], scratch.heads[thread, 1]
    scores = scratch.scores[thread]
    factor = np.float32(1.0 / math.sqrt(dim))
    first, last = _share(rows * shape.heads, 1, thread, threads)
    for item in range(first, last):
        row, head = item // shape.heads, item % shape.heads
        length = past.positions[row] + 1
        shared = head // (shape.heads // shape.kv_heads)
        bytes_ = past.capacities[row] * padded * size
        keys = past.addresses[row] + (layer * 2 * shape.kv_heads + shared) * bytes_
        values = keys + shape.kv_heads * bytes_
        for column in range(dim):
            query[column] = scratch.qkv[row, head * dim + column] * factor
        _product((past.form, keys, 0, groups), _address(query), 0, 1, _address(scores), 0, 0, length)
        vectors = (length + LANES - 1) // LANES
        for index in range(length, vectors * LANES):
            scores[index] = -np.inf
        total = exponentials(_address(scores), vectors)
        fours = (length + ROWS - 1) // ROWS * ROWS
        weighted_sum(past.form, values, padded * size, groups, _address(scores), fours, _address(mixed))
        for column in range(dim):
            scratch.attended[row, head * dim + column] = mixed[column] / total


@_compiled
def _add_linear(shape, place, x, scratch, thread, threads):
    """Add a linear layer's output to the stream."""
    first, last = _share(shape.hidden, LANES, thread, threads)
    _linear(place, x, scratch.update, 0, first, last)
    for row in range(len(x)):
        for column in range(first, last):
            scratch.hidden[row, column] += scratch.update[row, column]


@_compiled
def _activate(shape, place, scratch, thread, threads):
    """The gated first half of the MLP."""
    width = scratch.active.shape[1]
    first, last = _share(shape.inner, LANES, thread, threads)
    flat = scratch.gate_up.reshape(len(scratch.hidden), 2 * width)
    _linear(place, scratch.normed[thread], flat, 0, first, last)
    _linear(place, scratch.normed[thread], flat, width - shape.inner, shape.inner + first, shape.inner + last)
    for row in range(len(flat)):
        gate = _address(flat[row]) + 4 * first
        out = _address(scratch.active[row]) + 4 * first
        silu_times(gate, gate + 4 * width, out, (last - first + LANES - 1) // LANES)


def _entries(sources: str) -> tuple[Any, Any, Any]:
    """What is called from outside.

    Args:
        sources: a hash of what is compiled. As a part of the closure it is a part of the key under which numba keeps
            compiled code, which by itself looks at the age of this file alone.
    """
    entry = njit(error_model="numpy", nogil=True, cache=True)

    @entry
    def step(shape, weights, past, cos, sin, scratch, logits, thread, threads):
        """One token for each row: every thread of a team calls it with the same arguments and its own number.

        Rows may be sequences, or tokens of one sequence one after the other.

        Args:
            shape: a `Shape`.
            weights: a `Weights`.
            past: a `Past`; the new tokens' keys and values are written to their positions.
            cos: float32 (rows, head_dim), of each row's position.
            sin: the same, with the minus of the rotation in its first half.
            scratch: a `Scratch`, whose ``hidden`` holds the tokens' embeddings.
            logits: float32 (rows, vocab padded to `ROWS`), the result.
        """
        _ = sources
        barrier = _address(scratch.barrier)
        for layer in range(shape.layers):
            _normed(scratch.hidden, shape.hidden, weights.norms[layer, 0], shape.eps, scratch.normed[thread])
            _project(shape, weights, layer, past, cos, sin, scratch, thread, threads)
            _meet(barrier, threads)
            _attend(shape, layer, past, scratch, thread, threads)
            _meet(barrier, threads)
            _add_linear(shape, weights.linears[layer, 1], scratch.attended, scratch, thread, threads)
            _meet(barrier, threads)
            _normed(scratch.hidden, shape.hidden, weights.norms[layer, 1], shape.eps, scratch.normed[thread])
            _activate(shape, weights.linears[layer, 2], scratch, thread, threads)
            _meet(barrier, threads)
            _add_linear(shape, weights.linears[layer, 3], scratch.active, scratch, thread, threads)
            _meet(barrier, threads)
        _normed(scratch.hidden, shape.hidden, weights.norms[shape.layers, 0], shape.eps, scratch.normed[thread])
        first, last = _share(shape.vocab, LANES, thread, threads)
        _linear(weights.head, scratch.normed[thread], logits, 0, first, last)
        _meet(barrier, threads)

    @entry
    def multiply(place, rows, x, out, barrier, thread, threads):
        """``x @ matrix.T``: float32 (count, columns padded to `GROUP`) to (count, rows padded to `ROWS`)."""
        _ = sources
        first, last = _share(rows, LANES, thread, threads)
        _linear(place, x, out, 0, first, last)
        _meet(_address(barrier), threads)

    @entry
    def widen(places, rows, starts, out, barrier, thread, threads):
        """Matrices in bf16, one behind the other, rows padded to whole groups.

        Args:
            places: int64 (matrices, 5), see `Weights.linears`.
            rows: int64 (matrices,), how many each has.
            starts: int64 (matrices,), where each begins in ``out``.
            out: int16, their bits.
        """
        _ = sources
        for index in range(len(rows)):
            form, data, scale, groups = places[index, 0], places[index, 1], places[index, 2], places[index, 3]
            first, last = _share(rows[index], LANES, thread, threads)
            start = _address(out) + 2 * (starts[index] + first * groups * GROUP)
            for group in range(first * groups, last * groups):
                widened(form, data + group * _BYTES[form], scale + group * _SCALE_BYTES[form], start)
                start += GROUP * 2
        _meet(_address(barrier), threads)

    return step, multiply, widen


_FILES = (__file__, lanes.__file__, vectors.__file__)

step, multiply, widen = _entries(hashlib.sha256(b"".join(Path(name).read_bytes() for name in _FILES)).hexdigest())
