"""Blocks of GGUF files have the numbers that the format's own package dequantizes them to, bit for bit."""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.budget import budget
from workbench.engine.gguf_blocks import INT4_TYPES, INT8_TYPES, int4_blocks, int8_blocks
from workbench.engine.kernels.matrix import Matrix

SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q4_K": [0, 2], "Q8_0": [0], "Q5_0": [0], "IQ4_NL": [0], "IQ4_XS": [0]}
"""Places of the float16 numbers in a block."""


def random_rows(kind: str, rows: int, blocks: int, seed: int) -> Any:
    """Rows of random bits, with finite scales of all sizes, small ones that are not normalized among them."""
    random = np.random.default_rng(seed)
    _, nbytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    data = random.integers(0, 256, (rows, blocks, nbytes), dtype=np.uint8)
    for place in SCALES[kind]:
        finite = (random.standard_normal((rows, blocks)) * 10.0 ** random.integers(-7, 3, (rows, blocks))).astype("<f2")
        data[..., place : place + 2] = finite[..., None].view(np.uint8)
    return data.reshape(rows, -1)


@pytest.mark.parametrize("kind", sorted(INT4_TYPES | INT8_TYPES))
def test_every_type_has_the_numbers_of_the_package(kind: str) -> None:
    for seed in range(budget(50)):
        data = random_rows(kind, 5, 3, seed)
        expected = torch.from_numpy(gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind]))
        columns = expected.shape[1]
        if kind in INT4_TYPES:
            blocks = int4_blocks(kind, data)
            assert torch.equal(blocks.dense(), expected)
            matrix = Matrix.int4(blocks, columns)
        else:
            matrix = Matrix.int8(int8_blocks(kind, data), columns)
        assert torch.equal(matrix.gather_rows(torch.arange(5)), expected)


@given(st.sampled_from(sorted(INT4_TYPES | INT8_TYPES)), st.integers(0, 2**32), st.permutations(range(6)))
def test_rows_in_another_order_are_those_of_the_dequantized_matrix(kind: str, seed: int, order: list[int]) -> None:
    data = random_rows(kind, 6, 1, seed)
    expected = torch.from_numpy(gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind]))[order]
    columns = expected.shape[1]
    rows = torch.tensor(order)
    if kind in INT4_TYPES:
        matrix = Matrix.int4(int4_blocks(kind, data).rows(rows), columns)
    else:
        matrix = Matrix.int8(int8_blocks(kind, data).rows(rows), columns)
    assert torch.equal(matrix.gather_rows(torch.arange(6)), expected)


@pytest.mark.parametrize("kind", sorted(INT4_TYPES | INT8_TYPES))
def test_scales_that_are_not_finite_stay_so_without_a_warning(kind: str) -> None:
    data = random_rows(kind, 2, 1, 0)
    data[:, :2] = np.array([np.inf], "<f2").view(np.uint8)
    scale = int4_blocks(kind, data).scale if kind in INT4_TYPES else int8_blocks(kind, data).scale
    assert not scale.isfinite().all()
