"""Notice of the compilation of kernels, by numba's own events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba.core.event import Listener, install_listener


class _Start(Listener):  # type: ignore[misc]
    """Calls a function at the first compilation."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def on_start(self, _event: Any) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()

    def on_end(self, _event: Any) -> None:
        """Do nothing."""


@contextmanager
def on_compilation(call: Callable[[], None]) -> Iterator[None]:
    """Call a function once if any thread begins to compile a kernel in the block, on that thread.

    Nothing is called where all kernels are compiled or cached already. The compilation waits for the function.
    """
    with install_listener("numba:compile", _Start(call)):
        yield
