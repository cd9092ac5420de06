"""The arithmetic of a decode step, and of sentence models, compiled by numba for the processor at hand.

``step`` is the whole step as one function that a ``team`` of threads runs, with ``attention``, ``products``, the
``step_memory`` and the ``synchronization`` of the threads as its parts; ``row_reductions`` are what is asked of its
logits. Their inner loops are the ``matrix_intrinsics`` and ``row_intrinsics``, written with the vector instructions of
``simd``; a ``matrix`` holds weights in the form in which they are read. ``bf16_split`` is the linear layers of sentence
models in the CPU's ``tiles``. Compiled code is kept beside these files, or in the user's cache, for the next process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

SOURCES = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()
"""What is compiled. As a part of a function's closure it is a part of the key under which numba keeps the code, which
by itself looks at the age of one file alone."""


compiled = njit(error_model="numpy")
"""Compile a function that compiled functions call. Dividing by zero gives infinity: an exception would leave the other
threads waiting."""


def entry_point(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, and keep the code where there is a folder to keep it in."""
    # numba reads what is kept under a function's name before it looks at its age, and fails where a class has gone.
    function.__qualname__ += f"_{SOURCES[:16]}"
    try:
        return njit(error_model="numpy", nogil=True, cache=True)(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written to
        return njit(error_model="numpy", nogil=True)(function)
