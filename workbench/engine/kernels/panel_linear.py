"""Linear layers and norms of sentence models in float32, over rows of activations.

The weights are the right factor of a product, packed once into panels of 32 outputs; activations are read as they are.
A row's numbers are computed in one order, whatever rows are beside it. All pointers are addresses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from workbench.engine.kernels import compiled
from workbench.engine.kernels.activation import activate
from workbench.engine.kernels.panels import PANEL, ROW_BYTES, TURN, halves_in_registers, multiply_rows
from workbench.engine.kernels.row_intrinsics import add_row, layer_norm
from workbench.engine.kernels.simd import LANES, Vectors

NO_ACTIVATION = np.int64(-1)  # a literal has a type of its own, see `ZERO`


@intrinsic
def multiply_turn(
    _typing: Any, x: Any, stride: Any, panel: Any, panel_stride: Any, count: Any, summands: Any, out: Any,
    out_stride: Any,
) -> Any:  # fmt: skip
    """Multiply `TURN` rows of ``count`` numbers with a panel of ``count`` rows of 32 numbers; strides are in bytes.

    Args:
        summands: address of a row of 32 numbers that is added to every row of the product.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v, (x, stride, panel, panel_stride, count, summands, out, out_stride) = Vectors(builder), args
        for halves in halves_in_registers():
            multiply_rows(
                v, range(TURN), halves, v.fma, x, stride, panel, count, out, out_stride, panel_stride, summands
            )
        return context.get_dummy_value()

    return types.void(*[types.int64] * 8), codegen


@compiled
def linear_rows(x, columns, rows, weights, bias, activation, out, outputs):
    """Write the activation of ``x @ weights.T + bias`` for ``rows`` rows, whole turns.

    ``activation`` is a value of `ACTIVATION_IDS` or `NO_ACTIVATION`, and ``weights`` are from `pack_panels`.
    """
    stride, out_stride = 4 * columns, 4 * outputs
    for panel in range(outputs // PANEL):
        start, summands = weights + panel * columns * ROW_BYTES, bias + panel * ROW_BYTES
        for row in range(0, rows, TURN):
            target = out + row * out_stride + panel * ROW_BYTES
            multiply_turn(x + row * stride, stride, start, ROW_BYTES, columns, summands, target, out_stride)
            if activation != NO_ACTIVATION:
                for turn in range(TURN):
                    activate(activation, target + turn * out_stride, target + turn * out_stride, PANEL // LANES)


@compiled
def add_and_norm(x, rows, width, weight, bias, eps, hidden):
    """Replace ``rows`` rows of ``hidden`` by the layer norm of their sum with ``x``."""
    for row in range(rows):
        target = hidden + row * 4 * width
        add_row(x + row * 4 * width, np.float32(1.0), width // LANES, target)
        layer_norm(target, width // LANES, width, weight, bias, eps, target)


def pack_panels(weight: Tensor) -> Tensor:
    """Return a weight, shape (outputs, columns), as panels, shape (outputs / 32, columns, 32)."""
    return weight.detach().view(-1, PANEL, weight.shape[1]).transpose(1, 2).contiguous()
