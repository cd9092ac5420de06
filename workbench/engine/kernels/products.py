"""Products of a matrix of any weight format with a handful of vectors."""

from __future__ import annotations

from workbench.engine.kernels import compiled
from workbench.engine.kernels.matrix_intrinsics import PREFETCH_ROWS, dequantize_group, dot_products
from workbench.engine.kernels.memory_access import address, get
from workbench.engine.kernels.simd import DEQUANTIZED, FLOAT32, GROUP, ROWS, SCALE_BYTES, WEIGHT_BYTES


@compiled
def dequantize_row(matrix, row, out):
    """Write a row of a matrix in float32 to an address; ``matrix`` begins as a `Matrix.descriptor` does."""
    weight_format, data, scale, groups = matrix[0], matrix[1], matrix[2], matrix[3]
    for index in range(groups):
        group = row * groups + index
        dequantize_group(
            weight_format, data + group * WEIGHT_BYTES[weight_format], scale + group * SCALE_BYTES[weight_format],
            0, 0, out + index * 4 * GROUP,
        )  # fmt: skip


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
def linear(layer, x, out, shift, first, last, memory):
    """Write outputs ``first`` to ``last`` of a linear layer to ``out``, from column ``shift`` on.

    ``layer`` is a `Matrix.descriptor`.
    """
    matrix = (layer[0], layer[1], layer[2], layer[3])
    start = address(out) + 4 * shift
    product(matrix, address(x), x.strides[0], len(x), start, out.strides[0], first, last, address(memory))
    if layer[4]:
        for row in range(len(x)):
            for column in range(first, last):
                out[row, shift + column] += get(layer[4] + 4 * column)
