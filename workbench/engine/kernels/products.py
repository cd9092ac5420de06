"""Products of a matrix of any weight format with a handful of vectors."""

from __future__ import annotations

from workbench.engine.kernels import compiled
from workbench.engine.kernels.matrix_intrinsics import PREFETCH_ROWS, dequantize_group, dequantize_to_bf16, dot_products
from workbench.engine.kernels.memory_access import address, get
from workbench.engine.kernels.simd import BF16, DEQUANTIZED, FLOAT32, GROUP, ROWS, SCALE_BYTES, WEIGHT_BYTES
from workbench.engine.kernels.tiles import (
    TILE,
    VECTOR_TILES,
    multiply_tiles,
    pack_rows,
    pack_vector,
    weighted_sum_tiles,
)

TILE_VECTORS = VECTOR_TILES * TILE
"""Number of vectors that are multiplied together in tiles."""


@compiled
def product(matrix, x, x_stride, count, out, out_stride, first, last, memory):
    """Multiply rows ``first`` to ``last`` of a matrix with ``count`` vectors; ``out`` is the address for row 0.

    More than 8 vectors are multiplied in several turns, so the rows are dequantized to ``memory``, an address, first.
    """
    weight_format, data, scale, groups = matrix
    weight_bytes, scale_bytes = WEIGHT_BYTES[weight_format], SCALE_BYTES[weight_format]  # of a group
    dequantizes = count > 8 and weight_format != FLOAT32
    for row in range(first, last, ROWS):
        rows, scales = data + row * groups * weight_bytes, scale + row * groups * scale_bytes
        if dequantizes:
            for group in range(ROWS * groups):
                dequantize_group(
                    weight_format, rows + group * weight_bytes, scales + group * scale_bytes,
                    PREFETCH_ROWS * groups * weight_bytes, PREFETCH_ROWS * groups * scale_bytes,
                    memory + group * 4 * GROUP,
                )  # fmt: skip
            rows = memory
        done = 0
        while done < count:
            rest = count - done
            vectors = 8 if rest >= 8 else 4 if rest >= 4 else 2 if rest >= 2 else 1
            dot_products(
                DEQUANTIZED if dequantizes else weight_format, vectors, rows, scales, groups,
                x + done * x_stride, x_stride, out + row * 4 + done * out_stride, out_stride,
            )  # fmt: skip
            done += vectors


@compiled
def tile_product(matrix, x, x_stride, count, out, out_stride, first, last, memory):
    """Multiply like `product`, in bf16 tiles, as many rows as fill tiles; return the first row that is left."""
    weight_format, data, scale, groups = matrix
    tile_bytes, row_bytes = groups * 2 * GROUP * TILE, groups * 2 * GROUP
    for index in range(count):
        pack_vector(x + index * x_stride, groups, memory + index // TILE * tile_bytes, index % TILE)
    dequantized = memory + (count + TILE_VECTORS - 1) // TILE_VECTORS * VECTOR_TILES * tile_bytes
    whole = first + (last - first) // TILE * TILE
    for row in range(first, whole, TILE):
        rows = dequantized
        if weight_format == BF16:
            rows = data + row * row_bytes
        else:
            start = row * groups
            dequantize_to_bf16(
                weight_format, data + start * WEIGHT_BYTES[weight_format], scale + start * SCALE_BYTES[weight_format],
                TILE * groups, dequantized,
            )  # fmt: skip
        for done in range(0, count, TILE_VECTORS):
            multiply_tiles(
                min(count - done, TILE_VECTORS), rows, row_bytes, groups, memory + done // TILE * tile_bytes,
                out + row * 4 + done * out_stride, out_stride,
            )  # fmt: skip
    return whole


@compiled
def tile_weighted_sums(values, padded, length, scores, stride, count, out, memory):
    """Compute sums of bf16 values, weighted by ``count`` rows of scores, zero beyond ``length``; return ``count``."""
    groups = (length + GROUP - 1) // GROUP
    row_bytes, weights = groups * 2 * GROUP, memory + groups * 2 * GROUP * GROUP
    for index in range(count):
        dequantize_to_bf16(FLOAT32, scores + index * stride, 0, groups, weights + index * row_bytes)
    for column in range(0, padded, GROUP):
        pack_rows(values + 2 * column, 2 * padded, groups, memory)
        for done in range(0, count, TILE):
            sums = out + 4 * (done * padded + column)
            weighted_sum_tiles(weights + done * row_bytes, row_bytes, groups, memory, sums, 4 * padded)
    return count


@compiled
def linear(layer, x, out, shift, first, last, memory, tiles):
    """Write outputs ``first`` to ``last`` of a linear layer to ``out``, from column ``shift`` on.

    ``layer`` is a `Matrix.descriptor`; ``tiles`` is the address of memory for tiles, and 0 multiplies in float32.
    """
    count, done = len(x), first
    start = address(out) + 4 * shift
    matrix = (layer[0], layer[1], layer[2], layer[3])
    if tiles and layer[0] != FLOAT32:
        done = tile_product(matrix, address(x), x.strides[0], count, start, out.strides[0], first, last, tiles)
    product(matrix, address(x), x.strides[0], count, start, out.strides[0], done, last, address(memory))
    if layer[4]:
        for row in range(count):
            for column in range(first, last):
                out[row, shift + column] += get(layer[4] + 4 * column)
