"""One compiled function for each weight format, which does all that is done with a matrix of that format.

A step calls it by its address, which is part of the description of a matrix. So the instructions of a format are
compiled once, not into every function that multiplies, and only when a model has a matrix of that format.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import types

from workbench.engine.kernels import SOURCES, compiled, entry_point
from workbench.engine.kernels.matrix_intrinsics import (
    KERNEL_PARAMETERS,
    PREFETCH_ROWS,
    dequantize_blocks,
    dequantize_to_bf16,
    dot_products,
)
from workbench.engine.kernels.simd import DEQUANTIZED, FLOAT32, FORMAT_NAMES, LAYOUTS, ROWS

MULTIPLY, TO_FLOAT32, TO_BF16 = range(3)
"""Operations of a kernel."""


@cache
def matrix_kernel(weight_format: int) -> int:
    """Return the address of the function for a weight format, which is compiled unless its code is cached."""
    result = kernel_of(weight_format).get_compile_result(types.int64(*[types.int64] * KERNEL_PARAMETERS))
    address: int = result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name)
    return address


@cache
def kernel_of(weight_format: int) -> Any:
    """Return the function for a weight format as numba's dispatcher, which keeps the code in memory."""
    layout, is_plain = LAYOUTS[weight_format], weight_format == FLOAT32
    sizes = (layout.groups, layout.weight_bytes, layout.scale_bytes)
    return _entry(FORMAT_NAMES[weight_format], weight_format, sizes, is_plain, SOURCES)


@compiled
def _vectors_together(count):
    """Return how many of ``count`` vectors are multiplied next."""
    return 8 if count >= 8 else 4 if count >= 4 else 2 if count >= 2 else 1


def _entry(name: str, weight_format: int, sizes: tuple[int, int, int], is_plain: bool, sources: str) -> Any:
    block_groups, weight_bytes, scale_bytes = sizes

    def matrix_kernel(operation, data, scale, groups, first, last, x, x_stride, count, out, out_stride, memory):
        """Multiply rows ``first`` to ``last`` with ``count`` vectors, or write them in float32 or bf16.

        All arguments are int64. ``data``, ``scale``, ``x``, ``out`` and ``memory`` are addresses.

        Args:
            data, scale: weights and scales of row 0.
            groups: groups of a row.
            x, x_stride, count: float32 vectors.
            out: float32; of a product the place for row 0, otherwise that for row ``first``.
            memory: room for ``ROWS`` rows in float32.
        """
        _ = sources
        blocks = groups // block_groups
        row_bytes, row_scale_bytes = blocks * weight_bytes, groups * scale_bytes
        if operation == MULTIPLY:
            # More than 8 vectors are multiplied in several turns, so the rows are dequantized first.
            is_dequantized = count > 8 and not is_plain
            for row in range(first, last, ROWS):
                rows, scales, done = data + row * row_bytes, scale + row * row_scale_bytes, 0
                if is_dequantized:
                    dequantize_blocks(weight_format, rows, scales, ROWS * blocks, PREFETCH_ROWS * blocks, memory)
                while done < count:
                    vectors = _vectors_together(count - done)
                    values, result = x + done * x_stride, out + row * 4 + done * out_stride
                    if is_dequantized:
                        dot_products(DEQUANTIZED, vectors, memory, scales, groups, values, x_stride, result, out_stride)
                    else:
                        dot_products(weight_format, vectors, rows, scales, groups, values, x_stride, result, out_stride)
                    done += vectors
        else:
            for row in range(first, last):
                rows, scales, target = data + row * row_bytes, scale + row * row_scale_bytes, (row - first) * out_stride
                if operation == TO_FLOAT32:
                    dequantize_blocks(weight_format, rows, scales, blocks, 0, out + target)
                else:
                    dequantize_to_bf16(weight_format, rows, scales, blocks, out + target)
        return 0

    matrix_kernel.__qualname__ += f"_{name}"
    return entry_point(matrix_kernel)
