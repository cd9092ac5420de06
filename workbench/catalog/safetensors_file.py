"""Writer of safetensors files that takes a few rows at a time, so that a whole model is never in memory.

The ``safetensors`` package writes only tensors that are all in memory at once. The format is simple enough to write
directly: eight bytes with the length of a JSON header, the header, then the tensors back to back
(https://github.com/huggingface/safetensors#format). Files are read with the package.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_TYPE_NAMES = {"float32": "F32", "float16": "F16", "uint8": "U8", "int8": "I8"}


class SafetensorsWriter:
    """Context manager for one new file; every row of every declared tensor must be written before it closes.

    Args:
        path: path of the file, which must not exist yet.
        tensors: (dtype, shape) by name, in the order of the file.
        metadata: strings for the header's ``__metadata__``.
    """

    def __init__(
        self, path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]
    ) -> None:
        self._tensors = dict(tensors)
        self._offsets: dict[str, int] = {}
        header: dict[str, Any] = {"__metadata__": dict(metadata)}
        end = 0
        for name, (dtype, shape) in self._tensors.items():
            start, end = end, end + np.dtype(dtype).itemsize * math.prod(shape)
            self._offsets[name] = start
            header[name] = {"dtype": _TYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        encoded = json.dumps(header).encode()
        encoded += b" " * (-len(encoded) % 8)  # keeps the first tensor aligned for readers that map the file
        self._data_start = 8 + len(encoded)
        self._missing_bytes = end
        self._file = path.open("xb")
        self._file.write(len(encoded).to_bytes(8, "little") + encoded)

    def write_rows(self, name: str, first_row: int, rows: NDArray[Any]) -> None:
        """Write ``rows``, a slice of the tensor along its first dimension that starts at ``first_row``."""
        dtype, shape = self._tensors[name]
        if rows.dtype != np.dtype(dtype) or rows.shape[1:] != shape[1:] or first_row + rows.shape[0] > shape[0]:
            raise ValueError(f"{name}: rows {rows.dtype}{rows.shape} at {first_row} do not fit {dtype}{shape}")
        row_bytes = np.dtype(dtype).itemsize * math.prod(shape[1:])
        self._file.seek(self._data_start + self._offsets[name] + first_row * row_bytes)
        self._file.write(np.ascontiguousarray(rows).data)
        self._missing_bytes -= rows.nbytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None and self._missing_bytes:
                raise ValueError(f"{self._file.name}: {self._missing_bytes} bytes were never written")
