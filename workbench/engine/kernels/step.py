"""A decode step of the Llama family as one compiled function.

A step of a small model is a few hundred products of a matrix with a handful of rows. Handed to torch one by one they
cost as much in calls, thread wake-ups and conversions as in arithmetic. Here every thread of a team runs `step` over
its own share of the rows and meets the others at barriers. Each row of a batch goes through the same operations in the
same order as it would alone, so a batch equals single requests bit for bit, in every precision.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types

from workbench.engine.kernels import SOURCES, entry_point
from workbench.engine.kernels.intrinsics import (
    AHEAD,
    BLOCK,
    add,
    block_sums,
    dots,
    exponentials,
    get,
    put,
    read,
    root_mean_square_norm,
    scaled,
    silu_times,
    unpacked,
    weighted_sums,
    widened,
    write,
)  # fmt: skip
from workbench.engine.kernels.row_reductions import find_largest, sums_of_blocks
from workbench.engine.kernels.simd import (
    BF16,
    BYTES_PER_GROUP,
    FLOAT32,
    GROUP,
    LANES,
    ROWS,
    SCALE_BYTES_PER_GROUP,
    UNPACKED,
)
from workbench.engine.kernels.tiles import BLOCKS, TILE, arrange, arrange_rows, begin, end, mix_tiles, multiply_tiles

_sched_yield = types.ExternalFunction("sched_yield", types.int32())

_BYTES = tuple(BYTES_PER_GROUP.values())  # by form
_SCALE_BYTES = tuple(SCALE_BYTES_PER_GROUP.values())

_compiled = njit(error_model="numpy")  # dividing by zero gives infinity; an exception would leave the others waiting

AT_ONCE = 24
"""Query heads that attend over the same keys at once, where there are so many."""

AT_A_TIME = BLOCKS * TILE
"""Vectors that are multiplied at once in tiles."""

_SPINS = 4000
"""How often a thread looks for the others before it lets another program have the processor."""


@_compiled
def barrier_wait(barrier, threads):
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
def partition(total, unit, thread, threads):
    """This thread's part of ``total`` rows, in whole units but for the last."""
    units = (total + unit - 1) // unit
    return min(units * thread // threads * unit, total), min(units * (thread + 1) // threads * unit, total)


@_compiled
def _product(matrix, x, x_step, count, out, out_step, first, last, memory):
    """Rows ``first`` to ``last`` of a matrix times ``count`` vectors; ``out`` is where row 0 would go.

    For more vectors than are multiplied at once a group of rows is unpacked to ``memory`` first, an address.
    """
    form, data, scale, groups = matrix
    row_bytes, scale_bytes = groups * _BYTES[form], groups * _SCALE_BYTES[form]
    unpack = count > 8 and form != FLOAT32
    for row in range(first, last, ROWS):
        rows, scales = data + row * row_bytes, scale + row * scale_bytes
        if unpack:
            for group in range(ROWS * groups):
                unpacked(
                    form, rows + group * _BYTES[form], scales + group * _SCALE_BYTES[form],
                    AHEAD * row_bytes, AHEAD * scale_bytes, memory + group * 4 * GROUP,
                )  # fmt: skip
            rows = memory
        done = 0
        while done < count:
            rest = count - done
            tile = 8 if rest >= 8 else 4 if rest >= 4 else 2 if rest >= 2 else 1
            dots(
                UNPACKED if unpack else form, tile, rows, scales, groups,
                x + done * x_step, x_step, out + row * 4 + done * out_step, out_step,
            )  # fmt: skip
            done += tile


@_compiled
def _tile_product(matrix, x, x_step, count, out, out_step, first, last, memory):
    """As `_product` in bf16, for as many rows as fill tiles; the first row that is left."""
    form, data, scale, groups = matrix
    tile_bytes, wide_bytes = groups * 2 * GROUP * TILE, groups * 2 * GROUP
    for index in range(count):
        arrange(x + index * x_step, groups, memory + index // TILE * tile_bytes, index % TILE)
    wide = memory + (count + AT_A_TIME - 1) // AT_A_TIME * BLOCKS * tile_bytes
    whole = first + (last - first) // TILE * TILE
    for row in range(first, whole, TILE):
        rows = wide
        if form == BF16:
            rows = data + row * wide_bytes
        else:
            start = row * groups
            widened(form, data + start * _BYTES[form], scale + start * _SCALE_BYTES[form], TILE * groups, wide)
        for done in range(0, count, AT_A_TIME):
            multiply_tiles(
                min(count - done, AT_A_TIME), rows, wide_bytes, groups, memory + done // TILE * tile_bytes,
                out + row * 4 + done * out_step, out_step,
            )  # fmt: skip
    return whole


@_compiled
def _tile_sums(values, padded, length, scores, step, count, out, memory):
    """Sums of the values' bf16 rows, weighted by ``count`` rows of scores, whose rest is 0; how many there are."""
    groups = (length + GROUP - 1) // GROUP
    row_bytes, weights = groups * 2 * GROUP, memory + groups * 2 * GROUP * GROUP
    for index in range(count):
        widened(FLOAT32, scores + index * step, 0, groups, weights + index * row_bytes)
    for column in range(0, padded, GROUP):
        arrange_rows(values + 2 * column, 2 * padded, groups, memory)
        for done in range(0, count, TILE):
            place = out + 4 * (done * padded + column)
            mix_tiles(weights + done * row_bytes, row_bytes, groups, memory, place, 4 * padded)
    return count


@_compiled
def _norm_rows(x, width, weight, eps, out):
    """Root mean square norm of each row; the weight is given by its address."""
    for row in range(len(x)):
        root_mean_square_norm(
            _address(x) + row * x.strides[0], x.shape[1] // LANES, np.float32(width), weight, np.float32(eps),
            _address(out) + row * out.strides[0],
        )  # fmt: skip


@_compiled
def _norm_head(x, row, start, dim, weight, eps):
    """The same for one head, in place; its weight is given by its address."""
    total = np.float32(0.0)
    for column in range(start, start + dim):
        total += x[row, column] * x[row, column]
    factor = np.float32(1.0) / np.sqrt(total / np.float32(dim) + np.float32(eps))
    for column in range(dim):
        x[row, start + column] *= factor * get(weight + 4 * column)


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


@_compiled
def _address(array):
    return array.ctypes.data


@_compiled
def _linear(place, x, out, shift, first, last, memory, tiles):
    """Rows ``first`` to ``last`` of a linear layer into the columns of ``out`` that start at ``shift``.

    ``tiles`` is the address of memory for tiles; 0 multiplies in float32.
    """
    count, done = len(x), first
    start = _address(out) + 4 * shift
    matrix = (place[0], place[1], place[2], place[3])
    if tiles and place[0] != FLOAT32:
        done = _tile_product(matrix, _address(x), x.strides[0], count, start, out.strides[0], first, last, tiles)
    _product(matrix, _address(x), x.strides[0], count, start, out.strides[0], done, last, _address(memory))
    if place[4]:
        for row in range(count):
            for column in range(first, last):
                out[row, shift + column] += get(place[4] + 4 * column)


@_compiled
def _embed(place, token_ids, hidden, thread, threads):
    """Begin the stream of each token with its row of the embedding matrix, each token by one thread."""
    form, data, scale, groups = place[0], place[1], place[2], place[3]
    for row in range(thread, len(token_ids), threads):
        first, out = token_ids[row] * groups, _address(hidden) + row * hidden.strides[0]
        for index in range(groups):
            group = first + index
            unpacked(
                form, data + group * _BYTES[form], scale + group * _SCALE_BYTES[form], 0, 0, out + index * 4 * GROUP
            )  # fmt: skip


@_compiled
def _turn(x, row, start, dim, cos, sin):
    """Rotate the halves of one head against each other, in place."""
    half = dim // 2
    for index in range(half):
        left, right = x[row, start + index], x[row, start + half + index]
        x[row, start + index] = left * cos[row, index] + right * sin[row, index]
        x[row, start + half + index] = right * cos[row, half + index] + left * sin[row, half + index]


@_compiled
def _tile_memory(past, scratch, thread):
    """Where this thread has memory for tiles; 0 where none are used."""
    if not past.in_tiles:
        return 0
    return _address(scratch.tiles) + thread * scratch.tiles.strides[0] + 64


@_compiled
def _project(shape, weights, layer, past, cos, sin, scratch, thread, threads):
    """Queries, keys and values of whole heads, rotated; keys and values go into the cache."""
    dim, norm = shape.head_dim, weights.norms[layer, 2]
    padded = scratch.heads.shape[3]
    size = 4 if past.form == FLOAT32 else 2
    total = shape.heads + 2 * shape.kv_heads
    # Heads of an odd number of row groups go in pairs, so that no group belongs to two threads.
    first, last = partition(total, 1 if dim % ROWS == 0 else 2, thread, threads)
    _linear(
        weights.linears[layer, 0],
        scratch.normed[thread],
        scratch.qkv,
        0,
        first * dim,
        last * dim,
        scratch.unpacked[thread],
        _tile_memory(past, scratch, thread),
    )
    for row in range(len(scratch.hidden)):
        for index in range(first, last):
            start = index * dim
            if index < shape.heads + shape.kv_heads:
                if norm:
                    _norm_head(scratch.qkv, row, start, dim, norm + 4 * dim * index, shape.eps)
                _turn(scratch.qkv, row, start, dim, cos, sin)
            if index < shape.heads:
                continue
            place = layer * 2 * shape.kv_heads + index - shape.heads
            target = past.addresses[row] + (place * past.capacities[row] + past.positions[row]) * padded * size
            for column in range(dim):
                put(past.form, target + column * size, scratch.qkv[row, start + column])


@_compiled
def _attend(shape, layer, past, scratch, thread, threads):
    """Attention of the new tokens: each key head with its group of query heads, of several rows if they share keys."""
    rows, group = len(scratch.hidden), shape.heads // shape.kv_heads
    padded, size = scratch.heads.shape[3], 4 if past.form == FLOAT32 else 2
    block = max(1, AT_ONCE // group) if past.together else 1
    first, last = partition((rows + block - 1) // block * shape.kv_heads, 1, thread, threads)
    for item in range(first, last):
        row, shared = item // shape.kv_heads * block, item % shape.kv_heads
        bytes_ = past.capacities[row] * padded * size
        keys = past.addresses[row] + (layer * 2 * shape.kv_heads + shared) * bytes_
        values = keys + shape.kv_heads * bytes_
        _attend_block(shape, past, row, min(block, rows - row), shared * group, keys, values, scratch, thread)


@_compiled
def _softmax(scores, length, longest):
    """The softmax of the first ``length`` scores, in place; 0 behind them, to the end of the longest one's group."""
    whole = (length + LANES - 1) // LANES
    for position in range(length, whole * LANES):
        scores[position] = -np.inf
    total = exponentials(_address(scores), whole)
    scaled(_address(scores), np.float32(1.0) / total, whole, _address(scores))
    for position in range(length, (longest + GROUP - 1) // GROUP * GROUP):
        scores[position] = 0.0


@_compiled
def _attend_block(shape, past, row, count, head, keys, values, scratch, thread):
    """Attention of ``count`` rows' query heads of one group, which begins at ``head``, over the same keys."""
    dim, group = shape.head_dim, shape.heads // shape.kv_heads
    padded, size = scratch.heads.shape[3], 4 if past.form == FLOAT32 else 2
    groups, vectors = padded // GROUP, count * group
    space, width = scratch.heads, 4 * padded  # bytes of a head
    queries, mixed = (
        _address(space) + thread * space.strides[0],
        _address(space) + thread * space.strides[0] + space.strides[1],
    )
    scores, step = _address(scratch.scores) + thread * scratch.scores.strides[0], scratch.scores.strides[1]
    factor = np.float32(1.0 / math.sqrt(dim))
    for index in range(vectors):
        start = (head + index % group) * dim
        for column in range(dim):
            space[thread, 0, index, column] = scratch.qkv[row + index // group, start + column] * factor
    longest = past.positions[row + count - 1] + 1
    memory, tiles, done = _address(scratch.unpacked[thread]), _tile_memory(past, scratch, thread), 0
    matrix = (past.form, keys, 0, groups)
    if tiles and past.form == BF16:
        done = _tile_product(matrix, queries, width, vectors, scores, step, 0, longest, tiles)
    _product(matrix, queries, width, vectors, scores, step, done, longest, memory)
    for index in range(vectors):
        _softmax(scratch.scores[thread, index], past.positions[row + index // group] + 1, longest)
    done = 0
    if tiles and past.form == BF16:
        done = _tile_sums(values, padded, longest, scores, step, vectors, mixed, tiles)
    while done < vectors:
        rest = vectors - done
        tile = 4 if rest >= 4 else 2 if rest >= 2 else 1
        weighted_sums(
            past.form, tile, values, padded * size, groups, scores + done * step, step, (longest + 1) // 2 * 2,
            mixed + done * width, width,
        )  # fmt: skip
        done += tile
    for index in range(vectors):
        start = (head + index % group) * dim
        for column in range(dim):
            scratch.attended[row + index // group, start + column] = space[thread, 1, index, column]


@_compiled
def _add_linear(shape, place, x, past, scratch, thread, threads):
    """Add a linear layer's output to the stream."""
    first, last = partition(shape.hidden, LANES, thread, threads)
    tiles = _tile_memory(past, scratch, thread)
    _linear(place, x, scratch.update, 0, first, last, scratch.unpacked[thread], tiles)
    for row in range(len(x)):
        for column in range(first, last):
            scratch.hidden[row, column] += scratch.update[row, column]


@_compiled
def _activate(shape, place, past, scratch, thread, threads):
    """The gated first half of the MLP."""
    width = scratch.active.shape[1]
    first, last = partition(shape.inner, LANES, thread, threads)
    flat = scratch.gate_up.reshape(len(scratch.hidden), 2 * width)
    normed, memory = scratch.normed[thread], scratch.unpacked[thread]
    tiles = _tile_memory(past, scratch, thread)
    _linear(place, normed, flat, 0, first, last, memory, tiles)
    _linear(place, normed, flat, width - shape.inner, shape.inner + first, shape.inner + last, memory, tiles)
    for row in range(len(flat)):
        gate = _address(flat) + row * flat.strides[0] + 4 * first
        out = _address(scratch.active) + row * scratch.active.strides[0] + 4 * first
        silu_times(gate, gate + 4 * width, out, (last - first + LANES - 1) // LANES)


@_compiled
def _outline_blocks(shape, logits, summaries, first, last):
    """What `LogitsSummaries` holds of the blocks of this thread's part of the vocabulary, the last one filled up."""
    for row in range(len(summaries.blocks)):
        if last == shape.vocab:
            logits[row, last:] = -np.inf
        found, step = summaries.blocks[row], summaries.blocks.strides[1]
        start, out = _address(logits) + row * logits.strides[0] + 4 * first, _address(found) + 4 * (first // BLOCK)
        block_sums(start, (last - first + BLOCK - 1) // BLOCK, np.float32(1.0), out, out + step, out + 2 * step)


@_compiled
def _outline_rows(shape, logits, summaries, thread, threads):
    """What it holds of whole rows, each by one thread."""
    for row in range(thread, len(summaries.blocks), threads):
        blocks = summaries.blocks[row]
        summaries.sums[row, 0], summaries.sums[row, 1], summaries.sums[row, 2] = sums_of_blocks(blocks, 1.0)
        place = _address(logits) + row * logits.strides[0]
        find_largest(place, shape.vocab, blocks[0], summaries.values[row], summaries.places[row])


def _entries(sources: str) -> tuple[Any, Any, Any]:
    """What is called from outside."""

    @entry_point
    def step(shape, weights, token_ids, past, cos, sin, scratch, logits, summaries, thread, threads):
        """One token for each row: every thread of a team calls it with the same arguments and its own number.

        Rows may be sequences, or tokens of one sequence one after the other.

        Args:
            shape: a `Shape`.
            weights: a `Weights`.
            token_ids: int64 (rows,), each of which the embedding matrix has.
            past: a `SequenceViews`; the new tokens' keys and values are written to their positions.
            cos: float32 (rows, head_dim), of each row's position.
            sin: the same, with the minus of the rotation in its first half.
            scratch: a `Scratch`.
            logits: float32 (rows or the last few, vocab padded to `BLOCK`), the result.
            outlines: an `LogitsSummaries` to write to, of as many rows, or of none.
        """
        _ = sources
        barrier, tiles = _address(scratch.barrier), _tile_memory(past, scratch, thread)
        if tiles:
            begin(tiles - 64)
        _embed(weights.embedding, token_ids, scratch.hidden, thread, threads)
        barrier_wait(barrier, threads)
        for layer in range(shape.layers):
            _norm_rows(scratch.hidden, shape.hidden, weights.norms[layer, 0], shape.eps, scratch.normed[thread])
            _project(shape, weights, layer, past, cos, sin, scratch, thread, threads)
            barrier_wait(barrier, threads)
            _attend(shape, layer, past, scratch, thread, threads)
            barrier_wait(barrier, threads)
            _add_linear(shape, weights.linears[layer, 1], scratch.attended, past, scratch, thread, threads)
            barrier_wait(barrier, threads)
            _norm_rows(scratch.hidden, shape.hidden, weights.norms[layer, 1], shape.eps, scratch.normed[thread])
            _activate(shape, weights.linears[layer, 2], past, scratch, thread, threads)
            barrier_wait(barrier, threads)
            _add_linear(shape, weights.linears[layer, 3], scratch.active, past, scratch, thread, threads)
            barrier_wait(barrier, threads)
        asked = scratch.hidden[len(scratch.hidden) - len(logits) :]
        _norm_rows(asked, shape.hidden, weights.norms[shape.layers, 0], shape.eps, scratch.normed[thread])
        first, last = partition(shape.vocab, BLOCK, thread, threads)
        memory = scratch.unpacked[thread]
        _linear(weights.head, scratch.normed[thread, : len(logits)], logits, 0, first, last, memory, 0)
        if tiles:
            end()
        _outline_blocks(shape, logits, summaries, first, last)
        barrier_wait(barrier, threads)
        if len(summaries.blocks):
            _outline_rows(shape, logits, summaries, thread, threads)
            barrier_wait(barrier, threads)

    @entry_point
    def multiply(place, rows, x, out, memory, barrier, thread, threads):
        """``x @ matrix.T``: float32 (count, columns padded to `GROUP`) to (count, rows padded to `ROWS`).

        Args:
            memory: float32 (threads, ROWS * padded columns).
        """
        _ = sources
        first, last = partition(rows, LANES, thread, threads)
        _linear(place, x, out, 0, first, last, memory[thread], 0)
        barrier_wait(_address(barrier), threads)

    @entry_point
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
            first, last = partition(rows[index], LANES, thread, threads)
            start, place = first * groups, _address(out) + 2 * starts[index]
            widened(
                form, data + start * _BYTES[form], scale + start * _SCALE_BYTES[form], (last - first) * groups,
                place + start * 2 * GROUP,
            )  # fmt: skip
        barrier_wait(_address(barrier), threads)

    return step, multiply, widen


step, multiply, widen = _entries(SOURCES)
