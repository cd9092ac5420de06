"""Header of a GGUF file: its metadata and its tensors, without the weights.

The format is described in https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every length, count and offset is
checked before it is used, so that a damaged or hostile file raises an error and costs neither memory nor time.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from workbench.errors import ModelFormatError, shortened
from workbench.gguf_files.bounded_file import BoundedFile
from workbench.gguf_files.tensor_types import TENSOR_TYPES

MAGIC = b"GGUF"
VERSIONS = (2, 3)

_MOST_METADATA = 10_000
_MOST_TENSORS = 200_000
_LONGEST_NAME_BYTES = 65_535
"""Longest key by the specification."""
_LONGEST_KEPT_BYTES = 4096
"""Longer texts, such as chat templates and licences, are skipped unless a caller asks for them."""
_MOST_KEPT = 600_000
"""Most elements of an array that is kept. The largest vocabularies have 270,000 tokens and 520,000 merges."""
_MOST_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32
_MOST_PARTS = 1000

_STRING, _ARRAY = 8, 9
_SCALARS: Mapping[int, struct.Struct] = {
    number: struct.Struct(f"<{code}")
    for number, code in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
"""Layouts of the scalar value types by their numbers in a file."""

_DIMENSIONS = tuple(struct.Struct(f"<I{count}QI") for count in range(_MOST_DIMENSIONS + 1))
"""Layouts of a tensor's number of dimensions, its dimensions and its type, by the number."""
_LONGEST_TENSOR_BYTES = 8 + _LONGEST_NAME_BYTES + _DIMENSIONS[-1].size + 8
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


@dataclass(frozen=True, slots=True)
class GgufArray:
    """An array in the metadata."""

    length: int
    elements: tuple[str, ...] | tuple[int | float | bool, ...] | None = None
    """None if they were skipped."""


MetadataValue: TypeAlias = int | float | bool | str | GgufArray | None
"""A value of the metadata; None for a text that is too long to be kept."""


class GgufTensor(NamedTuple):
    """Description of one tensor in a GGUF file."""

    name: str
    shape: tuple[int, ...]
    """Dimensions in the file's order, which has a row's length first."""
    type: str
    """Such as ``Q4_K``."""
    nbytes: int
    offset: int
    """Place in the file's data, in bytes from `GgufHeader.data_start`."""

    @property
    def weights(self) -> int:
        """Number of weights."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Metadata and tensors of a GGUF file, which is complete as far as its size shows."""

    version: int
    metadata: Mapping[str, MetadataValue]
    tensors: tuple[GgufTensor, ...]
    data_start: int

    @property
    def weights_by_type(self) -> dict[str, int]:
        """Number of weights of each tensor type."""
        counts: dict[str, int] = {}
        for (shape, kind), count in Counter((tensor.shape, tensor.type) for tensor in self.tensors).items():
            counts[kind] = counts.get(kind, 0) + count * prod(shape)
        return counts

    @property
    def other_content(self) -> str | None:
        """What the file has instead of a model, such as ``adapter``; None for a model."""
        content = self.text("general.type")
        return None if content == "model" else content

    def text(self, key: str) -> str | None:
        """Return a value that is a text; None for any other value, or none."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> float | None:
        """Return a value that is a number, whole or not; None for any other value, or none."""
        value = self.metadata.get(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def elements(self, key: str) -> tuple[Any, ...] | None:
        """Return the elements of an array that were kept; None for any other value, or none."""
        value = self.metadata.get(key)
        return value.elements if isinstance(value, GgufArray) else None

    def whole(self, key: str) -> int | None:
        """Return a value that is a whole number; None for any other value, or none."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_gguf_header(path: Path, *, keeps: Collection[str] = (), quick: bool = False) -> GgufHeader:
    """Return the header of a GGUF file of version 2 or 3.

    Args:
        keeps: keys of arrays whose elements are kept, and of texts that are kept however long they are.
        quick: count the strings of arrays that are not kept instead of following them, if what follows them then
            accounts for each byte of the file.

    Raises:
        ModelFormatError: the file is no GGUF file, of another version or byte order, damaged, or cut off.
    """
    if quick:
        with suppress(ModelFormatError):
            return _opened_header(path, keeps, quick=True)
    return _opened_header(path, keeps)


def _opened_header(path: Path, keeps: Collection[str], *, quick: bool = False) -> GgufHeader:
    with BoundedFile(path, counts_strings=quick) as file:
        try:
            header = _read_header(file, path, keeps)
            if quick:
                _check_filled(file, path, header)
            return header
        except UnicodeDecodeError as error:
            raise _damaged(path, f"a text in its header is not UTF-8 ({error.reason})") from error


def begins_as_gguf(path: Path) -> bool:
    """Return whether a file begins as GGUF files do; raise OSError if it cannot be read."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def part_paths(path: Path) -> list[Path]:
    """Return the paths of all files of a model that is split, in order; of a whole file, its own path.

    Files of a split model are named ``NAME-00001-of-00003.gguf``; whether they exist is not checked.
    """
    match = _PART.fullmatch(path.name)
    if match is None or not 1 <= int(match["number"]) <= (count := int(match["count"])) <= _MOST_PARTS:
        return [path]
    return [path.with_name(f"{match['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]


def is_later_part(path: Path) -> bool:
    """Return whether a file is another than the first of a split model."""
    return part_paths(path)[0] != path


def _read_header(file: BoundedFile, path: Path, keeps: Collection[str]) -> GgufHeader:
    version = _read_version(file, path)
    tensor_count, metadata_count = file.u64("the number of tensors"), file.u64("the number of metadata values")
    _check_count(path, "metadata values", metadata_count, _MOST_METADATA)
    _check_count(path, "tensors", tensor_count, _MOST_TENSORS)
    metadata: dict[str, MetadataValue] = {}
    for _ in range(metadata_count):
        key = _read_name(file, path, "a metadata key")
        if key in metadata:
            raise _damaged(path, f"its metadata has {shortened(key)} twice")
        metadata[key] = _read_value(file, path, key, is_kept=key in keeps)
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 1 <= alignment <= 2**20 or alignment & (alignment - 1):
        raise _damaged(path, f"general.alignment must be a power of two; got {shortened(alignment)}")
    tensors = _read_tensors(file, path, tensor_count, alignment)
    data_start = file.position + -file.position % alignment
    _check_tensors(path, tensors, file.size - data_start)
    return GgufHeader(version, MappingProxyType(metadata), tensors, data_start)


def _read_version(file: BoundedFile, path: Path) -> int:
    magic = file.bytes(4, "the first four bytes")
    if magic != MAGIC:
        raise ModelFormatError(f"{path} is not a GGUF file: it begins with {magic!r} instead of {MAGIC!r}.")
    (version,) = file.unpack(_U32, "the version")
    if version in VERSIONS:
        return int(version)
    if int(version) & 0xFFFF == 0:
        raise ModelFormatError(f"{path} is a GGUF file in big-endian byte order; only little-endian files are read.")
    raise ModelFormatError(
        f"{path} is a GGUF file of version {version}; versions 2 and 3 are read. Convert the model again."
    )


def _check_count(path: Path, what: str, count: int, most: int) -> None:
    if count > most:
        raise _damaged(path, f"its header declares {count:,} {what}; at most {most:,} are read")


def _read_name(file: BoundedFile, path: Path, what: str) -> str:
    length = file.u64(what)
    _check_name_length(path, what, length)
    return file.bytes(length, what).decode()


def _check_name_length(path: Path, what: str, length: int) -> None:
    if length > _LONGEST_NAME_BYTES:
        raise _damaged(path, f"{what} has {length:,} bytes; at most {_LONGEST_NAME_BYTES:,} are allowed")


def _read_value(file: BoundedFile, path: Path, key: str, *, is_kept: bool) -> MetadataValue:
    what = f"the value of {shortened(key)}"
    kind = int(file.unpack(_U32, what)[0])
    if kind in _SCALARS:
        return file.unpack(_SCALARS[kind], what)[0]
    if kind == _STRING:
        length = file.u64(what)
        if is_kept or length <= _LONGEST_KEPT_BYTES:
            return file.bytes(length, what).decode(errors="replace")
        file.skip(length, what)
        return None
    if kind == _ARRAY:
        return _read_array(file, path, what, is_kept=is_kept)
    raise _damaged(path, f"{what} has the type {kind}; types 0 to 12 are defined")


def _read_array(file: BoundedFile, path: Path, what: str, *, is_kept: bool) -> GgufArray:
    kind = int(file.unpack(_U32, what)[0])
    length = file.u64(what)
    if kind not in _SCALARS and kind != _STRING:
        found = "an array of arrays" if kind == _ARRAY else f"an array of the type {kind}"
        raise _damaged(path, f"{what} is {found}; arrays of numbers, booleans and texts are read")
    if is_kept:
        _check_count(path, f"elements of {what}", length, _MOST_KEPT)
    if kind == _STRING:
        file.require(8 * length, what)
        if is_kept:
            return GgufArray(length, tuple(file.bytes(file.u64(what), what).decode() for _ in range(length)))
        file.skip_strings(length, what)
        return GgufArray(length)
    layout = _SCALARS[kind]
    if is_kept:
        return GgufArray(length, tuple(one for (one,) in layout.iter_unpack(file.bytes(length * layout.size, what))))
    file.skip(length * layout.size, what)
    return GgufArray(length)


def _read_tensors(file: BoundedFile, path: Path, count: int, alignment: int) -> tuple[GgufTensor, ...]:
    """Return the descriptions of all tensors; models have hundreds, so they are decoded in one pass over a buffer."""
    tensors: list[GgufTensor] = []
    storages: dict[bytes, tuple[tuple[int, ...], str, int]] = {}  # layers repeat the same few
    number_at, count_at = _U64.unpack_from, _U32.unpack_from
    while len(tensors) < count:
        buffer, place = file.ahead(_LONGEST_TENSOR_BYTES), 0
        with suppress(struct.error):  # the buffer ends
            for _ in range(count - len(tensors)):
                (length,) = number_at(buffer, place)
                if length > _LONGEST_NAME_BYTES:
                    _check_name_length(path, "the name of a tensor", length)
                after = place + 8 + length
                (dimensions,) = count_at(buffer, after)
                name, end = buffer[place + 8 : after].decode(), after + 8 + 8 * dimensions
                stored = buffer[after:end]
                if (storage := storages.get(stored)) is None:
                    storage = storages[stored] = _storage(path, name, dimensions, stored)
                (offset,) = number_at(buffer, end)
                if offset % alignment:
                    raise _damaged(
                        path, f"tensor {shortened(name)} starts at {offset:,}, which is no multiple of {alignment}"
                    )
                tensors.append(GgufTensor(name, *storage, offset))
                place = end + 8
        if not place:  # so does the header
            file.require(file.left + 1, "the description of a tensor")
        file.skip(place, "the description of a tensor")
    return tuple(tensors)


def _storage(path: Path, name: str, dimensions: int, stored: bytes) -> tuple[tuple[int, ...], str, int]:
    """Return shape, type and size of a tensor; raise struct.error if its description is cut off."""
    if dimensions > _MOST_DIMENSIONS:
        raise _damaged(path, f"tensor {shortened(name)} has {dimensions:,} dimensions; at most 4 are allowed")
    _, *sizes, kind = _DIMENSIONS[dimensions].unpack(stored)
    if kind not in TENSOR_TYPES:
        raise ModelFormatError(f"{path} has a tensor {shortened(name)} of the type {kind}, which is not known.")
    (tensor_type, block, block_bytes), weights = TENSOR_TYPES[kind], prod(sizes)
    if not 0 < weights < 2**63 or (sizes and sizes[0] % block):
        raise _damaged(path, f"tensor {shortened(name)} of the type {tensor_type} has the shape {sizes}")
    return tuple(sizes), tensor_type, weights // block * block_bytes


def _check_tensors(path: Path, tensors: tuple[GgufTensor, ...], data_bytes: int) -> None:
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise _damaged(path, "two of its tensors have one name")
    for tensor in tensors:
        if tensor.offset + tensor.nbytes > data_bytes:
            raise ModelFormatError(
                f"{path} is damaged or cut off: tensor {shortened(tensor.name)} would end after the end of the file. "
                f"Download it again."
            )


def _check_filled(file: BoundedFile, path: Path, header: GgufHeader) -> None:
    """Raise ModelFormatError unless only padding follows the header and the tensors.

    Where strings were counted to a wrong place, something else follows.
    """
    padding = file.bytes(max(min(header.data_start, file.size) - file.position, 0), "the padding")
    end = header.data_start + max((tensor.offset + tensor.nbytes for tensor in header.tensors), default=0)
    if any(padding) or file.size - end >= (header.whole("general.alignment") or _DEFAULT_ALIGNMENT):
        raise _damaged(path, "it has bytes that belong to no tensor")


def _damaged(path: Path, what: str) -> ModelFormatError:
    return ModelFormatError(f"{path} is damaged: {what}.")
