"""Kernels of the decode step and of sentence models, compiled by numba for this CPU.

``step`` is the whole decode step, one function that a ``team`` of threads runs. Its parts are ``attention``,
``products``, ``step_memory`` and the ``synchronization`` of the threads, which wait by ``yielding``; ``row_reductions``
summarizes the logits. Inner loops are ``matrix_intrinsics`` and ``row_intrinsics``, written with the instructions of
``simd``; loads and stores of single numbers are in ``memory_access``. A ``matrix`` holds weights in one format, whose
``matrix_kernel`` multiplies them; ``file_blocks`` are the formats of GGUF files. ``text_encoder`` computes the layers
of sentence models, by ``panel_linear`` and ``text_attention``; ``bf16_split`` only their linear layers, in the CPU's
``tiles``. numba caches compiled code beside these files, or in the user's cache folder.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba import njit

from workbench.engine.kernels.code_cache import CodeCache
from workbench.paths import contents_hash

SOURCES = contents_hash(Path(__file__).parent.glob("*.py"))
"""Hash of the kernels' sources. As part of a function's closure it is part of numba's cache key, which otherwise
depends on the modification time of one file alone."""


compiled = njit(error_model="numpy")
"""Compile a function that compiled functions call. Division by zero gives infinity, because an exception would leave
the other threads at a barrier."""


def entry_point(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, and cache the code if a cache folder is writable."""
    # numba unpickles the cache entry of a function's name before it checks its age, which fails if a class is gone.
    function.__qualname__ += f"_{SOURCES[:16]}"
    compiler = njit(error_model="numpy", nogil=True)(function)
    with suppress(RuntimeError):  # neither this folder nor the user's cache is writable
        compiler._cache = CodeCache(function)  # noqa: SLF001 - njit(cache=True) would set numba's own
    return compiler
