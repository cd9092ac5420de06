"""Loads and stores of single numbers by address, some of them atomic."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from workbench.engine.kernels import compiled
from workbench.engine.kernels.simd import BF16, F32, FLOAT32, I16, I32, I64, Vectors

ZERO = np.int64(0)
"""0 as an argument of compiled functions: the literal has a type of its own, for which numba compiles another copy."""


@compiled
def address(array: Any) -> Any:
    """Return the address of an array as an int64; numba would compile callees again for the unsigned one."""
    return np.int64(array.ctypes.data)


@intrinsic
def atomic_load(_typing: Any, address: Any) -> Any:
    """Return an int64 that another thread may change."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(args[0], I64.as_pointer()), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def atomic_store(_typing: Any, address: Any, value: Any) -> Any:
    """Store an int64 that another thread waits for; all earlier writes become visible with it."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], builder.inttoptr(args[0], I64.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def atomic_add(_typing: Any, address: Any, value: Any) -> Any:
    """Add to an int64 that other threads add to; return the value before."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(args[0], I64.as_pointer()), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def put(_typing: Any, kv_format: Any, address: Any, value: Any) -> Any:
    """Store a float32 at an address, rounded to bf16 if ``kv_format`` is `BF16`."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        b, (kv_format, address, value) = builder, args
        with b.if_else(b.icmp_signed("==", kv_format, ir.Constant(I64, BF16))) as (bf16, float32):
            with bf16:
                rounded = b.extract_element(Vectors(b).bf16(Vectors(b).splat(value)), ir.Constant(I32, 0))
                b.store(rounded, b.inttoptr(address, I16.as_pointer()))
            with float32:
                b.store(value, b.inttoptr(address, F32.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), codegen


@compiled
def number_bytes(number_format: Any) -> Any:
    """Return the size of a number in `FLOAT32` or `BF16`."""
    return 4 if number_format == FLOAT32 else 2


@intrinsic
def get(_typing: Any, address: Any) -> Any:
    """Return the float32 at an address."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], F32.as_pointer()))

    return types.float32(types.int64), codegen
