"""The system's function with which a waiting thread offers its core to others, as compiled code calls it."""

from __future__ import annotations

import ctypes
import sys

from llvmlite import binding
from numba import types


def _address() -> int | None:
    if sys.platform == "win32":
        function = ctypes.WinDLL("kernel32").SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value


# The same name on every system. It must be known before code that numba has cached is loaded.
binding.add_symbol("workbench_yield", _address())

yield_core = types.ExternalFunction("workbench_yield", types.int32())
