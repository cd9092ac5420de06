"""The start of a compilation is reported once, and reading compiled code is not one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numba
import pytest

from workbench.engine.compilation import on_compilation
from workbench.engine.kernels import entry_point


def entry() -> Any:
    """Return a new function of the same code, as another process has it."""

    def doubled(value):  # type: ignore[no-untyped-def]
        return 2 * value

    return entry_point(doubled)


def test_it_is_called_once_where_something_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    calls: list[str] = []
    with on_compilation(lambda: calls.append("compiled")):
        first = entry()
        compiling = threading.Thread(target=first, args=(1,))
        compiling.start()
        compiling.join()
        assert calls == ["compiled"]
        first(1.5)  # another signature
    assert calls == ["compiled"]
    with on_compilation(lambda: calls.append("read")):
        entry()(1)  # from the cache
    entry()("after the block")
    assert calls == ["compiled"]
