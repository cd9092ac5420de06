"""Products of rows with panels in every arithmetic, also where this CPU's tiles have to be emulated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from llvmlite import binding, ir
from numba import cfunc, njit, types
from numba.core import cgutils
from torch import Tensor

from tests.unit.engine.test_kernels import FORMS, random_matrix
from workbench.engine.kernels import panels, tiles
from workbench.engine.kernels.matrix import Matrix
from workbench.engine.kernels.memory_access import get, put
from workbench.engine.kernels.panels import DOT, FMA, PANEL, TILES, multiply_panel, pack_panel
from workbench.engine.kernels.prompt_products import load_rows
from workbench.engine.kernels.simd import FLOAT32
from workbench.engine.weights import Blocks, Int8Blocks


def product_of() -> Any:
    """A function that packs a panel and multiplies it, compiled anew so that what is patched counts."""

    @njit
    def multiply(arithmetic: Any, rows: Any, stride: Any, x: Any, count: Any, packed: Any, out: Any) -> None:
        pack_panel(arithmetic, x, count, packed)
        multiply_panel(arithmetic, rows, stride, packed, count if arithmetic == FMA else count // 2, out, 4 * PANEL)

    return multiply


def check_product(multiply: Any, arithmetic: int, columns: int) -> None:
    rows, x = random_matrix(PANEL, columns), random_matrix(columns, PANEL, seed=1)
    if arithmetic != FMA:
        rows, x = rows.bfloat16(), x.bfloat16().float()
    held = torch.cat((rows, torch.full((PANEL, 32), float("nan"), dtype=rows.dtype)), dim=1)  # a stride of its own
    packed, out = torch.full((columns + 1, PANEL), float("nan")), torch.full((PANEL, PANEL), float("nan"))
    multiply(
        arithmetic, held.data_ptr(), held.stride(0) * held.element_size(), x.data_ptr(), columns, packed.data_ptr(),
        out.data_ptr(),
    )  # fmt: skip
    torch.testing.assert_close(out.double(), rows.double() @ x.double(), rtol=1e-5, atol=1e-4)
    assert packed[columns if arithmetic == FMA else columns // 2].isnan().all()


@pytest.mark.parametrize("arithmetic", [FMA, *([DOT] if panels.HAS_DOT else []), *([TILES] if tiles.AVAILABLE else [])])
def test_a_product_is_that_of_the_numbers_it_is_given(arithmetic: int) -> None:
    multiply = product_of()
    for columns in (32, 64, 288):
        check_product(multiply, arithmetic, columns)


def test_a_product_in_registers_of_eight_numbers_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "_WIDE", False)
    check_product(product_of(), FMA, 96)


def emulated_instructions(state: Any) -> dict[str, Any]:  # noqa: C901 - one function for each instruction
    """The instructions of tiles: a tile, in ``state``, has 16 rows of 16 float32, or of 16 pairs of bf16."""
    first, tile = state.ctypes.data, 4 * 16 * 16

    @njit
    def half(pair: Any, index: Any) -> Any:
        bits = np.float32(pair).view(np.uint32)
        kept = bits << np.uint32(16) if index == 0 else bits & np.uint32(0xFFFF0000)
        return np.uint32(kept).view(np.float32)

    @njit
    def copy(source: Any, source_stride: Any, target: Any, target_stride: Any) -> None:
        for row, column in np.ndindex((16, 16)):
            number = get(source + source_stride * row + 4 * column)
            put(FLOAT32, target + target_stride * row + 4 * column, number)

    @cfunc(types.void(types.int8))
    def tilezero(register: Any) -> None:
        for index in range(256):
            put(FLOAT32, first + register * tile + 4 * index, np.float32(0.0))

    @cfunc(types.void(types.int8, types.int64, types.int64))
    def tileloadd64(register: Any, start: Any, stride: Any) -> None:
        copy(start, stride, first + register * tile, 64)

    @cfunc(types.void(types.int8, types.int64, types.int64))
    def tilestored64(register: Any, start: Any, stride: Any) -> None:
        copy(first + register * tile, 64, start, stride)

    @cfunc(types.void(types.int8, types.int8, types.int8))
    def tdpbf16ps(sums: Any, rows: Any, columns: Any) -> None:
        for row, column in np.ndindex((16, 16)):
            target = first + sums * tile + 64 * row + 4 * column
            total = get(target)
            for pair in range(16):
                left = get(first + rows * tile + 64 * row + 4 * pair)
                right = get(first + columns * tile + 64 * pair + 4 * column)
                total += half(left, 0) * half(right, 0) + half(left, 1) * half(right, 1)
            put(FLOAT32, target, total)

    return {"tilezero": tilezero, "tileloadd64": tileloadd64, "tilestored64": tilestored64, "tdpbf16ps": tdpbf16ps}


def call_emulated(builder: Any, name: str, *arguments: Any) -> None:
    numbers = [
        builder.ptrtoint(one, ir.IntType(64)) if isinstance(one.type, ir.PointerType) else one for one in arguments
    ]
    kind = ir.FunctionType(ir.VoidType(), [one.type for one in numbers])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"emulated_{name}"), numbers)


def test_a_product_in_tiles_is_that_of_their_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The instructions are emulated, so that every machine checks how they are used."""
    state = np.zeros((8, 16, 16), np.float32)
    instructions = emulated_instructions(state)  # alive as long as what calls them
    for name, function in instructions.items():
        binding.add_symbol(f"emulated_{name}", function.address)
    monkeypatch.setattr(tiles, "COMPILES", True)
    monkeypatch.setattr(tiles, "_call", call_emulated)
    multiply = product_of()
    for columns in (32, 96):
        check_product(multiply, TILES, columns)
    assert np.abs(state).sum() > 0


@njit
def converted(layer: Any, count: Any, arithmetic: Any, out: Any, stride: Any) -> None:
    load_rows(layer, 0, count, arithmetic, out, stride)


def rows_of(matrix: Matrix, arithmetic: int) -> Tensor:
    """The rows of a matrix as the left factor of a product."""
    kind = torch.float32 if arithmetic == FMA else torch.bfloat16
    out = torch.zeros(matrix.rows, -(-matrix.columns // 32) * 32, dtype=kind)
    layer = np.array(matrix.descriptor, np.int64)
    converted(layer, matrix.rows, arithmetic, out.data_ptr(), out.stride(0) * out.element_size())
    return out[:, : matrix.columns]


@pytest.mark.parametrize("form", list(FORMS))
def test_the_rows_of_a_product_are_those_of_the_matrix_rounded_at_most_to_bf16(form: str) -> None:
    matrix = FORMS[form](random_matrix(36, 96), None)
    exact = matrix.gather_rows(torch.arange(36))
    torch.testing.assert_close(rows_of(matrix, FMA), exact, rtol=1e-6, atol=1e-6)
    assert torch.equal(rows_of(matrix, DOT), rows_of(matrix, FMA).bfloat16())


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("bits", [0x7FFFFFFF, -1, 0x7FC00000, 0x7F800001])
def test_no_kind_of_nan_becomes_a_number_where_it_is_rounded_to_bf16(form: str, bits: int) -> None:
    """A NaN whose bits are all ones would overflow to zero, and damaged weights would speak."""
    scale = torch.ones(4, 2)
    scale.view(torch.int32)[1, 1] = bits
    numbers = torch.ones(4, 64)
    matrix = (
        Matrix.int8(Int8Blocks(numbers.to(torch.int8), scale), 64)
        if form == "int8"
        else Matrix.int4(Blocks(numbers.to(torch.uint8), scale, torch.zeros(4, 2)), 64)
    )
    rows = rows_of(matrix, DOT)
    assert rows[1, 32:].isnan().all()
    assert not rows[[0, 2, 3]].isnan().any()
