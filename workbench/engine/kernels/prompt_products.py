"""Linear layers of a prompt: rows of a matrix, converted once, times many panels."""

from __future__ import annotations

from workbench.engine.kernels import compiled
from workbench.engine.kernels.activation import activate
from workbench.engine.kernels.matrix_intrinsics import call_kernel
from workbench.engine.kernels.matrix_kernel import TO_BF16, TO_FLOAT32
from workbench.engine.kernels.memory_access import ZERO, address, get
from workbench.engine.kernels.panels import FMA, PANEL, ROW_BYTES, multiply_panel, pack_panel
from workbench.engine.kernels.row_intrinsics import multiply_row
from workbench.engine.kernels.simd import BF16, FLOAT32, LANES

HALF = PANEL // 2
"""Rows of the gate, and of ``up``, that are multiplied together."""


@compiled
def packed_bytes(arithmetic, rows):
    """Return the size of packed rows of a panel."""
    return ROW_BYTES * rows if arithmetic == FMA else ROW_BYTES // 2 * rows


@compiled
def factor_format(arithmetic):
    """Return the format of the numbers of a product's factors."""
    return FLOAT32 if arithmetic == FMA else BF16


@compiled
def load_rows(layer, first, count, arithmetic, out, stride):
    """Convert rows of a matrix to the left factor of a product; ``layer`` is a `Matrix.descriptor`."""
    call_kernel(
        layer[0], TO_FLOAT32 if arithmetic == FMA else TO_BF16, layer[1], layer[2], layer[3], first, first + count,
        ZERO, ZERO, ZERO, out, stride, ZERO,
    )  # fmt: skip


@compiled
def multiply(arithmetic, rows, stride, panel, columns, out):
    """Multiply 32 rows of ``columns`` numbers with a packed panel; all are addresses but ``arithmetic``."""
    count = columns if arithmetic == FMA else columns // 2
    multiply_panel(arithmetic, rows, stride, panel, count, out, ROW_BYTES)


@compiled
def add_bias(layer, first, count, product):
    """Add the biases of ``count`` rows of a layer, if it has any, to the rows of a panel."""
    if layer[4]:
        for row in range(count):
            bias = get(layer[4] + 4 * (first + row))
            for column in range(PANEL):
                product[row, column] += bias


@compiled
def project_rows(layer, x, columns, first, last, panels, arithmetic, scratch, thread):
    """Write rows ``first`` to ``last`` of the output of attention or of the MLP for a range of panels."""
    product, rows = scratch.product[thread], address(scratch.rows) + thread * scratch.rows.strides[0]
    stride = scratch.rows.strides[1]
    load_rows(layer, first, last - first, arithmetic, rows, stride)
    for panel in range(panels[0], panels[1]):
        multiply(arithmetic, rows, stride, address(x) + panel * x.strides[0], columns, address(product))
        add_bias(layer, first, last - first, product)
        scratch.update[panel, first:last] = product[: last - first]


@compiled
def activate_rows(shape, gates, ups, first, last, panels, arithmetic, scratch, thread):
    """Pack rows ``first`` to ``last`` of the activation of the gate times ``up``, or of a gate alone."""
    product, rows = scratch.product[thread], address(scratch.rows) + thread * scratch.rows.strides[0]
    stride, count = scratch.rows.strides[1], last - first
    load_rows(gates, first, count, arithmetic, rows, stride)
    if shape.is_gated:
        load_rows(ups, first, count, arithmetic, rows + HALF * stride, stride)
    gate, up, vectors = address(product), address(product) + HALF * ROW_BYTES, count * PANEL // LANES
    for panel in range(panels[0], panels[1]):
        x = address(scratch.normed) + panel * scratch.normed.strides[0]
        multiply(arithmetic, rows, stride, x, scratch.hidden.shape[1], gate)
        add_bias(gates, first, count, product)
        activate(shape.activation, gate, gate, vectors)
        if shape.is_gated:
            add_bias(ups, first, count, product[HALF:])
            multiply_row(gate, up, vectors)
        if count % 2:
            product[count] = 0.0
        out = address(scratch.active) + panel * scratch.active.strides[0]
        pack_panel(arithmetic, gate, (count + 1) // 2 * 2, out + packed_bytes(arithmetic, first))
