"""Conversion of GGUF's quantized blocks to plain tensors with exactly the same numbers.

Both formats cut each row into groups of 32 columns. Q4_1 stores per group a float16 scale, a float16 minimum and 32
values from 0 to 15: ``w = scale * q + minimum``. Q8_0 stores a float16 scale and 32 values of int8: ``w = scale * q``.
GGUF interleaves scales and values; here each has a tensor of its own (``suffixes``):

===========  ======  ==========  ==================  =============================================
 type         key     dtype       shape               holds
===========  ======  ==========  ==================  =============================================
 Q4_1        q        uint8      (rows, cols / 2)    low nibble: even column, high nibble: odd column
 Q4_1        scale    float16    (rows, cols / 32)
 Q4_1        minimum  float16    (rows, cols / 32)
 Q8_0        q        int8       (rows, cols)
 Q8_0        scale    float16    (rows, cols / 32)
===========  ======  ==========  ==================  =============================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUP_SIZE = 32
FORMAT_VERSION = "1"
BLOCK_TYPES = ("Q4_1", "Q8_0")

_Q4_1_BYTES = 20  # scale 2, minimum 2, values 16
_Q8_0_BYTES = 34  # scale 2, values 32

Parts = dict[str, NDArray[Any]]


def part_layouts(block_type: str, rows: int, columns: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return (dtype, shape), by key, of the tensors that ``split_blocks`` returns for a matrix."""
    groups = (rows, columns // GROUP_SIZE)
    if block_type == "Q4_1":
        return {"q": ("uint8", (rows, columns // 2)), "scale": ("float16", groups), "minimum": ("float16", groups)}
    return {"q": ("int8", (rows, columns)), "scale": ("float16", groups)}


def split_blocks(block_type: str, data: NDArray[np.uint8]) -> Parts:
    """Split GGUF rows ``(rows, bytes)`` into the tensors of the table above."""
    rows = data.shape[0]
    if block_type == "Q8_0":
        blocks = np.ascontiguousarray(data).reshape(rows, -1, _Q8_0_BYTES)
        return {
            "q": np.ascontiguousarray(blocks[..., 2:]).view(np.int8).reshape(rows, -1),
            "scale": _float16(blocks[..., 0:2]),
        }
    blocks = np.ascontiguousarray(data).reshape(rows, -1, _Q4_1_BYTES)
    packed = blocks[..., 4:]  # (rows, groups, 16): byte j has column j in its low and column j + 16 in its high nibble
    values = np.concatenate([packed & 0x0F, packed >> 4], axis=-1).reshape(rows, -1)  # (rows, columns)
    return {
        "q": values[:, 0::2] | (values[:, 1::2] << 4),
        "scale": _float16(blocks[..., 0:2]),
        "minimum": _float16(blocks[..., 2:4]),
    }


def unpack_nibbles(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the values ``(rows, columns)``, 0 to 15, of packed bytes ``(rows, columns / 2)``."""
    values = np.empty((packed.shape[0], packed.shape[1] * 2), dtype=np.uint8)
    values[:, 0::2] = packed & 0x0F
    values[:, 1::2] = packed >> 4
    return values


def dequantize(parts: Parts) -> NDArray[np.float32]:
    """Return the float32 matrix ``(rows, columns)`` that the tensors encode."""
    q = unpack_nibbles(parts["q"]) if parts["q"].dtype == np.uint8 else parts["q"]
    groups = q.reshape(q.shape[0], -1, GROUP_SIZE).astype(np.float32)
    groups *= parts["scale"].astype(np.float32)[..., None]
    if "minimum" in parts:
        groups += parts["minimum"].astype(np.float32)[..., None]
    return groups.reshape(q.shape)


def _float16(pairs: NDArray[np.uint8]) -> NDArray[np.float16]:
    return np.ascontiguousarray(pairs).view("<f2")[..., 0].astype(np.float16, copy=False)
