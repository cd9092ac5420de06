from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from workbench.catalog import blocks

Matrix = NDArray[np.float32]


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    rows, groups, seed = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(0, 2**32 - 1))
    scale = draw(st.sampled_from([0.0, 1e-6, 1.0, 1e3]))
    return np.random.default_rng(seed).standard_normal((rows, groups * 32), dtype=np.float32) * np.float32(scale)


@pytest.mark.parametrize("kind", blocks.BLOCK_TYPES)
@given(matrix=matrices())
def test_the_parts_stand_for_the_same_floats_as_ggufs_own_dequantization_bit_for_bit(kind: str, matrix: Matrix) -> None:
    data = gguf.quantize(matrix, gguf.GGMLQuantizationType[kind])
    expected = gguf.dequantize(data, gguf.GGMLQuantizationType[kind])
    assert blocks.dequantize(blocks.split_blocks(kind, data)).tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", blocks.BLOCK_TYPES)
@given(matrix=matrices())
def test_the_parts_have_the_layout_that_was_announced(kind: str, matrix: Matrix) -> None:
    parts = blocks.split_blocks(kind, gguf.quantize(matrix, gguf.GGMLQuantizationType[kind]))
    assert {key: (part.dtype.name, part.shape) for key, part in parts.items()} == blocks.part_layouts(
        kind, *matrix.shape
    )


def test_the_low_nibble_is_the_even_column() -> None:
    assert blocks.unpack_nibbles(np.array([[0x21, 0x43]], dtype=np.uint8)).tolist() == [[1, 2, 3, 4]]


def test_a_q4_1_group_is_scale_times_value_plus_minimum() -> None:
    packed = (np.arange(0, 32, 2) % 16 | (np.arange(1, 32, 2) % 16) << 4).astype(np.uint8)[None]  # (1, 16)
    parts: blocks.Parts = {
        "q": packed,
        "scale": np.array([[0.5]], dtype=np.float16),
        "minimum": np.array([[-3.0]], dtype=np.float16),
    }
    assert blocks.dequantize(parts).tolist() == [[0.5 * (column % 16) - 3.0 for column in range(32)]]
