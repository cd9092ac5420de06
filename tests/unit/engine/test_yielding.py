"""Compiled code finds the system's function for waiting threads."""

from __future__ import annotations

from numba import njit

from workbench.engine.kernels.yielding import yield_core


def test_compiled_code_offers_its_core_to_other_threads() -> None:
    @njit(nogil=True)  # type: ignore[untyped-decorator]
    def offer() -> int:
        return int(yield_core())

    assert offer() in {0, 1}
