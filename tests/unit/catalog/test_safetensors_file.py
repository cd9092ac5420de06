from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

from workbench.catalog.safetensors_file import SafetensorsWriter


def test_what_is_written_in_pieces_is_read_whole_by_the_safetensors_package(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors: dict[str, NDArray[Any]] = {
        "a": random.standard_normal((7, 3), dtype=np.float32),
        "b.scale": random.standard_normal((5, 2)).astype(np.float16),
        "b.q": random.integers(0, 255, (5, 6), dtype=np.uint8),
        "c": random.integers(-128, 127, 11, dtype=np.int8),
    }
    layouts = {name: (tensor.dtype.name, tensor.shape) for name, tensor in tensors.items()}
    with SafetensorsWriter(tmp_path / "x.safetensors", layouts, {"format": "pt"}) as writer:
        for first in range(0, 11, 2):  # round robin, so that tensors are interleaved in time
            for name, tensor in tensors.items():
                if first < len(tensor):
                    writer.write_rows(name, first, tensor[first : first + 2])
    with safe_open(tmp_path / "x.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == set(tensors)
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(file.get_tensor(name), tensor, strict=True)


def test_a_tensor_that_was_not_written_to_its_end_is_an_error(tmp_path: Path) -> None:
    writer = SafetensorsWriter(tmp_path / "x.safetensors", {"a": ("float32", (4, 2))}, {})
    writer.write_rows("a", 0, np.zeros((3, 2), dtype=np.float32))
    with pytest.raises(ValueError, match="8 bytes were never written"):
        writer.__exit__(None, None, None)


@pytest.mark.parametrize(
    "rows",
    [np.zeros((5, 2), np.float32), np.zeros((1, 3), np.float32), np.zeros((1, 2), np.float64)],
    ids=["too many rows", "too many columns", "another type"],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, rows: NDArray[Any]) -> None:
    writer = SafetensorsWriter(tmp_path / "x.safetensors", {"a": ("float32", (4, 2))}, {})
    with pytest.raises(ValueError, match="do not fit"):
        writer.write_rows("a", 0, rows)
    with pytest.raises(ValueError, match="never written"):
        writer.__exit__(None, None, None)
