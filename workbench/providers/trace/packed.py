"""Bytes and arrays as strings in a trace file."""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def pack(data: bytes) -> str:
    """Compress and encode; zlib shrinks masks and texts much, numbers little."""
    return base64.b64encode(zlib.compress(data)).decode()


def unpack(text: str) -> bytes:
    """Return the bytes that `pack` was given."""
    return zlib.decompress(base64.b64decode(text))


def pack_array(array: NDArray[np.float32]) -> str:
    """Return an array without its shape, as little-endian numbers on any machine."""
    return pack(array.astype("<f4").tobytes())


def unpack_array(text: str) -> NDArray[np.float32]:
    """Return the numbers that `pack_array` was given, in one dimension."""
    import numpy as np

    return np.frombuffer(unpack(text), "<f4").astype(np.float32)
