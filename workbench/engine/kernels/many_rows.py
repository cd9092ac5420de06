"""A matrix times many rows of activations, in panels of 32 of them, such as the head times the streams of a lens."""

from __future__ import annotations

from typing import Any

from workbench.engine.kernels import SOURCES, compiled, entry_point
from workbench.engine.kernels.memory_access import address
from workbench.engine.kernels.panels import FMA, PANEL, ROW_BYTES, transpose_block
from workbench.engine.kernels.prompt_products import add_bias, load_rows, multiply
from workbench.engine.kernels.shares import shares
from workbench.engine.kernels.simd import FLOAT32, LANES


@compiled
def _store(product, out, stride):
    """Write the columns of a square product as rows, ``stride`` bytes apart, from the address ``out`` on."""
    for row in range(0, PANEL, LANES):
        for column in range(0, PANEL, LANES):
            transpose_block(
                FLOAT32, address(product) + row * ROW_BYTES + 4 * column, ROW_BYTES,
                FLOAT32, out + column * stride + 4 * row, stride,
            )  # fmt: skip


def _entry(sources: str) -> Any:
    @entry_point
    def multiply_panels(layer, rows, panels, out, memory, products, counters, thread, _threads):
        """Write ``x @ matrix.T + bias`` in float32.

        Args:
            layer: int64 (5,), a `Matrix.descriptor`.
            rows: number of rows of the matrix.
            panels: float32 (panels, padded columns, 32): 32 rows of x in the columns of each.
            out: float32 (32 * panels, rows padded to 32 or more).
            memory: float32 (threads, 32, padded columns or more).
            products: float32 (threads, 32, 32).
            counters: int64 (COUNTERS,), zeros.
        """
        _ = sources
        converted, product, stride = memory[thread], products[thread], memory.strides[1]
        for share in shares(address(counters), (rows + PANEL - 1) // PANEL):
            first = share * PANEL
            count = min(PANEL, rows - first)
            load_rows(layer, first, count, FMA, address(converted), stride)
            for panel in range(len(panels)):
                x = address(panels) + panel * panels.strides[0]
                multiply(FMA, address(converted), stride, x, panels.shape[1], address(product))
                add_bias(layer, first, count, product)
                _store(product, address(out) + panel * PANEL * out.strides[0] + 4 * first, out.strides[0])

    return multiply_panels


multiply_panels = _entry(SOURCES)
