"""Compiled code is read from its file with nothing compiled and nothing of numba's implementations imported."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from workbench.engine.kernels import entry_point


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def entry() -> Any:
    """Return a new function of the same code, as another process has it."""

    def add_all(values, addend):  # type: ignore[no-untyped-def]
        return values.sum() + addend

    return entry_point(add_all)


def test_stored_code_is_read_by_the_next_process_and_computes_the_same(own_cache: Path) -> None:
    values: NDArray[np.float32] = np.array([5, 4], np.float32)
    first, second = entry(), entry()
    assert first(values, 2.0) == second(values, 2.0) == 11
    assert sum(first.stats.cache_misses.values()) == 1
    assert not first.stats.cache_hits
    assert sum(second.stats.cache_hits.values()) == 1
    assert not second.stats.cache_misses
    assert second(values.astype(np.float64), 2.0) == 11  # another signature, which is compiled
    assert sum(second.stats.cache_misses.values()) == 1


def test_stored_code_names_no_module_of_numbas_implementations(own_cache: Path) -> None:
    entry()(np.ones(3, np.float32), 1.0)
    (stored,) = own_cache.rglob("*.nbc")
    environments = pickle.loads(stored.read_bytes())[-1]
    assert environments == ()
