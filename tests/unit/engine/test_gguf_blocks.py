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
from tests.unit.engine.test_panels import rows_of
from workbench.engine.gguf_blocks import INT4_TYPES, INT8_TYPES, int4_blocks, int8_blocks
from workbench.engine.kernels.matrix import FILE_TYPES, Matrix
from workbench.engine.kernels.panels import DOT, FMA
from workbench.engine.kernels.team import Team
from workbench.engine.weight_sizes import KEPT_TYPES

SCALES = {
    **{kind: [0] for kind in ("Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "IQ4_XS")},
    **{kind: [0, 2] for kind in ("Q4_1", "Q5_1", "Q4_K", "Q5_K")},
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q6_K": [208],
}
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


def quantized_rows(kind: str, rows: int, blocks: int, seed: int) -> Any:
    """Normal numbers quantized by the package, if it can write the type, or else random blocks."""
    size, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    weight = np.random.default_rng(seed).standard_normal((rows, blocks * size)).astype(np.float32)
    try:
        return gguf.quants.quantize(weight, gguf.GGMLQuantizationType[kind])
    except NotImplementedError:
        return random_rows(kind, rows, blocks, seed)


def test_the_step_reads_the_types_that_are_counted_as_kept() -> None:
    assert set(FILE_TYPES) == KEPT_TYPES


@pytest.mark.parametrize("kind", sorted(KEPT_TYPES))
def test_a_type_that_is_read_as_it_is_multiplies_as_the_package_reads_it(kind: str) -> None:
    teams = [Team(threads) for threads in (1, 2, 3)]
    for seed in range(budget(50)):
        rows, blocks = 1 + 7 * seed % 21, 1 + seed % 3
        data = (random_rows if seed % 2 else quantized_rows)(kind, rows, blocks, seed)
        expected = torch.from_numpy(gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind]))
        matrix = Matrix.of_file(kind, torch.from_numpy(data), expected.shape[1])
        assert torch.equal(rows_of(matrix, FMA), expected)
        assert torch.equal(rows_of(matrix, DOT), expected.bfloat16())
        x = torch.randn(1 + 5 * seed % 19, expected.shape[1], generator=torch.Generator().manual_seed(seed))
        product = matrix.matmul_f32(x, teams[seed % 3])
        error = (product.double() - x.double() @ expected.double().T).abs()
        assert bool((error <= 1e-5 * (x.abs().double() @ expected.abs().double().T)).all())
        assert torch.equal(product[:1], matrix.matmul_f32(x[:1], teams[0]))
        assert matrix.nbytes - data.nbytes == -rows % 4 * data.shape[1]


@pytest.mark.parametrize("kind", sorted(KEPT_TYPES))
def test_damaged_scales_of_a_file_are_never_numbers(kind: str) -> None:
    data = random_rows(kind, 8, 1, 0)
    for place in SCALES[kind]:
        data[3, place : place + 2] = np.array([np.nan], "<f2").view(np.uint8)
    matrix = Matrix.of_file(kind, torch.from_numpy(data), gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0])
    product = matrix.matmul_f32(torch.ones(1, matrix.columns), Team(1))[0]
    assert product.isnan().tolist() == [row == 3 for row in range(8)]
