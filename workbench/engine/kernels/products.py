"""Products of a matrix, in any form in which weights are held, with a handful of vectors."""

from __future__ import annotations

from workbench.engine.kernels import compiled
from workbench.engine.kernels.matrix_intrinsics import AHEAD, dots, unpacked, widened
from workbench.engine.kernels.memory_access import get
from workbench.engine.kernels.simd import BF16, BYTES_PER_GROUP, FLOAT32, GROUP, ROWS, SCALE_BYTES_PER_GROUP, UNPACKED
from workbench.engine.kernels.step_memory import address
from workbench.engine.kernels.tiles import BLOCKS, TILE, arrange, arrange_rows, mix_tiles, multiply_tiles

BYTES = tuple(BYTES_PER_GROUP.values())  # by form
SCALE_BYTES = tuple(SCALE_BYTES_PER_GROUP.values())

AT_A_TIME = BLOCKS * TILE
"""Vectors that are multiplied at once in tiles."""


@compiled
def product(matrix, x, x_step, count, out, out_step, first, last, memory):
    """Rows ``first`` to ``last`` of a matrix times ``count`` vectors; ``out`` is where row 0 would go.

    For more vectors than are multiplied at once a group of rows is unpacked to ``memory`` first, an address.
    """
    form, data, scale, groups = matrix
    row_bytes, scale_bytes = groups * BYTES[form], groups * SCALE_BYTES[form]
    unpack = count > 8 and form != FLOAT32
    for row in range(first, last, ROWS):
        rows, scales = data + row * row_bytes, scale + row * scale_bytes
        if unpack:
            for group in range(ROWS * groups):
                unpacked(
                    form, rows + group * BYTES[form], scales + group * SCALE_BYTES[form],
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


@compiled
def tile_product(matrix, x, x_step, count, out, out_step, first, last, memory):
    """As `product` in bf16, for as many rows as fill tiles; the first row that is left."""
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
            widened(form, data + start * BYTES[form], scale + start * SCALE_BYTES[form], TILE * groups, wide)
        for done in range(0, count, AT_A_TIME):
            multiply_tiles(
                min(count - done, AT_A_TIME), rows, wide_bytes, groups, memory + done // TILE * tile_bytes,
                out + row * 4 + done * out_step, out_step,
            )  # fmt: skip
    return whole


@compiled
def tile_sums(values, padded, length, scores, step, count, out, memory):
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


@compiled
def linear(place, x, out, shift, first, last, memory, tiles):
    """Rows ``first`` to ``last`` of a linear layer into the columns of ``out`` that start at ``shift``.

    ``tiles`` is the address of memory for tiles; 0 multiplies in float32.
    """
    count, done = len(x), first
    start = address(out) + 4 * shift
    matrix = (place[0], place[1], place[2], place[3])
    if tiles and place[0] != FLOAT32:
        done = tile_product(matrix, address(x), x.strides[0], count, start, out.strides[0], first, last, tiles)
    product(matrix, address(x), x.strides[0], count, start, out.strides[0], done, last, address(memory))
    if place[4]:
        for row in range(count):
            for column in range(first, last):
                out[row, shift + column] += get(place[4] + 4 * column)
