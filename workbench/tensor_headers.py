"""Headers of safetensors files, read with care: nobody vouches for a file.

The format is eight bytes with the length of a JSON object, the object, and the tensors back to back
(https://github.com/huggingface/safetensors#format). Every file that `read_safetensors_header` accepts can be opened by
the package ``safetensors``, which reads the tensors themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from workbench.errors import ModelFormatError, shortened
from workbench.gguf_files.bounded_file import LONGEST_HEADER_BYTES, BoundedFile

_MOST_DIMENSIONS = 16
_BITS: Mapping[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    **dict.fromkeys(("U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("C64", "F64", "I64", "U64"), 64),
}
"""Bits of a number of each type."""


class SafetensorsTensor(NamedTuple):
    """Description of one tensor."""

    dtype: str
    """Such as ``BF16``."""
    shape: tuple[int, ...]


def read_safetensors_header(path: Path, longest_bytes: int = LONGEST_HEADER_BYTES) -> Mapping[str, SafetensorsTensor]:
    """Return the tensors of a file by their names; a file that stays the same is read once.

    Args:
        longest_bytes: longer headers are refused. That of a file with 50,000 tensors takes 6 MB.

    Raises:
        ModelFormatError: the file is missing, damaged, cut off, or has a longer header.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ModelFormatError(f"{path} cannot be read: {error.strerror}.") from error
    return _read(path, longest_bytes, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, longest_bytes: int, _size: int, _mtime_ns: int) -> Mapping[str, SafetensorsTensor]:
    with BoundedFile(path) as file:
        length = file.u64("the length of its header")
        if length > longest_bytes:
            raise _damaged(path, f"it declares {length:,} bytes of JSON; at most {longest_bytes:,} are read")
        header = _parsed(path, file.bytes(length, "its header"))
        data_bytes = file.size - file.position
    tensors, places = {}, []
    for name, entry in header.items():
        tensors[name], place = _described(path, name, entry)
        places.append(place)
    end = 0
    for start, stop in sorted(places):
        if start != end:
            raise _damaged(path, "its tensors overlap, or leave gaps")
        end = stop
    if end != data_bytes:
        offset = file.size - data_bytes
        raise _damaged(path, f"it has {file.size} bytes, but its header says {offset + end}")
    return MappingProxyType(tensors)


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    """Return the header without the metadata, which are texts."""
    try:
        header = json.loads(content.decode()) if content.startswith(b"{") else None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is no valid JSON ({type(error).__name__})") from error
    metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(header, dict) or not isinstance(metadata, dict):
        raise _damaged(path, "its header does not describe tensors")
    if not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "its metadata are no texts")
    return header


def _described(path: Path, name: str, entry: object) -> tuple[SafetensorsTensor, tuple[int, int]]:
    """Return a tensor, and where its data begin and end after the header."""
    match entry:
        case {"dtype": str() as dtype, "shape": [*shape], "data_offsets": [start, end]} if (
            dtype in _BITS
            and len(shape) <= _MOST_DIMENSIONS
            and all(type(size) is int and 0 <= size < 2**48 for size in shape)
            and type(start) is type(end) is int
            and 0 <= 8 * (end - start) == prod(shape) * _BITS[dtype]
        ):
            return SafetensorsTensor(dtype, tuple(shape)), (start, end)
    raise _damaged(path, f"tensor {shortened(name)} has no valid type, shape and place")


def _damaged(path: Path, what: str) -> ModelFormatError:
    return ModelFormatError(f"{path} is damaged: {what}. Download it again.")
