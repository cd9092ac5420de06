"""numba's cache of compiled code, read without the parts of numba that only a compilation needs.

Before numba reads compiled code, it imports all implementations of Python's and NumPy's functions, and SciPy with them:
half a second, five times what reading the kernels takes. Code that was stored with its own parts needs none of them.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.runtime import rtsys


class _StoredCode(CompileResultCacheImpl):  # type: ignore[misc]
    def reduce(self, result: Any) -> Any:
        """Return what is stored of compiled code: its machine code, and no more than Python needs to call it.

        An environment holds the constants of one function. Reading it back imports the function's module, which for
        numba's own functions are those implementations; those without constants are left out. The intermediate code
        would serve to inline the function in others.
        """
        (name, kind, (machine_code, _)), described, *others, environments = super().reduce(result)
        stub = _defining(described.llvm_cpython_wrapper_name, described.llvm_cfunc_wrapper_name)
        return (
            (name, kind, (machine_code, stub)),
            described,
            *others,
            tuple(one for one in environments if one.consts),
        )


def _defining(*names: str) -> bytes:
    """Return the bitcode of a module that defines symbols, by which numba finds them in the machine code."""
    module = ir.Module()
    for name in names:
        ir.IRBuilder(ir.Function(module, ir.FunctionType(ir.VoidType(), ()), name).append_basic_block()).ret_void()
    bitcode: bytes = binding.parse_assembly(str(module)).as_bitcode()
    return bitcode


class CodeCache(FunctionCache):  # type: ignore[misc]
    """Cache of one function's compiled code."""

    _impl_class = _StoredCode

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return stored code for a signature, or None, after which numba prepares itself for the compilation."""
        rtsys.initialize(target)  # the functions of numba's runtime that compiled code calls
        with self._guard_against_spurious_io_errors():
            return self._load_overload(signature, target)
