"""Blocks of GGUF files in the engine's own formats of 4 and 8 bits, with exactly the file's numbers.

They are used for types that the step does not read as the file has them, and where ``int4`` or ``int8`` is asked for by
name. In all of these, a float16 scale times whole numbers of a few bits is exact in float32:

======================  =================  ===========================================================
type                    becomes            because a weight is
======================  =================  ===========================================================
Q4_0                    `Blocks`           ``d * (q - 8)``, so the minimum is ``-8 * d``
Q4_1                    `Blocks`           ``d * q + m``
Q4_K                    `Blocks`           ``(d * sc) * q - dmin * m``, with sc and m of 6 bits per 32 weights
Q8_0                    `Int8Blocks`       ``d * q``
Q5_0                    `Int8Blocks`       ``d * (q - 16)``
IQ4_NL                  `Int8Blocks`       ``d * table[q]``, with 16 whole numbers in the table
IQ4_XS                  `Int8Blocks`       ``(d * (sc - 32)) * table[q]``
======================  =================  ===========================================================

All other types are dequantized to float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from workbench.engine.weight_sizes import GROUP
from workbench.engine.weights import Blocks, Int8Blocks

_Bytes = NDArray[np.uint8]

_IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)


def int4_blocks(kind: str, data: _Bytes) -> Blocks:
    """Return rows of a GGUF tensor, uint8 (rows, bytes), as 4-bit blocks."""
    with np.errstate(invalid="ignore"):  # scales that are not finite; the decoder reports what comes of them
        q, scale, minimum = _INT4[kind](np.ascontiguousarray(data))
    rows = len(data)
    return Blocks(
        torch.from_numpy(np.ascontiguousarray(q.reshape(rows, -1))), _scales(scale, rows), _scales(minimum, rows)
    )


def int8_blocks(kind: str, data: _Bytes) -> Int8Blocks:
    """Return rows of a GGUF tensor, uint8 (rows, bytes), as 8-bit blocks."""
    with np.errstate(invalid="ignore"):
        q, scale = _INT8[kind](np.ascontiguousarray(data))
    rows = len(data)
    return Int8Blocks(torch.from_numpy(np.ascontiguousarray(q.reshape(rows, -1)).astype(np.int8)), _scales(scale, rows))


def _scales(numbers: NDArray[np.float32], rows: int) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers.reshape(rows, -1), dtype=np.float32))


def _half(pairs: _Bytes) -> NDArray[np.float32]:
    """Return float16 numbers, two bytes each in the last dimension, in float32."""
    return np.ascontiguousarray(pairs).view("<f2")[..., 0].astype(np.float32)


def _nibbles(packed: _Bytes) -> _Bytes:
    """Return the low halves of the bytes in the last dimension, then the high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _q4_0(data: _Bytes) -> tuple[_Bytes, NDArray[np.float32], NDArray[np.float32]]:
    blocks = data.reshape(-1, 18)
    scale = _half(blocks[:, :2])
    return _nibbles(blocks[:, 2:]), scale, -8 * scale


def _q4_1(data: _Bytes) -> tuple[_Bytes, NDArray[np.float32], NDArray[np.float32]]:
    blocks = data.reshape(-1, 20)
    return _nibbles(blocks[:, 4:]), _half(blocks[:, :2]), _half(blocks[:, 2:4])


def _q4_k(data: _Bytes) -> tuple[_Bytes, NDArray[np.float32], NDArray[np.float32]]:
    """Read super-blocks of 256: d, dmin, 12 bytes with eight pairs of 6-bit numbers, 128 bytes of nibbles."""
    blocks = data.reshape(-1, 144)
    packed = blocks[:, 4:16].reshape(-1, 3, 4)
    low, high, rest = packed[:, 0], packed[:, 1], packed[:, 2]
    scales = np.concatenate([low & 63, (rest & 15) | ((low >> 2) & 48)], axis=-1)  # (blocks, 8)
    minima = np.concatenate([high & 63, (rest >> 4) | ((high >> 2) & 48)], axis=-1)
    scale = _half(blocks[:, :2])[:, None] * scales
    minimum = -_half(blocks[:, 2:4])[:, None] * minima
    q = _nibbles(blocks[:, 16:].reshape(-1, 4, GROUP))  # 32 bytes have two groups: low halves, high halves
    return q, scale, minimum


def _q8_0(data: _Bytes) -> tuple[NDArray[Any], NDArray[np.float32]]:
    blocks = data.reshape(-1, 34)
    return np.ascontiguousarray(blocks[:, 2:]).view(np.int8), _half(blocks[:, :2])


def _q5_0(data: _Bytes) -> tuple[NDArray[Any], NDArray[np.float32]]:
    blocks = data.reshape(-1, 22)
    fifth = np.unpackbits(np.ascontiguousarray(blocks[:, 2:6]), axis=-1, bitorder="little")  # (blocks, 32)
    return (_nibbles(blocks[:, 6:]) | (fifth << 4)).astype(np.int8) - 16, _half(blocks[:, :2])


def _iq4_nl(data: _Bytes) -> tuple[NDArray[Any], NDArray[np.float32]]:
    blocks = data.reshape(-1, 18)
    return _IQ4[_nibbles(blocks[:, 2:])], _half(blocks[:, :2])


def _iq4_xs(data: _Bytes) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Read super-blocks of 256: d, 16 high bits and 32 low bits of eight 6-bit scales, 128 bytes of nibbles."""
    blocks = data.reshape(-1, 136)
    places = np.arange(8)
    high = (np.ascontiguousarray(blocks[:, 2:4]).view("<u2") >> (2 * places)) & 3  # (blocks, 8)
    low = (blocks[:, 4:8, None] >> np.array([0, 4])).reshape(-1, 8) & 15
    scales = (low | (high << 4)).astype(np.int8) - 32
    return _IQ4[_nibbles(blocks[:, 8:].reshape(-1, 8, 16))], _half(blocks[:, :2])[:, None] * scales


_INT4: Mapping[str, Callable[[_Bytes], tuple[_Bytes, NDArray[np.float32], NDArray[np.float32]]]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q4_K": _q4_k,
}
_INT8: Mapping[str, Callable[[_Bytes], tuple[NDArray[Any], NDArray[np.float32]]]] = {
    "Q8_0": _q8_0,
    "Q5_0": _q5_0,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
}

INT4_TYPES, INT8_TYPES = frozenset(_INT4), frozenset(_INT8)
"""Types that become `Blocks`, and those that become `Int8Blocks`."""
