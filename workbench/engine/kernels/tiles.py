"""Products of a matrix with many vectors in the CPU's matrix tiles, if it has them (Intel AMX with bf16).

A tile holds 16 rows of 64 bytes. One instruction multiplies 16 rows of 32 weights with 16 vectors, in bf16 with sums
in float32. The weights of 16 rows are converted to bf16 once and stay in the cache for all vectors.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from workbench.engine.kernels.simd import FEATURES, I8, LANES, VI, Vectors

TILE = 16
"""Rows of a tile, and vectors per product."""

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def _request_permission() -> bool:
    """Request the use of tiles, which Linux grants per process; return whether it is granted."""
    is_granted = False
    if sys.platform == "linux" and platform.machine() == "x86_64":
        is_granted = ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0
    return is_granted


COMPILES = FEATURES.get("amx-tile", False) and FEATURES.get("amx-bf16", False)
AVAILABLE = COMPILES and _request_permission()
"""Whether this process may use tiles; compiled code that another process cached may contain them anyway."""

TILE_CONFIG = np.zeros(64, np.uint8)
"""Operand of `configure_tiles`: eight tiles of 16 rows with 64 bytes each."""
TILE_CONFIG[0] = 1
TILE_CONFIG[16:32:2], TILE_CONFIG[48:56] = 64, TILE


def _call(builder: Any, name: str, *arguments: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


def _index(register: int) -> Any:
    return ir.Constant(I8, register)


def clear(v: Vectors, register: int) -> None:
    _call(v.builder, "tilezero", _index(register))


def load(v: Vectors, register: int, address: Any, stride: Any) -> None:
    """Load the rows of a tile, ``stride`` bytes apart."""
    _call(v.builder, "tileloadd64", _index(register), v.builder.inttoptr(address, I8.as_pointer()), stride)


def store(v: Vectors, register: int, address: Any, stride: Any) -> None:
    """Store the rows of a tile, ``stride`` bytes apart."""
    _call(v.builder, "tilestored64", _index(register), v.builder.inttoptr(address, I8.as_pointer()), stride)


def add_product(v: Vectors, sums: int, rows: int, columns: int) -> None:
    """Add the product of 16 rows of 32 bf16 numbers and 16 columns, stored in pairs, to ``sums``."""
    _call(v.builder, "tdpbf16ps", *map(_index, (sums, rows, columns)))


@intrinsic
def configure_tiles(_typing: Any, config: Any) -> Any:
    """Configure the tiles of this thread; ``config`` is the address of `TILE_CONFIG`."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if COMPILES:
            _call(builder, "ldtilecfg", builder.inttoptr(args[0], I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def release_tiles(_typing: Any) -> Any:
    """Release the tiles, so that the system need not save them with this thread."""

    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if COMPILES:
            _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), codegen


def transpose(v: Vectors, rows: list[Any]) -> list[Any]:
    """Transpose 16 vectors of 16 numbers: swap the off-diagonal quarters, then those within each quarter, and so on."""
    width = LANES
    while width > 1:
        width //= 2
        lanes = range(LANES)
        upper = [lane if lane & width == 0 else LANES + lane - width for lane in lanes]
        lower = [lane + width if lane & width == 0 else LANES + lane for lane in lanes]
        upper_lanes, lower_lanes = (ir.Constant(VI, picked) for picked in (upper, lower))
        for row in range(LANES):
            if row & width == 0:
                one, other = rows[row], rows[row + width]
                rows[row] = v.builder.shuffle_vector(one, other, upper_lanes)
                rows[row + width] = v.builder.shuffle_vector(one, other, lower_lanes)
    return rows
