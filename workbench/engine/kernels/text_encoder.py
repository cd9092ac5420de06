"""The encoder of a BERT over the tokens of many texts, in float32."""

from __future__ import annotations

from typing import Any, NamedTuple

from workbench.engine.kernels import SOURCES, compiled, entry_point
from workbench.engine.kernels.memory_access import address
from workbench.engine.kernels.panel_linear import NO_ACTIVATION, add_and_norm, linear_rows
from workbench.engine.kernels.panels import TURN
from workbench.engine.kernels.synchronization import barrier_wait, partition
from workbench.engine.kernels.text_attention import AttentionShape, attend_rows

QKV, OUTPUT, UP, DOWN, ATTENTION_NORM, MLP_NORM = range(0, 12, 2)
"""Places of a layer's weights in its row of addresses, each followed by that of the biases."""

ADDRESSES = 12
"""Addresses of a layer."""

ROWS_AT_ONCE = 8 * TURN
"""Rows whose activations stay in the L2 cache while all weights of an MLP are read."""


class EncoderShape(NamedTuple):
    """Sizes and settings of an encoder."""

    attention: AttentionShape
    inner: int
    """Outputs of the first layer of an MLP, a multiple of 32."""
    activation: int
    """A value of `ACTIVATION_IDS`."""
    eps: Any
    """float32 of the layer norms."""


@compiled
def _project_rows(hidden, width, first, last, weights, qkv):
    """Write queries, keys and values of rows ``first`` to ``last``, whole turns."""
    for row in range(first, last, ROWS_AT_ONCE):
        rows = min(ROWS_AT_ONCE, last - row)
        x, out = hidden + row * 4 * width, qkv + row * 12 * width
        linear_rows(x, width, rows, weights[QKV], weights[QKV + 1], NO_ACTIVATION, out, 3 * width)


@compiled
def _update_rows(hidden, width, first, last, weights, shape, attended, inner, update):
    """Apply everything of a layer after its attention to rows ``first`` to ``last``, whole turns."""
    for row in range(first, last, ROWS_AT_ONCE):
        rows = min(ROWS_AT_ONCE, last - row)
        x, mixed = hidden + row * 4 * width, attended + row * 4 * width
        linear_rows(mixed, width, rows, weights[OUTPUT], weights[OUTPUT + 1], NO_ACTIVATION, update, width)
        add_and_norm(update, rows, width, weights[ATTENTION_NORM], weights[ATTENTION_NORM + 1], shape.eps, x)
        linear_rows(x, width, rows, weights[UP], weights[UP + 1], shape.activation, inner, shape.inner)
        linear_rows(inner, shape.inner, rows, weights[DOWN], weights[DOWN + 1], NO_ACTIVATION, update, width)
        add_and_norm(update, rows, width, weights[MLP_NORM], weights[MLP_NORM + 1], shape.eps, x)


def _entry(sources: str) -> Any:
    @entry_point
    def encode(hidden, lengths, weights, shape, qkv, attended, inner, update, attention, barrier, thread, threads):
        """Replace embeddings by the last hidden states; each thread computes a part of the rows.

        Args:
            hidden: float32 (rows, width): the tokens of all texts, padded to whole turns.
            lengths: int64, tokens of each text.
            weights: int64 (layers, `ADDRESSES`), addresses of panels, biases and norms.
            shape: `EncoderShape`.
            qkv: float32 (buffers, rows + `LANES`, 3 * width); several threads use two buffers in turns.
            attended: float32 (rows, width).
            inner: float32 (threads, ROWS_AT_ONCE, inner).
            update: float32 (threads, ROWS_AT_ONCE, width).
            attention: uint8 (threads, bytes of an attention's memory), zeros.
            barrier: int64 (16,), zeros.
        """
        _ = sources
        width, start = hidden.shape[1], address(hidden)
        own_inner, own_update = address(inner) + thread * inner.strides[0], address(update) + thread * update.strides[0]
        memory = address(attention) + thread * attention.strides[0]
        first, last = partition(len(hidden), TURN, thread, threads)
        for layer in range(len(weights)):
            own = weights[layer]
            inputs = address(qkv) + layer % len(qkv) * qkv.strides[0]
            _project_rows(start, width, first, last, own, inputs)
            barrier_wait(address(barrier), threads)
            attend_rows(inputs, lengths, shape.attention, memory, first, last, address(attended))
            _update_rows(start, width, first, last, own, shape, address(attended), own_inner, own_update)
        barrier_wait(address(barrier), threads)

    return encode


encode = _entry(SOURCES)
