"""Products of a matrix of any weight format with a handful of vectors."""

from __future__ import annotations

from workbench.engine.kernels import compiled
from workbench.engine.kernels.matrix_intrinsics import call_kernel
from workbench.engine.kernels.matrix_kernel import MULTIPLY, TO_FLOAT32
from workbench.engine.kernels.memory_access import ZERO, address, get


@compiled
def dequantize_row(matrix, row, out):
    """Write a row of a matrix in float32 to an address; ``matrix`` is a `Matrix.descriptor`."""
    call_kernel(matrix[0], TO_FLOAT32, matrix[1], matrix[2], matrix[3], row, row + 1, ZERO, ZERO, ZERO, out, ZERO, ZERO)


@compiled
def product(matrix, start, x, x_stride, count, out, out_stride, first, last, memory):
    """Multiply rows ``first`` to ``last`` of a matrix, counted from row ``start`` on, with ``count`` vectors.

    Args:
        matrix: a `Matrix.descriptor`.
        out: address for row ``start``.
        memory: address of memory for ``ROWS`` rows in float32.
    """
    call_kernel(
        matrix[0], MULTIPLY, matrix[1], matrix[2], matrix[3], start + first, start + last, x, x_stride, count,
        out - 4 * start, out_stride, memory,
    )  # fmt: skip


@compiled
def linear(layer, x, out, shift, first, last, memory):
    """Write outputs ``first`` to ``last`` of a linear layer to ``out``, from column ``shift`` on.

    ``layer`` is a `Matrix.descriptor`.
    """
    start = address(out) + 4 * shift
    product(layer, ZERO, address(x), x.strides[0], len(x), start, out.strides[0], first, last, address(memory))
    if layer[4]:
        for row in range(len(x)):
            for column in range(first, last):
                out[row, shift + column] += get(layer[4] + 4 * column)
